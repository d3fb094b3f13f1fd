package conformance

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

func isolationChecks() []Check {
	return []Check{
		{Name: "isolation/host-files", UserFacing: true, Isolates: true, Run: checkHostFiles},
		{Name: "isolation/host-processes", UserFacing: true, Isolates: true, Run: checkHostProcesses},
		{Name: "isolation/no-privileges", UserFacing: true, Isolates: true, Run: checkNoPrivileges},
		{Name: "isolation/no-new-privileges", Isolates: true, Run: checkNoNewPrivileges},
		{Name: "isolation/seccomp", Features: []faas.Feature{faas.FeatureSeccomp}, Isolates: true, Run: checkSeccomp},
		{Name: "isolation/kernel-files", UserFacing: true, Isolates: true, Run: checkKernelFiles},
		{Name: "isolation/devices", Isolates: true, Run: checkDevices},
		{Name: "isolation/agent-survives-signals", UserFacing: true, Isolates: true, Run: checkAgentSignals},
		{Name: "isolation/agent-is-opaque", Isolates: true, Run: checkAgentOpaque},
		{Name: "isolation/agent-is-not-traceable", Program: true, Isolates: true, Run: checkAgentTrace},
		{Name: "isolation/agent-socket", Program: true, Isolates: true, Run: checkAgentSocket},
	}
}

// checkHostFiles leaves marked files where a careless driver would show them.
func checkHostFiles(ctx context.Context, env *Env) error {
	marker := faas.NewID("conformance-host-file")
	places := []string{os.TempDir(), "/var/tmp", "/dev/shm"}
	if home, err := os.UserHomeDir(); err == nil {
		places = append(places, home)
	}
	var hidden []string
	for _, dir := range places {
		path := filepath.Join(dir, marker)
		if os.WriteFile(path, []byte(marker), 0o666) == nil {
			defer os.Remove(path) //nolint:errcheck // ours
			hidden = append(hidden, path)
		}
	}
	if len(hidden) == 0 {
		return fmt.Errorf("no directory of the host takes a marked file")
	}
	if env.StateDir != "" {
		hidden = append(hidden, env.StateDir)
	}
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	for _, path := range hidden {
		err := b.refuse(ctx, "a file of the host", "test -e '"+path+"' || test -e '/proc/1/root"+path+"' && test '"+path+"' != ''")
		if err != nil {
			return err
		}
	}
	return nil
}

func checkHostProcesses(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	name, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := b.shell(ctx, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo; ls -d /proc/[0-9]* | wc -l")
	if err != nil {
		return err
	}
	if strings.Contains(out.stdout, filepath.Base(name)+" ") {
		return fmt.Errorf("the host's own process %s is seen inside: %.400q", name, out.stdout)
	}
	lines := strings.Split(strings.TrimSpace(out.stdout), "\n")
	var n int
	if _, err := fmt.Sscan(lines[len(lines)-1], &n); err != nil || n > 12 {
		return fmt.Errorf("%d processes are seen inside (%v)", n, err)
	}
	return nil
}

func checkNoPrivileges(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	for what, script := range map[string]string{
		"mount a file system": "mkdir -p /tmp/mnt && mount -t tmpfs none /tmp/mnt",
		"bind a directory":    "mkdir -p /tmp/mnt && mount -o bind /etc /tmp/mnt",
		"remount":             "mount -o remount,rw /proc",
		"unmount":             "umount -l /proc",
		"make a device":       "mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk",
		"set the clock":       "date -s @1 && test $(date +%s) -lt 1000", // busybox succeeds without having set it
		"load a module":       "modprobe loop || insmod /tmp/x.ko",
	} {
		if err := b.refuse(ctx, what, script); err != nil {
			return err
		}
	}
	out, err := b.shell(ctx, "grep CapEff /proc/self/status")
	if err != nil {
		return err
	}
	var caps uint64
	if _, err := fmt.Sscanf(out.stdout, "CapEff: %x", &caps); err != nil {
		return fmt.Errorf("capabilities of a command: %q", out.stdout)
	}
	if bad := caps & forbiddenCapabilities; bad != 0 {
		return fmt.Errorf("commands hold capabilities %#x, of which %#x are forbidden", caps, bad)
	}
	return b.alive(ctx)
}

// forbiddenCapabilities has a bit for each capability that no command in a
// sandbox may hold: DAC_READ_SEARCH, LINUX_IMMUTABLE, NET_ADMIN, NET_RAW,
// SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_PACCT, SYS_ADMIN, SYS_BOOT, SYS_NICE,
// SYS_RESOURCE, SYS_TIME, SYS_TTY_CONFIG, AUDIT_CONTROL, MAC_OVERRIDE,
// MAC_ADMIN, SYSLOG, PERFMON, BPF and CHECKPOINT_RESTORE.
const forbiddenCapabilities = 1<<2 | 1<<9 | 1<<12 | 1<<13 | 1<<16 | 1<<17 | 1<<19 | 1<<20 | 1<<21 | 1<<22 |
	1<<23 | 1<<24 | 1<<25 | 1<<26 | 1<<30 | 1<<32 | 1<<33 | 1<<34 | 1<<38 | 1<<39 | 1<<40

func checkNoNewPrivileges(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	out, err := b.shell(ctx, "grep NoNewPrivs /proc/self/status")
	if err != nil {
		return err
	}
	if out.Code == 0 {
		if !strings.HasSuffix(strings.TrimSpace(out.stdout), "1") {
			return fmt.Errorf("no_new_privs of a command: %q", out.stdout)
		}
		return nil
	}
	// A kernel that does not tell the flag is asked by a set-user-id program.
	const prepare = `cp "$(command -v id)" /tmp/privileged 2>/dev/null; chown 0 /tmp/privileged; chmod 4755 /tmp/privileged; echo made`
	if err := b.expect(ctx, prepare, "made"); err != nil {
		return err
	}
	out, err = b.run(ctx, guest.Command{Args: []string{"/tmp/privileged", "-u"}, User: "1234:1234"}, nil)
	if err != nil {
		return err
	}
	if strings.TrimSpace(out.stdout) != "1234" {
		return fmt.Errorf("a set-user-id program of root ran as %q for user 1234 (stderr %q)", out.stdout, out.stderr)
	}
	return nil
}

// ownKernel says that what runs in the sandbox has a kernel of its own, so
// that what it does to that kernel harms nobody else. The runtimes that claim
// it are believed only when the kernels differ.
func (e *Env) ownKernel(ctx context.Context, b *box) (bool, error) {
	switch e.Driver.Name() {
	case faas.RuntimeGVisor, faas.RuntimeFirecracker, faas.RuntimeQEMU:
	default:
		return false, nil
	}
	host, err := os.ReadFile("/proc/version")
	if err != nil {
		return false, err
	}
	out, err := b.shell(ctx, "cat /proc/version")
	if err != nil {
		return false, err
	}
	if strings.TrimSpace(out.stdout) == strings.TrimSpace(string(host)) {
		return false, fmt.Errorf("runtime %s claims a kernel of its own, but it is the host's: %s", e.Driver.Name(), host)
	}
	return true, nil
}

func checkSeccomp(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if own, err := env.ownKernel(ctx, b); own || err != nil {
		return err
	}
	out, err := b.shell(ctx, "grep '^Seccomp:' /proc/self/status")
	if err != nil {
		return err
	}
	if !strings.HasSuffix(strings.TrimSpace(out.stdout), "2") {
		return fmt.Errorf("seccomp of a command: %q, want a filter (2)", out.stdout)
	}
	return nil
}

func checkKernelFiles(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if own, err := env.ownKernel(ctx, b); own || err != nil {
		return err
	}
	for _, path := range []string{
		"/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
		"/proc/sys/vm/drop_caches", "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/fs/cgroup/cgroup.procs",
		"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/release_agent",
	} {
		// Opened for writing only: nothing is written if it succeeds.
		if err := b.refuse(ctx, "open a file of the kernel", "test -e "+path+" && exec 3>>"+path); err != nil {
			return err
		}
	}
	for _, path := range []string{"/proc/kcore", "/proc/kmsg", "/proc/kallsyms"} {
		script := fmt.Sprintf(`test "$(head -c 64 %s 2>/dev/null | tr -d '\0 0a-zA-Z_\n' | wc -c)" -gt 0`, path)
		if err := b.refuse(ctx, "read a file of the kernel", script); err != nil {
			return err
		}
	}
	return nil
}

func checkDevices(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	const script = `cd /dev; for f in mem kmem port kmsg sda vda nvme0n1 loop0 loop-control fuse kvm net/tun mapper/control; do
	if test -e $f && head -c 1 $f >/dev/null 2>&1; then echo $f; fi; done; find /dev -type b; echo end`
	return firstError(
		func() error { return b.expect(ctx, script, "end") },
		func() error {
			return b.expect(ctx, "echo x > /dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c && test -c /dev/full && echo devices", "4\n4\ndevices")
		},
	)
}

func checkAgentSignals(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if _, err := b.shell(ctx, "for s in STOP KILL TERM INT HUP QUIT SEGV ABRT USR1 USR2 PIPE ALRM TSTP; do kill -$s 1; done 2>/dev/null"); err != nil {
		return fmt.Errorf("while the agent gets signals from inside: %w", err)
	}
	if err := b.alive(ctx); err != nil {
		return err
	}
	fresh := connect(b.Sandbox, b.Channel().Secret)
	defer fresh.Close() //nolint:errcheck // said all it had to
	_, err = fresh.Hello(ctx)
	return err
}

// checkAgentOpaque looks for the channel's secret, as root inside, where a
// process shows its memory, environment, arguments and files.
func checkAgentOpaque(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	for _, script := range []string{
		"head -c 1 /proc/1/mem", "ls -l /proc/1/fd/ | grep -q .", "cat /proc/1/environ | grep -q .",
		"echo x > /proc/1/mem", "readlink /proc/1/cwd && ls /proc/1/cwd/", "readlink /proc/1/exe",
	} {
		out, err := b.shell(ctx, script)
		if err != nil {
			return err
		}
		if out.Code == 0 && strings.Contains(script, "/mem") {
			return fmt.Errorf("the agent's memory is open inside: %q succeeds", script)
		}
	}
	secret := b.Channel().Secret
	hexed, based := hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret)
	script := fmt.Sprintf(`cat /proc/1/environ /proc/1/cmdline /proc/self/environ /proc/mounts /run/faas/* /proc/1/root/run/faas/* 2>/dev/null |
	tr '\0' '\n' | grep -F -c -e '%s' -e '%s' -e '%s'`, hexed, strings.ToUpper(hexed), based)
	out, err := b.shell(ctx, script)
	if err != nil {
		return err
	}
	if strings.TrimSpace(out.stdout) != "0" {
		return fmt.Errorf("the channel's secret lies open inside (%q)", out.stdout)
	}
	return nil
}

func checkAgentTrace(ctx context.Context, env *Env) error {
	b, err := env.withProgram(ctx)
	if err != nil {
		return err
	}
	out, err := b.run(ctx, guest.Command{Args: []string{intruder, "trace", "1"}}, nil)
	if err != nil {
		return err
	}
	if out.Code != 0 || !strings.Contains(out.stdout, "refused") {
		return fmt.Errorf("tracing the agent from inside: %q, %q", out.stdout, out.stderr)
	}
	return b.alive(ctx)
}

// checkAgentSocket has root inside connect to everything that looks like the
// agent's way out, say nonsense, and hold connections open; the host's own
// connections go on.
func checkAgentSocket(ctx context.Context, env *Env) error {
	b, err := env.withProgram(ctx)
	if err != nil {
		return err
	}
	run, err := b.start(ctx, guest.Command{Args: []string{intruder, "harass-agent"}})
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the intruder is killed
	if err := run.await(ctx, "harassing\n"); err != nil {
		return err
	}
	for range 10 {
		if err := b.alive(ctx); err != nil {
			return fmt.Errorf("while a process inside harasses the agent's socket: %w", err)
		}
	}
	fresh := connect(b.Sandbox, b.Channel().Secret)
	defer fresh.Close() //nolint:errcheck // said all it had to
	if _, err := fresh.Hello(ctx); err != nil {
		return fmt.Errorf("a new connection while a process inside harasses the agent's socket: %w", err)
	}
	if text := run.stdout.String(); strings.Contains(text, "answered") {
		return fmt.Errorf("the agent answered a process that does not know the secret: %q", text)
	}
	return nil
}
