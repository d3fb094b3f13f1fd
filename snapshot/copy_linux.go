package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// CopyLayer copies an overlay layer: whiteouts, opaque marks, owners, modes,
// times, extended attributes and hard links included. Where the file system
// can share blocks it does (FICLONE), so that size costs nothing; elsewhere
// holes stay holes. The source belongs to a sandbox: no symbolic link in it is
// ever followed.
func CopyLayer(ctx context.Context, from, to string) error {
	src, err := openDir(unix.AT_FDCWD, from)
	if err != nil {
		return fmt.Errorf("copy layer: %w", err)
	}
	defer unix.Close(src)
	dst, err := openDir(unix.AT_FDCWD, to)
	if err != nil {
		return fmt.Errorf("copy layer: %w", err)
	}
	defer unix.Close(dst)
	c := &layerCopy{ctx: ctx, links: map[inode]string{}, root: to}
	if err := c.dir(src, dst, ""); err != nil {
		return fmt.Errorf("copy layer: %w", err)
	}
	return nil
}

type inode struct{ dev, ino uint64 }

type layerCopy struct {
	ctx   context.Context
	links map[inode]string // files with several names → the first copy's path
	root  string
}

func openDir(at int, path string) (int, error) {
	fd, err := unix.Openat(at, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// dir copies what a directory holds, and then its own attributes: writing
// into it would change its times.
func (c *layerCopy) dir(src, dst int, path string) error {
	names, err := readNames(src)
	if err != nil {
		return fmt.Errorf("list %q: %w", path, err)
	}
	for _, name := range names {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.entry(src, dst, name, filepath.Join(path, name)); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	return copyAttributes(procPath(src, "."), procPath(dst, "."), &st)
}

func readNames(dir int) ([]string, error) {
	// A copy of the descriptor, since os.File closes its own.
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	return f.Readdirnames(-1)
}

func (c *layerCopy) entry(src, dst int, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil // a running sandbox removed it meanwhile
		}
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if err := c.node(src, dst, name, path, &st); err != nil {
		return &os.PathError{Op: "copy", Path: path, Err: err}
	}
	return nil
}

func (c *layerCopy) node(src, dst int, name, path string, st *unix.Stat_t) error {
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return c.subdir(src, dst, name, path)
	}
	if st.Nlink > 1 {
		key := inode{uint64(st.Dev), st.Ino}
		if first, seen := c.links[key]; seen {
			return unix.Linkat(unix.AT_FDCWD, filepath.Join(c.root, first), dst, name, 0)
		}
		c.links[key] = path
	}
	switch kind {
	case unix.S_IFREG:
		if err := copyFile(src, dst, name, st.Size); err != nil {
			return err
		}
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(src, name, target)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(string(target[:n]), dst, name); err != nil {
			return err
		}
	default: // whiteouts, pipes, sockets
		if err := unix.Mknodat(dst, name, st.Mode, int(st.Rdev)); err != nil {
			return err
		}
	}
	return copyAttributes(procPath(src, name), procPath(dst, name), st)
}

func (c *layerCopy) subdir(src, dst int, name, path string) error {
	if err := unix.Mkdirat(dst, name, 0o700); err != nil {
		return err
	}
	from, err := openDir(src, name)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := openDir(dst, name)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return c.dir(from, to, path)
}

func copyFile(src, dst int, name string, size int64) error {
	in, err := unix.Openat(src, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := unix.Openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	if unix.IoctlFileClone(out, in) == nil {
		return nil
	}
	return copyExtents(in, out, size)
}

// copyExtents copies data and leaves holes.
func copyExtents(in, out int, size int64) error {
	for offset := int64(0); offset < size; {
		data, err := unix.Seek(in, offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(in, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyRange(in, out, data, hole); err != nil {
			return err
		}
		offset = hole
	}
	return unix.Ftruncate(out, size)
}

func copyRange(in, out int, from, to int64) error {
	for from < to {
		inOffset, outOffset := from, from
		n, err := unix.CopyFileRange(in, &inOffset, out, &outOffset, int(min(to-from, 1<<30)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return copyBytes(in, out, from, to)
		case err != nil:
			return err
		case n == 0:
			return nil // it shrank meanwhile
		}
		from += int64(n)
	}
	return nil
}

func copyBytes(in, out int, from, to int64) error {
	buf := make([]byte, min(to-from, 1<<20))
	for from < to {
		n, err := unix.Pread(in, buf[:min(int64(len(buf)), to-from)], from)
		if err != nil || n == 0 {
			return err
		}
		for written := 0; written < n; {
			w, err := unix.Pwrite(out, buf[written:n], from+int64(written))
			if err != nil {
				return err
			}
			written += w
		}
		from += int64(n)
	}
	return nil
}

// procPath names a file by its directory's descriptor, for the calls that
// take only paths; its last part is never followed by those used here.
func procPath(dir int, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)
}

func copyAttributes(from, to string, st *unix.Stat_t) error {
	if os.Geteuid() == 0 {
		if err := unix.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
			return err
		}
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW)
}

func copyXattrs(from, to string) error {
	list := make([]byte, 64<<10) // the kernel's own limit
	n, err := unix.Llistxattr(from, list)
	if errors.Is(err, unix.EOPNOTSUPP) || n == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		size, err := unix.Lgetxattr(from, name, value)
		if err != nil {
			continue // removed meanwhile, or not ours to read
		}
		err = unix.Lsetxattr(to, name, value[:size], 0)
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	return nil
}
