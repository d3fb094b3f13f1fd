package microvm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/binary"
	"github.com/faas-platform/faas/guest/launch"
	"github.com/faas-platform/faas/guest/machine"
	"github.com/faas-platform/faas/image"
)

const (
	// kernelMB is what a machine has on top of the sandbox's memory, for its
	// kernel, its agent and the initial file system.
	kernelMB = 128
	// monitorMB is what QEMU takes besides the machine's memory, translated
	// code (64 MiB at most) included.
	monitorMB = 192
	// leastMB is the least memory of a sandbox, in MiB.
	leastMB = 16
	// bootPatience bounds a boot; without KVM on a busy machine it takes a
	// while.
	bootPatience = 2 * time.Minute
	undoTimeout  = 30 * time.Second
	statsTimeout = 5 * time.Second
	// shmDivisor is the part of the memory that /dev/shm may take.
	shmDivisor = 2
)

// agentCapabilities is what the agent keeps of root of the machine: what it
// keeps in other sandboxes (own and reach any file, become any user and signal
// them, bind low ports, give up capabilities, trace for re-seeding, administer)
// and the machine's own: network, clock, switching off.
const agentCapabilities uint64 = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_NET_BIND_SERVICE |
	1<<unix.CAP_SETPCAP | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_RESOURCE |
	1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_SYS_TIME | 1<<unix.CAP_SYS_BOOT

// Create boots a machine and returns when its agent has answered and taken its
// identity and environment.
func (q *QEMU) Create(ctx context.Context, spec faas.Spec) (driver.Sandbox, error) {
	if err := driver.CheckSpec(spec, leastMB); err != nil {
		return nil, err
	}
	if err := q.offered(spec); err != nil {
		return nil, err
	}
	r := &record{ID: spec.ID, CreatedAt: time.Now().UTC(), Spec: spec, Secret: newSecret()}
	return q.make(ctx, r, func(s *sandbox) error { return q.boot(ctx, s, nil) })
}

func newSecret() []byte {
	b := make([]byte, 32)
	rand.Read(b) //nolint:errcheck // never fails
	return b
}

// offered refuses what this runtime does not do.
func (q *QEMU) offered(spec faas.Spec) error {
	if err := q.usable(); err != nil {
		return err
	}
	if spec.Image == faas.HostImage {
		return hostImageRefused()
	}
	if mode := spec.Network.Mode; mode != "" && mode != faas.NetworkNone {
		return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "create sandbox", Field: "network", Detail: egressReason, Remedy: egressRemedy}
	}
	return nil
}

// make records a sandbox, has it built, and undoes everything when that fails.
func (q *QEMU) make(ctx context.Context, r *record, build func(*sandbox) error) (driver.Sandbox, error) {
	if err := q.begin(r.ID); err != nil {
		return nil, err
	}
	defer q.finish(r.ID)
	if err := q.work.Create(r); err != nil {
		return nil, driver.CreateError(ctx, r.Spec, err)
	}
	s := q.newSandbox(r)
	if err := build(s); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if undoErr := s.Destroy(undo); undoErr != nil {
			q.log.Error("a machine that could not be made was not removed fully; a later sweep will", "sandbox", r.ID, "error", undoErr)
		}
		return nil, driver.CreateError(ctx, r.Spec, err)
	}
	return s, nil
}

// boot makes everything of a machine whose record is on disk, with layers above
// the image, topmost first, and boots it.
func (q *QEMU) boot(ctx context.Context, s *sandbox, above []string) error {
	ctx, cancel := context.WithTimeout(ctx, bootPatience)
	defer cancel()
	root, err := q.prepare(ctx, s, above)
	if err != nil {
		return err
	}
	r := s.recorded()
	if err := q.start(s, &r.Machine, nil); err != nil {
		return err
	}
	if err := s.configure(ctx, environment(root, r.Spec)); err != nil {
		return fmt.Errorf("the agent does not answer: %w: %s", err, q.complaint(s))
	}
	return s.update(func(r *record) { r.Ready = true })
}

// prepare makes the files of a machine.
func (q *QEMU) prepare(ctx context.Context, s *sandbox, above []string) (*image.RootFS, error) {
	spec := s.recorded().Spec
	k, err := q.kernel()
	if err != nil {
		return nil, err
	}
	agent, err := binary.Bytes("")
	if err != nil {
		return nil, err
	}
	hw := hardware{Accel: q.accel(), Kernel: k.Image, Cores: cores(spec), MemoryMB: memoryMB(spec), Writable: !spec.ReadOnly}
	if hw.Initial, err = q.initialFor(k, agent); err != nil {
		return nil, fmt.Errorf("make the initial file system: %w", err)
	}
	root, err := q.images.AcquireWith(ctx, spec.Image, image.AcquireOptions{Owner: spec.ID})
	if err != nil {
		return nil, err
	}
	base, err := q.base(ctx, root.Digest, root.Layers)
	if err != nil {
		return nil, fmt.Errorf("make the image's file system: %w", err)
	}
	if hw.Lower, err = q.states(ctx, above); err != nil {
		return nil, fmt.Errorf("make the snapshot's file system: %w", err)
	}
	hw.Lower = append(hw.Lower, base)
	if hw.Writable {
		if err := q.disk(ctx, filepath.Join(s.dir(), diskFile), spec.Resources.DiskMB); err != nil {
			return nil, fmt.Errorf("make the disk: %w", err)
		}
	}
	if err := s.update(func(r *record) { r.Machine = hw }); err != nil {
		return nil, err
	}
	return root, s.writeConfig()
}

func cores(spec faas.Spec) int { return max(1, int(math.Ceil(spec.Resources.CPUCores))) }

// defaultMB is the memory of a sandbox that has no limit.
const defaultMB = 1024

func memoryMB(spec faas.Spec) int64 {
	if spec.Resources.MemoryMB <= 0 {
		return defaultMB + kernelMB
	}
	return spec.Resources.MemoryMB + kernelMB
}

// writeConfig makes the drive that tells the machine what the sandbox is made
// of.
func (s *sandbox) writeConfig() error {
	r := s.recorded()
	cfg := &machine.Config{MemoryBytes: r.Spec.Resources.MemoryMB << 20, PIDs: r.Spec.Resources.PIDs, Launch: launchConfig(r.Spec, r.Secret)}
	for _, path := range r.Machine.Lower {
		d, err := driveOf(path, "squashfs")
		if err != nil {
			return err
		}
		cfg.Lower = append(cfg.Lower, d)
	}
	if r.Machine.Writable {
		d, err := driveOf(filepath.Join(s.dir(), diskFile), "ext4")
		if err != nil {
			return err
		}
		cfg.Writable = &d
	}
	b, err := cfg.Encode()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir(), configFile), b, 0o600)
}

// launchConfig is the sandbox inside the machine.
func launchConfig(spec faas.Spec, secret []byte) launch.Config {
	const secretPath = "/run/faas/secret"
	shm := max(1, (memoryMB(spec)-kernelMB)/shmDivisor)
	restricted := uint64(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	return launch.Config{
		Hostname: driver.Hostname(spec), Capabilities: agentCapabilities,
		Mounts: []launch.Mount{
			{Target: "/proc", Type: "proc", Flags: restricted},
			{Target: "/dev", Type: "bind", From: launch.Dir{Path: machine.DeviceDir}},
			{Target: "/dev/pts", Type: "devpts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC, Data: "newinstance,ptmxmode=0666,mode=0620,gid=5"},
			{Target: "/dev/shm", Type: "tmpfs", Flags: restricted, Data: fmt.Sprintf("mode=1777,size=%dm", shm)},
			{Target: "/run/faas", Type: "tmpfs", Flags: restricted, Data: "mode=0755,size=1m"},
		},
		// Memory is promised freely, as on the host: the control group limits it,
		// and what ends for want of it is told.
		Sysctls: map[string]string{"vm.overcommit_memory": "1", "kernel.dmesg_restrict": "1", "kernel.kptr_restrict": "2", "kernel.unprivileged_bpf_disabled": "1"},
		Limits:  []launch.Limit{{Resource: unix.RLIMIT_CORE}, {Resource: unix.RLIMIT_NOFILE, Soft: 1024, Hard: 1 << 20}},
		Files:   []launch.File{{Path: secretPath, Content: secret, Mode: 0o400}},
		Args:    []string{"/proc/self/exe"},
		Env:     []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
}

// environment joins the image's own variables with those of the sandbox, which
// win.
func environment(root *image.RootFS, spec faas.Spec) map[string]string {
	env := map[string]string{}
	for _, kv := range root.Config.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	maps.Copy(env, spec.Env)
	return env
}

func hostLimits(spec faas.Spec, hw *hardware) cgroup.Limits {
	return cgroup.Limits{CPUCores: spec.Resources.CPUCores, MemoryBytes: (hw.MemoryMB + monitorMB) << 20}
}

// start runs the machine's process in its control group.
func (q *QEMU) start(s *sandbox, hw *hardware, state *os.File) error {
	if err := s.group.Create(hostLimits(s.recorded().Spec, hw)); err != nil {
		return err
	}
	vmm := qemu{program: q.program, accel: hw.Accel}
	m := &configuration{dir: s.dir(), kernel: hw.Kernel, initial: hw.Initial, cores: hw.Cores, memoryMB: hw.MemoryMB, state: state}
	m.drives = append(m.drives, drive{filepath.Join(s.dir(), configFile), true})
	for _, path := range hw.Lower {
		m.drives = append(m.drives, drive{path, true})
	}
	if hw.Writable {
		m.drives = append(m.drives, drive{filepath.Join(s.dir(), diskFile), false})
	}
	args, inherit, err := vmm.command(m)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(s.dir(), outputFile), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", waitForGo, "sh", q.program}, args...)...) //nolint:gosec // our own arguments
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.Dir = out, out, inherit, s.dir()
	// It outlives this process, and is nobody on this machine.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: q.nobody()}
	if err := q.giveAway(s.dir()); err != nil {
		return err
	}
	gate, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		gate.Close() //nolint:errcheck // nothing reads it
		return err
	}
	if err = s.group.Add(cmd.Process.Pid); err == nil {
		_, err = io.WriteString(gate, "go\n")
	}
	if err = errors.Join(err, gate.Close()); err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	return q.started(s, cmd.Process)
}

// waitForGo runs a program when a line comes on its standard input: until then
// its process can be put into its control group.
const waitForGo = `read -r go && exec "$@" </dev/null`

// nobody is whom machines run as: root of sandboxes of other runtimes, who is
// nobody on this machine, in the group that may use KVM.
func (q *QEMU) nobody() *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(q.opts.Shift), Gid: uint32(q.opts.Shift)} //nolint:gosec // ids
	var st unix.Stat_t
	if unix.Stat(deviceKVM, &st) == nil {
		c.Groups = []uint32{st.Gid}
	}
	return c
}

// giveAway gives a machine's directory to whom it runs as, without what tells
// of it to others.
func (q *QEMU) giveAway(dir string) error {
	for _, name := range []string{".", configFile, diskFile} {
		err := os.Lchown(filepath.Join(dir, name), q.opts.Shift, q.opts.Shift)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// started records the machine's process and watches it.
func (q *QEMU) started(s *sandbox, child *os.Process) error {
	id, err := pidfd.Identify(child.Pid)
	if err != nil {
		child.Wait() //nolint:errcheck // only the zombie matters
		return fmt.Errorf("%s ended at once: %w: %s", filepath.Base(q.program), err, q.complaint(s))
	}
	if s.process, err = pidfd.Open(id); err != nil {
		return err
	}
	s.process.Child = child
	if err := s.update(func(r *record) { r.Process = id }); err != nil {
		return err
	}
	return q.adopt(s)
}

// configure makes the sandbox its first owner's.
func (s *sandbox) configure(ctx context.Context, env map[string]string) error {
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.recorded().Secret, Multiplex: true})
	defer client.Close() //nolint:errcheck // connections only
	now := time.Now()
	_, err := s.whileAlive(ctx, func(ctx context.Context) (guest.Configured, error) {
		return client.Configure(ctx, guest.Configuration{Env: env, Identity: s.identity(), Clock: &now})
	})
	return err
}

// whileAlive calls until it goes well, the machine ends or the context does: an
// agent that boots is silent for longer than one that runs may be.
func (s *sandbox) whileAlive(ctx context.Context, call func(context.Context) (guest.Configured, error)) (guest.Configured, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-s.done:
			cancel(errors.New("the machine has ended"))
		case <-stop:
		}
	}()
	for {
		out, err := call(ctx)
		if err == nil {
			return out, nil
		}
		if ctx.Err() != nil {
			return out, errors.Join(context.Cause(ctx), err)
		}
		if faas.KindOf(err) != faas.KindDeadlineExceeded && faas.KindOf(err) != faas.KindUnavailable {
			return out, err
		}
	}
}

func (s *sandbox) identity() *guest.Identity {
	spec := s.recorded().Spec
	return &guest.Identity{ID: spec.ID, Project: spec.Project, Hostname: driver.Hostname(spec), Labels: spec.Labels}
}

// complaint is the end of what the machine's process and its kernel said.
func (q *QEMU) complaint(s *sandbox) string {
	const most = 1500
	var said []string
	for _, name := range []string{outputFile, consoleFile} {
		b, err := os.ReadFile(filepath.Join(s.dir(), name))
		if text := strings.TrimSpace(string(b[max(0, len(b)-most):])); err == nil && text != "" {
			said = append(said, name+" says: "+text)
		}
	}
	if len(said) == 0 {
		return "it said nothing"
	}
	return strings.ToValidUTF8(strings.Join(said, "; "), "?")
}
