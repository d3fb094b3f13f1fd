package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/guest/launch"
)

// layer is the writable layer of one sandbox, ready to be mounted.
//
// Whatever its kind, the layer's own mount stays visible inside at keptLayer,
// where the sandbox's root cannot reach it when it is the host's (detached
// kinds): the host finds upper/ there through /proc/PID/root, after a restart
// of the daemon too, which is what taking a snapshot of the files needs. Before
// trusting that path, compare its device with the one of the mount: root
// inside can rename what lies above it.
type layer interface {
	// kind names it for people and the record.
	kind() string
	// attach adds what the process needs to the builder of its configuration.
	attach(files *inherited) *launch.Writable
	// mountAt mounts it on a directory of the host, for launchers that take a
	// prepared root.
	mountAt(dir string) error
	// close lets go of the host's side; what is mounted stays.
	close() error
}

// The kinds of layers.
const (
	layerTmpfs = "tmpfs"
	layerDisk  = "disk image"
	layerNone  = "none"
)

// newLayer makes the layer of a sandbox: in memory where it is small, charged
// to the sandbox, and on a disk image of its own size otherwise, where the
// machine lets us.
func (n *Native) newLayer(ctx context.Context, dir string, diskMB, memoryMB int64, ids idMap) (layer, error) {
	if os.Geteuid() != 0 {
		return userTmpfs{options: tmpfsOptions(diskMB)}, nil
	}
	owner := int(ids.uids[0].HostID)
	if diskMB > memoryMB/2 {
		tool, err := formatter(diskMB)
		if err == nil {
			return newDiskLayer(ctx, filepath.Join(dir, "disk.img"), diskMB, owner, tool)
		}
		n.log.Debug("no disk image: the writable layer is in memory", "reason", err)
	}
	fd, err := detachedMount("tmpfs", map[string]string{"size": sizeOption(diskMB), "mode": "0700"})
	if err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return newDetached(fd, layerTmpfs, owner)
}

func sizeOption(mb int64) string { return strconv.FormatInt(max(mb, 1), 10) + "m" }

func tmpfsOptions(mb int64) string { return "mode=0700,size=" + sizeOption(mb) }

// userTmpfs is mounted by the sandbox's own first process: a plain user can
// mount nothing outside.
type userTmpfs struct{ options string }

func (userTmpfs) kind() string { return layerTmpfs }

func (t userTmpfs) attach(*inherited) *launch.Writable {
	return &launch.Writable{Tmpfs: t.options, Keep: keptLayer}
}

func (userTmpfs) mountAt(string) error { return errors.New("mounting outside a sandbox needs root") }

func (userTmpfs) close() error { return nil }

// detached is a mount that nothing but its descriptor holds, until a sandbox
// takes it into its mount namespace.
type detached struct {
	name              string
	mount, upper, wrk *os.File
}

// newDetached takes a mount over and makes its two directories.
func newDetached(fd int, kind string, owner int) (*detached, error) {
	d := &detached{name: kind, mount: os.NewFile(uintptr(fd), "writable layer")}
	var err error
	if d.upper, err = ownedDir(fd, "upper", 0o755, owner); err == nil {
		d.wrk, err = ownedDir(fd, "work", 0o700, owner)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the writable layer: %w", err), d.close())
	}
	return d, nil
}

// ownedDir makes a directory below at and opens it by path only.
func ownedDir(at int, name string, mode uint32, owner int) (*os.File, error) {
	if err := unix.Mkdirat(at, name, mode); err != nil {
		return nil, err
	}
	if err := unix.Fchownat(at, name, owner, owner, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (d *detached) kind() string { return d.name }

func (d *detached) attach(files *inherited) *launch.Writable {
	return &launch.Writable{
		FD: files.add(d.mount), UpperFD: files.add(d.upper), WorkFD: files.add(d.wrk), Keep: keptLayer,
	}
}

func (d *detached) mountAt(dir string) error {
	return unix.MoveMount(int(d.mount.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

func (d *detached) close() error {
	var errs []error
	for _, f := range []*os.File{d.upper, d.wrk, d.mount} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// detachedMount mounts a new file system nowhere.
func detachedMount(fstype string, options map[string]string) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for key, value := range options {
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return -1, fmt.Errorf("option %s=%s: %w", key, value, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}

// format is a way to make a file system in a file.
type format struct {
	fstype string
	args   []string
}

// smallestXFS is what mkfs.xfs takes at least, in MiB.
const smallestXFS = 300

// formatter returns what can make a file system of a size on this machine.
func formatter(mb int64) (format, error) {
	formats := []format{
		{"ext4", []string{"mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"}},
	}
	if mb >= smallestXFS {
		formats = append([]format{{"xfs", []string{"mkfs.xfs", "-q", "-f", "-K"}}}, formats...)
	}
	for _, f := range formats {
		if _, err := exec.LookPath(f.args[0]); err == nil {
			return f, nil
		}
	}
	return format{}, errors.New("neither mkfs.xfs nor mkfs.ext4 is installed")
}

// newDiskLayer makes a sparse file of the size, with a file system in it, and
// mounts it on a loop device that goes away with the mount.
func newDiskLayer(ctx context.Context, path string, mb int64, owner int, how format) (layer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(mb << 20); err != nil {
		return nil, fmt.Errorf("make a disk image: %w", err)
	}
	out, err := exec.CommandContext(ctx, how.args[0], append(how.args[1:], path)...).CombinedOutput() //nolint:gosec // a fixed list
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", how.args[0], err, out)
	}
	device, loop, err := attachLoop(f)
	if err != nil {
		return nil, fmt.Errorf("attach a loop device: %w", err)
	}
	defer loop.Close()
	fd, err := detachedMount(how.fstype, map[string]string{"source": device})
	if err != nil {
		return nil, fmt.Errorf("mount the disk image: %w", err)
	}
	return newDetached(fd, layerDisk, owner)
}

// attachLoop gives a file a loop device that detaches itself when the last
// user is gone: the returned file, then the mount.
func attachLoop(backing *os.File) (string, *os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(backing.Fd())}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", nil, err
		}
		device := "/dev/loop" + strconv.Itoa(n)
		loop, err := os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", nil, err
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return device, loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // somebody else took it between the two calls
			return "", nil, err
		}
	}
}
