package conformance

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

// attackBuffers is what the largest attack may rightly have buffered: eight
// commands with two outputs, a window of 1 MiB for each, and as much that the
// check itself keeps of those that it reads.
const attackBuffers = 8 * 2 * 2 << 20

func hostileChecks() []Check {
	limits := []faas.Feature{faas.FeatureLimitPIDs, faas.FeatureLimitMemory}
	return []Check{
		{Name: "hostile/exhausts-pids", Features: limits, Isolates: true, Timeout: 2 * time.Minute, Run: hostile(exhaustPIDs)},
		{Name: "hostile/exhausts-memory", Features: limits, Isolates: true, Timeout: 2 * time.Minute, Run: hostile(exhaustMemory)},
		{Name: "hostile/floods-output", Features: limits, Isolates: true, Run: hostile(floodOutput)},
		{Name: "hostile/floods-the-agent", Features: limits, Program: true, Isolates: true, Timeout: 2 * time.Minute, Run: hostile(floodAgent)},
		{Name: "hostile/kills-everything", Features: limits, Isolates: true, Run: hostile(killEverything)},
		{Name: "hostile/breaks-its-files", Features: limits, Isolates: true, Run: hostile(breakFiles)},
	}
}

// hostile runs an attack as root in one sandbox while another, made before,
// does its work and a third is made: none of them may suffer, and the host's
// own memory may not grow. In the end the attacked sandbox can be destroyed.
func hostile(attack func(ctx context.Context, env *Env, evil *box) (stop func(), err error)) func(context.Context, *Env) error {
	return func(ctx context.Context, env *Env) error {
		good, err := env.create(ctx)
		if err != nil {
			return err
		}
		evil, err := env.create(ctx, func(s *faas.Spec) { s.Resources.MemoryMB, s.Resources.PIDs = 96, 64 })
		if err != nil {
			return err
		}
		before := heap()
		stop, err := attack(ctx, env, evil)
		if err != nil {
			return fmt.Errorf("attack: %w", err)
		}
		defer stop()
		for range 20 {
			if err := good.alive(ctx); err != nil {
				return fmt.Errorf("another sandbox suffers: %w", err)
			}
		}
		third, err := env.create(ctx)
		if err != nil {
			return fmt.Errorf("a new sandbox during the attack: %w", err)
		}
		if err := third.alive(ctx); err != nil {
			return err
		}
		if grown := heap() - before; grown > growthLimit+attackBuffers {
			return fmt.Errorf("the host's heap grew by %d MiB during the attack", grown>>20)
		}
		start := time.Now()
		if err := evil.Destroy(ctx); err != nil {
			return fmt.Errorf("destroy the hostile sandbox: %w", err)
		}
		if took := time.Since(start); took > 20*time.Second {
			return fmt.Errorf("destroying the hostile sandbox took %v", took)
		}
		return env.NothingLeft(ctx, evil.ID())
	}
}

// rush starts a script whose output is collected; its end does not matter.
func (b *box) rush(ctx context.Context, script string) (stop func(), err error) {
	run, err := b.start(ctx, guest.Command{Args: []string{"sh", "-c", "echo begun; " + script}})
	if err != nil {
		return nil, err
	}
	if err := run.await(ctx, "begun\n"); err != nil {
		run.Close() //nolint:errcheck // the first error counts
		return nil, err
	}
	return func() { run.Close() }, nil //nolint:errcheck // it may be gone with its sandbox
}

// exhaustPIDs starts as many processes as it can, again and again, each of
// them ignoring signals. The number is bounded should the limit not hold.
func exhaustPIDs(ctx context.Context, _ *Env, evil *box) (func(), error) {
	return evil.rush(ctx, `trap '' HUP INT TERM CHLD; while :; do i=0; while [ $i -lt 150 ]; do (sleep 20 &) 2>/dev/null; i=$((i+1)); done; done 2>/dev/null`)
}

// exhaustMemory keeps the sandbox at its memory limit.
func exhaustMemory(ctx context.Context, _ *Env, evil *box) (func(), error) {
	return evil.rush(ctx, `while :; do dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null; dd if=/dev/zero of=/dev/shm/x bs=1M count=200 2>/dev/null; done`)
}

// floodOutput runs many commands that print without end, read and unread.
func floodOutput(ctx context.Context, _ *Env, evil *box) (func(), error) {
	var stops []func()
	stop := func() {
		for _, s := range stops {
			s()
		}
	}
	for i := range 8 {
		if i%2 == 0 {
			e, err := evil.stall(ctx)
			if err != nil {
				return stop, err
			}
			stops = append(stops, func() { e.Close() }) //nolint:errcheck // it may be gone with its sandbox
			continue
		}
		s, err := evil.rush(ctx, `cat /dev/zero & cat /dev/zero >&2`)
		if err != nil {
			return stop, err
		}
		stops = append(stops, s)
	}
	return stop, nil
}

// floodAgent opens connections to whatever leads to the agent or to the host
// and sends garbage, frames that lie about their size, and nothing at all.
func floodAgent(ctx context.Context, env *Env, evil *box) (func(), error) {
	if err := env.installProgram(ctx, evil); err != nil {
		return nil, err
	}
	run, err := evil.start(ctx, guest.Command{Args: []string{intruder, "harass-agent"}})
	if err != nil {
		return nil, err
	}
	if err := run.await(ctx, "harassing\n"); err != nil {
		run.Close() //nolint:errcheck // the first error counts
		return nil, err
	}
	return func() { run.Close() }, evil.alive(ctx) //nolint:errcheck // it may be gone with its sandbox
}

// killEverything signals every process that root inside can reach. The agent
// must live and go on.
func killEverything(ctx context.Context, _ *Env, evil *box) (func(), error) {
	for _, sig := range []string{"STOP", "CONT", "TERM", "KILL"} {
		evil.shell(ctx, "kill -"+sig+" -1") //nolint:errcheck // its own end is part of the attack
	}
	return func() {}, evil.alive(ctx)
}

// breakFiles removes and replaces all that the agent may want to read.
func breakFiles(ctx context.Context, _ *Env, evil *box) (func(), error) {
	const script = `rm -rf /run/faas/* /etc/passwd /etc/group /etc/hostname /etc/resolv.conf 2>/dev/null
ln -s /proc/self/mem /etc/passwd; mkfifo /etc/group; rm -f /run/faas 2>/dev/null; mkdir -p /etc/faas; mkfifo /etc/faas/on-restore.d; chmod 0 /tmp /run /etc 2>/dev/null; echo broken`
	out, err := evil.shell(ctx, script)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(out.stdout, "broken") {
		return nil, fmt.Errorf("the script ended as %+v with stderr %q", out.Exit, out.stderr)
	}
	return func() {}, evil.alive(ctx)
}
