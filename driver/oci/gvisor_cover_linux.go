package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// cover makes a layer that tells all changes above the image one that is
// stacked on others: what they hold and the layer does not was removed since,
// and gets a whiteout. Only root in this file system may have written any of
// the directories meanwhile.
func cover(ctx context.Context, layer string, below []string) error {
	if len(below) == 0 {
		return nil
	}
	if err := coverDir(ctx, layer, below); err != nil {
		return fmt.Errorf("compare with the layers below: %w", err)
	}
	return nil
}

func coverDir(ctx context.Context, dir string, below []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var before unix.Stat_t
	if err := unix.Lstat(dir, &before); err != nil {
		return err
	}
	changed := false
	held, err := visible(below)
	if err != nil {
		return err
	}
	for name, places := range held {
		at := filepath.Join(dir, name)
		info, err := os.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := unix.Mknod(at, unix.S_IFCHR, 0); err != nil {
				return &os.PathError{Op: "make whiteout", Path: at, Err: err}
			}
			changed = true
		case err != nil:
			return err
		case info.IsDir() && len(places) > 0 && !isOpaque(at):
			if err := coverDir(ctx, at, places); err != nil {
				return err
			}
		}
	}
	if !changed {
		return nil
	}
	times := []unix.Timespec{before.Atim, before.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dir, times, unix.AT_SYMLINK_NOFOLLOW)
}

// visible lists what directories on each other, topmost first, show: of a
// directory the places where its own content is, of anything else none.
func visible(dirs []string) (map[string][]string, error) {
	out, ended := map[string][]string{}, map[string]bool{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			name, at := e.Name(), filepath.Join(dir, e.Name())
			if ended[name] {
				continue
			}
			if e.IsDir() {
				out[name] = append(out[name], at)
				ended[name] = isOpaque(at)
				continue
			}
			ended[name] = true
			if _, above := out[name]; above {
				continue // a directory hides it
			}
			if !isWhiteoutAt(unix.AT_FDCWD, at) {
				out[name] = nil
			}
		}
	}
	return out, nil
}

func isWhiteoutAt(dir int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func isOpaque(dir string) bool {
	var value [1]byte
	n, err := unix.Lgetxattr(dir, opaqueMark, value[:])
	return err == nil && n == 1 && value[0] == 'y'
}
