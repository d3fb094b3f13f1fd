package conformance

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

func limitChecks() []Check {
	memory := []faas.Feature{faas.FeatureLimitMemory}
	disk := []faas.Feature{faas.FeatureLimitDisk, faas.FeatureFiles}
	return []Check{
		{Name: "limits/memory", Features: memory, UserFacing: true, Run: checkMemory},
		{Name: "limits/memory-of-files", Features: memory, Run: checkMemoryOfFiles},
		{Name: "limits/pids", Features: []faas.Feature{faas.FeatureLimitPIDs}, UserFacing: true, Run: checkPIDs},
		{Name: "limits/cpu", Features: []faas.Feature{faas.FeatureLimitCPU}, UserFacing: true, Run: checkCPU},
		{Name: "limits/disk", Features: disk, UserFacing: true, Run: checkDisk},
		{Name: "limits/impossible", Run: checkImpossible},
	}
}

// stats waits until the sandbox's consumption satisfies the condition.
func (b *box) awaitStats(ctx context.Context, what string, ok func(driver.Stats) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return eventually(ctx, func() error {
		s, err := b.Stats(ctx)
		if err == nil && !ok(s) {
			err = fmt.Errorf("%s is not told: %+v", what, s)
		}
		return err
	})
}

// checkMemory exceeds the limit. A sandbox whose kernel is a process of the
// host ends as a whole then (see endedForMemory); every other one lives on.
func checkMemory(ctx context.Context, env *Env) error {
	b, err := env.create(ctx, func(s *faas.Spec) { s.Resources.MemoryMB = 64 })
	if err != nil {
		return err
	}
	// dd touches its whole buffer, here four times the limit.
	out, err := b.shell(ctx, "exec dd if=/dev/zero of=/dev/null bs=256M count=1")
	if err != nil && env.Driver.Name() == faas.RuntimeGVisor {
		return env.endedForMemory(ctx, b)
	}
	if err != nil {
		return err
	}
	if out.Code == 0 {
		return fmt.Errorf("256 MiB were used in a sandbox limited to 64 MiB")
	}
	killed := func(s driver.Stats) bool { return s.OOMKills > 0 }
	if err := b.awaitStats(ctx, "a process killed for want of memory", killed); err != nil {
		return fmt.Errorf("%w (the command ended as %+v)", err, out.Exit)
	}
	return b.alive(ctx)
}

// endedForMemory wants a sandbox that exceeded its memory to have ended in an
// orderly way: Wait returns, and Stats tells why until Destroy.
func (e *Env) endedForMemory(ctx context.Context, b *box) error {
	ended, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := b.Wait(ended); err != nil {
		return fmt.Errorf("Wait for a sandbox that exceeded its memory: %w", err)
	}
	killed := func(s driver.Stats) bool { return s.OOMKills > 0 }
	if err := b.awaitStats(ctx, "the end for want of memory", killed); err != nil {
		return err
	}
	return b.Destroy(ctx)
}

// noTmpfs is how the script below says that a directory is none.
const noTmpfs = 99

// checkMemoryOfFiles fills memory by way of files that live in it.
func checkMemoryOfFiles(ctx context.Context, env *Env) error {
	b, err := env.create(ctx, func(s *faas.Spec) { s.Resources.MemoryMB, s.Resources.DiskMB = 64, 32 })
	if err != nil {
		return err
	}
	for _, dir := range []string{"/dev/shm", "/dev", "/tmp", "/run", "/run/faas"} {
		out, err := b.shell(ctx, fmt.Sprintf("grep -q ' %s tmpfs ' /proc/mounts || exit %d; exec dd if=/dev/zero of=%s/fill bs=1M count=200", dir, noTmpfs, dir))
		if err != nil {
			return err
		}
		if out.Code == noTmpfs {
			continue
		}
		if out.Code == 0 {
			s, _ := b.Stats(ctx)
			return fmt.Errorf("200 MiB fit into %s of a sandbox with 64 MiB of memory: %+v", dir, s)
		}
		if err := b.client.Remove(ctx, dir+"/fill", false); err != nil && faas.KindOf(err) != faas.KindNotFound {
			return fmt.Errorf("after files filled the memory: %w", err)
		}
	}
	return b.alive(ctx)
}

// crowd tries to start n processes that stay.
func crowd(n int) string {
	return fmt.Sprintf(`i=0; while [ $i -lt %d ]; do sleep 300 & i=$((i+1)); done; echo all-started; wait`, n)
}

func checkPIDs(ctx context.Context, env *Env) error {
	b, err := env.create(ctx, func(s *faas.Spec) { s.Resources.PIDs = 48 })
	if err != nil {
		return err
	}
	run, err := b.start(ctx, guest.Command{Args: []string{"sh", "-c", crowd(300)}})
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the command is killed
	refused := func(s driver.Stats) bool { return s.PIDsRefused > 0 && s.PIDs <= 64 }
	if err := b.awaitStats(ctx, "a refused fork", refused); err != nil {
		return fmt.Errorf("%w (stdout %q, stderr %.200q)", err, run.stdout.String(), run.stderr.String())
	}
	if strings.Contains(run.stdout.String(), "all-started") && run.stderr.String() == "" {
		return fmt.Errorf("300 processes were started in a sandbox limited to 48")
	}
	// The agent must be able to end what filled the sandbox.
	if err := run.Close(); err != nil {
		return fmt.Errorf("end the crowd: %w", err)
	}
	return eventually(ctx, func() error { return b.alive(ctx) })
}

func checkCPU(ctx context.Context, env *Env) error {
	b, err := env.create(ctx, func(s *faas.Spec) { s.Resources.CPUCores = 0.4 })
	if err != nil {
		return err
	}
	const spin = `while :; do :; done`
	run, err := b.start(ctx, guest.Command{Args: []string{"sh", "-c", "echo ready; (" + spin + ") & (" + spin + ") & wait"}})
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the command is killed
	if err := run.await(ctx, "ready\n"); err != nil {
		return err
	}
	start := time.Now()
	before, err := b.Stats(ctx)
	if err != nil {
		return err
	}
	// Three seconds of wall clock hold many of the kernel's periods.
	enough := time.NewTimer(3 * time.Second)
	defer enough.Stop()
	select {
	case <-enough.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := b.Stats(ctx)
	if err != nil {
		return err
	}
	cores := float64(after.CPUMS-before.CPUMS) / float64(time.Since(start).Milliseconds())
	if cores > 0.4*1.35 {
		return fmt.Errorf("two busy loops got %.2f cores of a limit of 0.4", cores)
	}
	if cores < 0.02 {
		return fmt.Errorf("two busy loops got %.3f cores: their time is not told", cores)
	}
	return nil
}

func checkDisk(ctx context.Context, env *Env) error {
	b, err := env.create(ctx, func(s *faas.Spec) { s.Resources.DiskMB, s.Resources.MemoryMB = 32, 512 })
	if err != nil {
		return err
	}
	out, err := b.shell(ctx, "mkdir -p /var/fill && exec dd if=/dev/zero of=/var/fill/file bs=1M count=96")
	if err != nil {
		return err
	}
	if out.Code == 0 {
		return fmt.Errorf("96 MiB were written to a sandbox limited to 32 MiB of disk")
	}
	if text := strings.ToLower(out.stderr); !strings.Contains(text, "no space") && !strings.Contains(text, "quota") {
		return fmt.Errorf("a full disk ended the command as %+v with stderr %q, want an error of no space", out.Exit, out.stderr)
	}
	_, err = b.client.WriteFile(ctx, "/var/fill/upload", zerosOf(64<<20), guest.WriteOptions{})
	if err := wantKind("an upload to a full disk", err, faas.KindResourceExhausted); err != nil {
		return err
	}
	return firstError(
		func() error { return b.alive(ctx) },
		func() error { return b.client.Remove(ctx, "/var/fill", true) },
		func() error {
			return b.expect(ctx, "dd if=/dev/zero of=/var/again bs=1M count=8 2>/dev/null && echo fits", "fits")
		},
	)
}

func checkImpossible(ctx context.Context, env *Env) error {
	for field, change := range map[string]func(*faas.Spec){
		"negative memory": func(s *faas.Spec) { s.Resources.MemoryMB = -1 },
		"negative cpu":    func(s *faas.Spec) { s.Resources.CPUCores = -1 },
		"negative pids":   func(s *faas.Spec) { s.Resources.PIDs = -1 },
		"negative disk":   func(s *faas.Spec) { s.Resources.DiskMB = -1 },
		"an unusable id":  func(s *faas.Spec) { s.ID = "../escape" },
		"an unknown mode": func(s *faas.Spec) { s.Network.Mode = "telepathy" },
		"a bad host name": func(s *faas.Spec) { s.Hostname = "not a name\n" },
		"a bad CIDR":      func(s *faas.Spec) { s.Network = faas.NetworkPolicy{Mode: faas.NetworkEgress, Allow: []string{"x"}} },
	} {
		spec := env.spec(change)
		made, err := env.Driver.Create(ctx, spec)
		if err == nil {
			env.adopt(made)
		}
		if err := wantKind(field, err, faas.KindInvalidArgument, faas.KindCapabilityUnavailable); err != nil {
			return err
		}
	}
	return nil
}
