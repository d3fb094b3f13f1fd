package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// flatten writes into the empty directory to one overlay layer that shows what
// a stack of them shows, topmost first, whatever it is put on. Files are other
// names of those in the stack: layers never change.
func flatten(ctx context.Context, layers []string, to string) error {
	f := &flattener{ctx: ctx}
	if err := f.dir(layers, to, false); err != nil {
		return fmt.Errorf("flatten layers: %w", err)
	}
	return nil
}

type flattener struct{ ctx context.Context }

// dir merges directories, topmost first, into to. closed is true when the
// lowest of them hides what lies below the stack.
func (f *flattener) dir(dirs []string, to string, closed bool) error {
	if err := f.ctx.Err(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if name := e.Name(); !seen[name] {
				seen[name] = true
				if err := f.entry(dirs[i:], name, filepath.Join(to, name)); err != nil {
					return err
				}
			}
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(dirs[0], &st); err != nil {
		return err
	}
	if err := copyAttributes(dirs[0], to, &st); err != nil {
		return err
	}
	return markOpaque(to, closed, &st)
}

// entry writes what a name stands for; the first of the directories has it.
func (f *flattener) entry(dirs []string, name, to string) error {
	top := filepath.Join(dirs[0], name)
	var st unix.Stat_t
	if err := unix.Lstat(top, &st); err != nil {
		return &os.PathError{Op: "stat", Path: top, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return f.file(top, to, &st)
	}
	merged, closed := []string{top}, isOpaque(top)
	for _, dir := range dirs[1:] {
		if closed {
			break
		}
		below := filepath.Join(dir, name)
		err := unix.Lstat(below, &st)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "stat", Path: below, Err: err}
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			closed = true // removed there, or something else
			break
		}
		merged, closed = append(merged, below), isOpaque(below)
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	return f.dir(merged, to, closed)
}

func (f *flattener) file(from, to string, st *unix.Stat_t) error {
	if isWhiteout(st) {
		return unix.Mknod(to, unix.S_IFCHR, 0) // gVisor's are all names of one file, which has a limit
	}
	err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, to, 0)
	if err == nil || !errors.Is(err, unix.EMLINK) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EXDEV) {
		return err
	}
	src, err := openDir(unix.AT_FDCWD, filepath.Dir(from))
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := openDir(unix.AT_FDCWD, filepath.Dir(to))
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	single := *st
	single.Nlink = 1
	c := &layerCopy{ctx: f.ctx, links: map[inode]string{}, root: filepath.Dir(to)}
	return c.node(src, dst, filepath.Base(to), filepath.Base(to), &single)
}

// markOpaque sets or removes the mark, and puts the directory's times back.
func markOpaque(dir string, opaque bool, st *unix.Stat_t) error {
	for _, mark := range opaqueMarks {
		if err := unix.Lremovexattr(dir, mark); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	if !opaque {
		return nil
	}
	if err := unix.Lsetxattr(dir, opaqueMarks[0], []byte("y"), 0); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}
