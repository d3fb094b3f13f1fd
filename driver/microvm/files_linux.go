package microvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/machine"
	"github.com/faas-platform/faas/image/pack"
)

// Programs that make file systems.
const (
	programSquash = "mksquashfs"
	programExt    = "mke2fs"
)

// base returns the squashfs of an image's layers, which it makes when it is
// missing: once for each content.
func (q *QEMU) base(ctx context.Context, digest string, layers []string) (string, error) {
	name := strings.NewReplacer(":", "-", "/", "-").Replace(digest) + ".squashfs"
	path := filepath.Join(q.opts.Dir, basesDir, name)
	q.makes.Lock()
	defer q.makes.Unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	tree, err := merged(layers)
	if err != nil {
		return "", fmt.Errorf("put the image's layers together: %w", err)
	}
	defer tree.Close()
	dir := "/proc/self/fd/" + strconv.Itoa(int(tree.Fd())) + "/."
	err = q.squash(ctx, path, func(w io.Writer) error {
		return pack.Layer(ctx, dir, w, pack.Options{UIDShift: q.opts.Shift, GIDShift: q.opts.Shift})
	})
	return path, err
}

// merged opens the tree that layers make, topmost first: an overlay that is
// mounted nowhere and ends with the descriptor.
func merged(layers []string) (*os.File, error) {
	if len(layers) == 1 {
		return os.Open(layers[0])
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fs) //nolint:errcheck // nothing was written
	for _, layer := range layers {
		if err := unix.FsconfigSetString(fs, "lowerdir+", layer); err != nil {
			return nil, fmt.Errorf("add the layer %s: %w", layer, err)
		}
	}
	if err := unix.FsconfigSetFlag(fs, "userxattr"); err != nil {
		return nil, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "image"), nil
}

// squash makes a squashfs of a tar. Nothing in it is compressed: what a machine
// without KVM reads, it would decompress in software twice over.
func (q *QEMU) squash(ctx context.Context, path string, tar func(io.Writer) error) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	defer os.Remove(tmp)                                                                             //nolint:errcheck // it is gone when all went well
	cmd := exec.CommandContext(ctx, programSquash, "-", tmp, "-tar", "-noI", "-noD", "-noF", "-noX", //nolint:gosec // our own arguments
		"-no-progress", "-quiet", "-mkfs-time", "0", "-processors", "1", "-root-mode", "0755", "-root-uid", "0", "-root-gid", "0")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = errors.Join(tar(in), in.Close())
	if waited := cmd.Wait(); waited != nil {
		return fmt.Errorf("%s: %w: %s", programSquash, errors.Join(waited, err), firstLine(said.String()))
	}
	// It does not always read what fills the last block of an archive.
	if err != nil && !errors.Is(err, unix.EPIPE) {
		return err
	}
	return os.Rename(tmp, path)
}

// firstLine is what a program says that then explains all its options.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// smallestDisk is what a file system of its own takes, in MiB.
const smallestDisk = 4

// disk makes a private disk of a size at path: a copy of an empty one, which
// takes no room where there is nothing.
func (q *QEMU) disk(ctx context.Context, path string, sizeMB int64) error {
	if sizeMB <= 0 {
		sizeMB = 1024
	}
	sizeMB = max(sizeMB, smallestDisk)
	empty, err := q.emptyDisk(ctx, sizeMB)
	if err != nil {
		return err
	}
	return copySparse(ctx, path, empty)
}

func (q *QEMU) emptyDisk(ctx context.Context, sizeMB int64) (string, error) {
	path := filepath.Join(q.opts.Dir, disksDir, strconv.FormatInt(sizeMB, 10)+".ext4")
	q.makes.Lock()
	defer q.makes.Unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	tmp := path + ".new"
	defer os.Remove(tmp) //nolint:errcheck // it is gone when all went well
	f, err := os.Create(tmp)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Truncate(sizeMB<<20), f.Close()); err != nil {
		return "", err
	}
	// A machine's disk is never mounted again after a crash: no journal.
	out, err := exec.CommandContext(ctx, programExt, "-q", "-F", "-t", "ext4", "-O", "^has_journal,^resize_inode", "-m", "0", //nolint:gosec // our own arguments
		"-E", "lazy_itable_init=0,nodiscard", tmp).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", programExt, err, out)
	}
	return path, os.Rename(tmp, path)
}

// copySparse copies a file, sharing its blocks where the file system can, and
// leaving holes where it has some.
func copySparse(ctx context.Context, to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = copyData(ctx, out, in)
	return errors.Join(err, out.Close())
}

func copyData(ctx context.Context, out, in *os.File) error {
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return nil
	}
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	for at := int64(0); at < info.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		start, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // holes to the end
		}
		if err != nil {
			return err
		}
		if at, err = unix.Seek(int(in.Fd()), start, unix.SEEK_HOLE); err != nil {
			return err
		}
		for from, to := start, start; from < at; {
			n, err := unix.CopyFileRange(int(in.Fd()), &from, int(out.Fd()), &to, int(at-from), 0)
			if err != nil {
				return err
			}
			if n == 0 {
				return io.ErrUnexpectedEOF
			}
		}
	}
	return nil
}

// driveOf names a file as a drive of a machine.
func driveOf(path, fstype string) (machine.Drive, error) {
	f, err := os.Open(path)
	if err != nil {
		return machine.Drive{}, err
	}
	defer f.Close()
	sum, err := machine.SumOf(f)
	return machine.Drive{Type: fstype, Sum: sum}, err
}

// initialFor returns the initial file system for a kernel with this build's
// agent.
func (q *QEMU) initialFor(k *kernel, agent []byte) (string, error) {
	q.makes.Lock()
	defer q.makes.Unlock()
	return initial(filepath.Join(q.opts.Dir, initialDir), k, agent)
}

func hostImageRefused() error {
	return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "resolve image", Field: "image", Detail: hostImageReason, Remedy: hostImageRemedy}
}
