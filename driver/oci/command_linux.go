package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/driver/pidfd"
)

// command starts sandboxes with an OCI runtime's program. It needs root: the
// sandbox's root file system is mounted on the host, below the sandbox's
// directory, before the program runs.
type command struct {
	runtime string       // crun or runc
	program string       // its path
	state   string       // directory for the program's own records
	tree    *cgroup.Tree // nil: no control groups
}

// readyInterval is how often a starting agent's socket is looked for: the
// program returns before the agent listens, and nothing tells.
const readyInterval = time.Millisecond

func (c command) name() string { return c.runtime }

// start makes a bundle of the plan and runs create, then start.
func (c command) start(ctx context.Context, p *plan) (*pidfd.Handle, error) {
	if closed := closedAbove(filepath.Dir(p.dir)); closed != "" {
		return nil, faas.Unavailable(c.runtime+"'s processes, which are nobody on this machine, cannot pass through "+closed,
			"chmod o+x "+closed+", use another data directory, or the builtin launcher")
	}
	if err := c.bundle(p); err != nil {
		return nil, err
	}
	pidFile := filepath.Join(p.dir, "pid")
	args := append(c.flags(), "create", "--bundle", p.dir, "--pid-file", pidFile)
	if err := c.run(ctx, p.id, append(args, p.id)); err != nil {
		return nil, err
	}
	h, err := c.created(pidFile)
	if err != nil {
		return nil, errors.Join(err, c.remove(context.WithoutCancel(ctx), p.id, p.dir))
	}
	err = p.placed(h)
	if err == nil {
		err = p.confined(h.ID.PID)
	}
	if err == nil {
		err = p.connected(ctx, h.ID.PID)
	}
	if err == nil {
		err = c.run(ctx, "", append(c.flags(), "start", p.id))
	}
	if err == nil {
		err = awaitSocket(ctx, h)
	}
	if err != nil {
		return nil, errors.Join(err, h.Kill(), h.Close())
	}
	return h, nil
}

func (c command) created(pidFile string) (*pidfd.Handle, error) {
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("%s wrote no process number: %q", c.runtime, b)
	}
	id, err := pidfd.Identify(pid)
	if err != nil {
		return nil, err
	}
	return pidfd.Open(id)
}

// flags are the global options. Control groups are ours to manage, so that
// all launchers are alike; runc cannot be told so and is given our own.
func (c command) flags() []string {
	flags := []string{"--root", c.state}
	if c.runtime == LauncherCrun {
		flags = append(flags, "--cgroup-manager", "disabled")
	}
	return flags
}

// bundle writes config.json and mounts the root file system.
func (c command) bundle(p *plan) error {
	rootfs := filepath.Join(p.dir, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil { //nolint:gosec // becomes a mount point
		return err
	}
	// The container's root is nobody here and must reach its own root.
	if err := os.Chmod(p.dir, 0o711); err != nil { //nolint:gosec // the record in it is 0600
		return err
	}
	options := "userxattr,lowerdir=" + strings.Join(p.lowerLayers(), ":")
	var flags uintptr = unix.MS_NODEV
	if p.layer == nil {
		flags |= unix.MS_RDONLY
	} else {
		rw := filepath.Join(p.dir, "rw")
		if err := os.Mkdir(rw, 0o700); err != nil {
			return err
		}
		if err := p.layer.mountAt(rw); err != nil {
			return fmt.Errorf("mount the writable layer: %w", err)
		}
		options += ",upperdir=" + rw + "/upper,workdir=" + rw + "/work"
	}
	if err := unix.Mount("overlay", rootfs, "overlay", flags, options); err != nil {
		return fmt.Errorf("mount the root file system: %w", err)
	}
	config, err := c.config(p)
	if err != nil {
		return err
	}
	b, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, "config.json"), b, 0o600)
}

// config completes the plan's configuration for the program, and places the
// channel's secret where the agent expects it.
func (c command) config(p *plan) (*specs.Spec, error) {
	config := *p.config
	process, linux := *config.Process, *config.Linux
	process.Args = append(slices.Clone(process.Args), "--listen", "unix:"+socketPath)
	if c.runtime == LauncherRunc {
		linux.CgroupsPath = "/" + filepath.Join("faas", p.id)
	}
	config.Process, config.Linux = &process, &linux
	secret := filepath.Join(p.dir, "secret")
	if p.layer != nil {
		upper := filepath.Join(p.dir, "rw", "upper")
		for _, d := range []string{"run", "run/faas"} {
			if err := makeOwned(filepath.Join(upper, d), p.ids); err != nil {
				return nil, err
			}
		}
		secret = filepath.Join(upper, secretPath)
	} else {
		config.Mounts = append(slices.Clone(config.Mounts), specs.Mount{Destination: secretPath, Type: "bind", Source: secret,
			Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"}})
	}
	if err := os.WriteFile(secret, p.secret, 0o400); err != nil {
		return nil, err
	}
	return &config, os.Lchown(secret, int(p.ids.uids[0].HostID), int(p.ids.gids[0].HostID))
}

// makeOwned makes a directory of the sandbox's root.
func makeOwned(path string, ids idMap) error {
	if err := os.Mkdir(path, 0o755); err != nil { //nolint:gosec // as in every image
		return err
	}
	return os.Lchown(path, int(ids.uids[0].HostID), int(ids.gids[0].HostID))
}

// run runs the program, from its start in the control group of a sandbox when
// one is given: what it has started when it is killed is found there. Its
// output goes to a file, since what it leaves running inherits it.
func (c command) run(ctx context.Context, sandbox string, args []string) error {
	out, err := os.CreateTemp("", "faas-launch-*")
	if err != nil {
		return err
	}
	defer out.Close()
	if err := os.Remove(out.Name()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.program, args...) //nolint:gosec // found by programLauncher
	cmd.Stderr = out
	// A program that outlived this process would go on making what a sweep
	// removes. The signal comes at the end of the thread that started it,
	// which therefore is one that waits for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = onOwnThread(func() error {
		if c.runtime == LauncherCrun {
			if err := hideUnified(); err != nil {
				return err
			}
		}
		if c.tree == nil || sandbox == "" {
			return cmd.Run()
		}
		return c.tree.Group(sandbox).Start(cmd.SysProcAttr, cmd.Run)
	})
	if err != nil {
		message := make([]byte, maxStatus)
		n, _ := out.ReadAt(message, 0) // what can be read is better than nothing
		return fmt.Errorf("%s: %w: %s", c.runtime, err, bytes.TrimSpace(message[:n]))
	}
	return nil
}

// hideUnified gives the calling thread a mount namespace of its own in which
// version 2 control groups are not mounted where version 1's are too: crun
// refuses to run where it sees both.
func hideUnified() error {
	points, err := cgroup.HybridMounts()
	if err != nil || len(points) == 0 {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	for _, p := range points {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	return nil
}

// remove makes the program forget the container. What it does not know is
// forgotten already.
func (c command) remove(ctx context.Context, id, _ string) error {
	if _, err := os.Stat(filepath.Join(c.state, id)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return c.run(ctx, "", append(c.flags(), "delete", "--force", id))
}

// awaitSocket waits until the agent's socket is there.
func awaitSocket(ctx context.Context, h *pidfd.Handle) error {
	for {
		conn, err := dialAgent(ctx, h.ID)
		if err == nil {
			return conn.Close()
		}
		if !h.ID.Alive() {
			return errors.New("the agent ended before it listened")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readyInterval):
		}
	}
}

// programLauncher returns the launcher of crun or runc.
func programLauncher(name, dir string, tree *cgroup.Tree) (launcher, error) {
	if name != LauncherCrun && name != LauncherRunc {
		return nil, &faas.Error{Kind: faas.KindInvalidArgument, Field: "launcher", Detail: fmt.Sprintf("%q is not auto, builtin, crun or runc", name)}
	}
	if os.Geteuid() != 0 {
		return nil, &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "open native driver",
			Detail: "the launcher " + name + " needs root", Remedy: "use the builtin launcher"}
	}
	program, err := exec.LookPath(name)
	if err != nil {
		return nil, &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "open native driver",
			Detail: name + " is not installed", Remedy: "install " + name + ", or use the builtin launcher", Err: err}
	}
	return command{runtime: name, program: program, state: filepath.Join(dir, name), tree: tree}, nil
}
