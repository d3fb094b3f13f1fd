package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/image"
)

// launcherRunsc is the launcher that the records of gVisor's sandboxes name.
const launcherRunsc = "runsc"

// containerName is what runsc calls every sandbox: each has a state directory
// of its own, and the name is part of a socket's path, which must be short.
const containerName = "sandbox"

// controlSocket is where runsc has its control socket, below the sandbox's
// directory.
const controlSocket = "state/runsc-" + containerName + ".sock"

// flags are runsc's global options for one sandbox. Its state is the
// sandbox's own, so that removing the directory is all that forgetting takes.
func (g *GVisor) flags(s *gvisorSandbox) []string {
	dir, spec := g.work.Path(s.id), s.spec()
	overlay := "none" // a read-only root needs no layer
	if !spec.ReadOnly {
		overlay = "root:dir=" + filepath.Join(dir, "upper")
		if spec.Resources.DiskMB > 0 {
			overlay += ",size=" + sizeOption(spec.Resources.DiskMB)
		}
	}
	network := "none"
	if !isNone(spec.Network) {
		network = "sandbox" // gVisor's own stack, on the interfaces of its namespace
	}
	return []string{
		"--root", filepath.Join(dir, "state"), "--platform", g.opts.Platform,
		"--network", network, "--ignore-cgroups", "--host-settings", "ignore",
		"--overlay2", overlay, "--host-uds", "open", "--in-sandbox-cgroup", "v2",
		// Restores are of sandboxes of this driver, which compares what must be
		// the same itself; runsc takes two mounts on one place for a difference.
		"--restore-spec-validation", "ignore",
		"--log", filepath.Join(dir, "runsc.log"), "--log-format", "text",
	}
}

// waitForGo runs a program when a line comes on its standard input: until
// then its process can be put into its control group.
const waitForGo = `read -r go && exec "$@" </dev/null`

// beginning is what a sandbox starts from.
type beginning struct {
	root   *image.RootFS
	agent  string   // layer
	above  []string // layers above the agent's and the image's, topmost first
	memory string   // directory of a checkpoint; empty: the agent starts anew
	ahead  bool     // do all but start or restore
}

// start runs the sandbox and leaves it to itself.
func (g *GVisor) start(ctx context.Context, s *gvisorSandbox, from beginning) error {
	dir := g.work.Path(s.id)
	pidFile := filepath.Join(dir, "pid")
	args := append([]string{"-c", waitForGo, "sh", g.program}, g.flags(s)...)
	switch {
	case from.ahead:
		args = append(args, "create")
	case from.memory == "":
		args = append(args, "run", "--detach")
	default:
		args = append(args, "restore", "--image-path", from.memory, "--background", "--detach")
	}
	args = append(args, "--pid-file", pidFile, "--bundle", dir, containerName)
	out, err := os.OpenFile(filepath.Join(dir, "runsc.out"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, "/bin/sh", args...) //nolint:gosec // our own program with our own arguments
	cmd.Stdout, cmd.Stderr = out, out
	gate, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	err = onOwnThread(func() error { // a program starts in the namespaces of its thread
		if err := g.mountRoot(filepath.Join(dir, "rootfs"), from, s.spec().ReadOnly); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err != nil {
		gate.Close() //nolint:errcheck // nothing reads it
		return err
	}
	err = s.group.Add(cmd.Process.Pid)
	if err == nil {
		_, err = io.WriteString(gate, "go\n")
	}
	err = errors.Join(err, gate.Close())
	if waitErr := cmd.Wait(); waitErr != nil {
		return fmt.Errorf("runsc: %w: %s", errors.Join(waitErr, err), complaint(dir))
	}
	if err != nil {
		return err
	}
	return s.started(pidFile)
}

// complaint is the end of what runsc said.
func complaint(dir string) string {
	for _, name := range []string{"runsc.out", "runsc.log"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if b = bytes.TrimSpace(b); err == nil && len(b) > 0 {
			return string(b[max(0, len(b)-maxStatus):])
		}
	}
	return "it said nothing"
}

// started records the sandbox's process.
func (s *gvisorSandbox) started(pidFile string) error {
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("runsc wrote no process number: %q", b)
	}
	id, err := pidfd.Identify(pid)
	if err != nil {
		return fmt.Errorf("the sandbox ended at once: %w: %s", err, complaint(s.driver.work.Path(s.id)))
	}
	if s.process, err = pidfd.Open(id); err != nil {
		return err
	}
	return s.update(func(r *record) { r.Process = id })
}

// mountRoot makes a mount namespace for the calling thread and the root file
// system in it. What is started there, and nothing else, sees it.
func (g *GVisor) mountRoot(target string, from beginning, readOnly bool) error {
	root := from.root
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	fd, err := g.lowerRoot(from, readOnly)
	if err != nil {
		return fmt.Errorf("mount the image: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount the image on %s: %w", target, err)
	}
	if root.Host == nil {
		return nil
	}
	for _, m := range hostMounts(root.Host) {
		flags, data := mountOptions(m.Options)
		at := filepath.Join(target, m.Destination)
		if err := unix.Mount(m.Source, at, m.Type, uintptr(flags)&^unix.MS_RDONLY|readOnlyUnlessBind(flags), strings.Join(data, ",")); err != nil {
			return fmt.Errorf("mount %s: %w", m.Destination, err)
		}
		if flags&unix.MS_BIND != 0 { // the kernel takes the other flags of a bind by a second call only
			if err := unix.Mount("", at, "", uintptr(flags)|unix.MS_REMOUNT, ""); err != nil {
				return fmt.Errorf("mount %s read-only: %w", m.Destination, err)
			}
		}
	}
	return nil
}

// lowerRoot mounts what lies below gVisor's own writable layer, nowhere.
func (g *GVisor) lowerRoot(from beginning, readOnly bool) (int, error) {
	layers := slices.Concat(from.above, []string{from.agent}, from.root.Layers)
	if readOnly {
		return lowerMount(layers)
	}
	below := slices.Concat(from.above, []string{from.agent, g.spacer}, from.root.Layers)
	fd, err := lowerMount(below)
	if err != nil || len(from.above) == 0 || from.memory != "" {
		return fd, err
	}
	// The layers of a snapshot may have emptied /tmp again.
	empty, err := isEmptyDir(fd, "tmp")
	if err == nil && !empty {
		return fd, nil
	}
	unix.Close(fd) //nolint:errcheck // nothing was written
	if err != nil {
		return -1, err
	}
	return lowerMount(append([]string{g.spacer}, layers...))
}

// isEmptyDir says whether there is a directory with nothing in it.
func isEmptyDir(at int, name string) (bool, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	if _, err := dir.Readdirnames(1); !errors.Is(err, io.EOF) {
		return false, err
	}
	return true, nil
}

func readOnlyUnlessBind(flags uint64) uintptr {
	if flags&unix.MS_BIND != 0 {
		return 0
	}
	return uintptr(flags) & unix.MS_RDONLY
}

// lowerMount mounts layers on each other, topmost first, read-only and
// nowhere. Each layer is an option of its own: their paths together may
// outgrow what mount(2) takes.
func lowerMount(layers []string) (int, error) {
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fsfd) //nolint:errcheck // nothing was written
	if err := unix.FsconfigSetFlag(fsfd, "userxattr"); err != nil {
		return -1, err
	}
	for _, l := range layers {
		if err := unix.FsconfigSetString(fsfd, "lowerdir+", l); err != nil {
			// Kernels before 6.7 take all in one.
			if err := unix.FsconfigSetString(fsfd, "lowerdir", strings.Join(layers, ":")); err != nil {
				return -1, err
			}
			break
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return -1, err
	}
	return unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV)
}
