package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// syncers is how many files are synced at once: the device sees a queue
// instead of one request after the other.
const syncers = 8

// syncTree syncs every file and directory below dir and returns how many bytes
// the files take: holes take none.
func syncTree(ctx context.Context, dir string) (int64, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(syncers)
	var size int64
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case entry.Type().IsRegular():
			info, err := entry.Info()
			if err != nil {
				return err
			}
			size += taken(info)
			group.Go(func() error { return syncPath(path) })
		case entry.IsDir():
			group.Go(func() error { return syncPath(path) })
		}
		return nil
	})
	return size, errors.Join(err, group.Wait())
}

// treeSize sums the sizes of the files below dir.
func treeSize(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += taken(info)
		}
		return err
	})
	return size, err
}

// taken is what a file takes of the disk, at most its size: the last block of
// a small file is not all its own.
func taken(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return min(info.Size(), st.Blocks*512)
	}
	return info.Size()
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncDir(path string) error { return syncPath(path) }

// writeDurably replaces a file with the JSON of v: aside, synced, renamed.
func writeDurably(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(tmp)))
	}
	return syncDir(filepath.Dir(path))
}

// removeAll removes a tree that may hold directories without permissions: a
// sandbox set them.
func removeAll(path string) error {
	err := os.RemoveAll(path)
	if err == nil || os.Geteuid() == 0 {
		return err
	}
	walkErr := filepath.WalkDir(path, func(p string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return err
	})
	return errors.Join(ignoreMissing(walkErr), os.RemoveAll(path))
}
