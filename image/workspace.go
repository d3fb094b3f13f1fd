package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/faas-platform/faas"
)

// workspace is a directory for work in progress, on the file system of its
// final place. The lock beside it says that its process lives.
type workspace struct {
	dir  string
	lock *fileLock
}

const lockSuffix = ".lock"

// newWorkspace makes one. The lock comes before the directory and goes after
// it, so that a directory without a lock is always a leftover.
func (s *Store) newWorkspace() (*workspace, error) {
	var dir string
	var lock *fileLock
	var err error
	for range 3 { // a sweep may lock the file between its making and ours
		dir = s.path(tmpDir, faas.NewID("work"))
		if lock, err = tryLock(dir+lockSuffix, false); !errors.Is(err, errLocked) {
			break
		}
	}
	if err != nil {
		return nil, storeError("lock", dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		lock.removeAndUnlock() //nolint:errcheck // the first error says it
		return nil, storeError("make", dir, err)
	}
	return &workspace{dir: dir, lock: lock}, nil
}

// close removes the workspace and what is left in it.
func (w *workspace) close() error {
	return errors.Join(removeTree(w.dir), w.lock.removeAndUnlock())
}

// sweep removes workspaces and process leases whose process is gone.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.path(tmpDir))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		path := s.path(tmpDir, strings.TrimSuffix(e.Name(), lockSuffix))
		if e.IsDir() {
			if _, err := os.Stat(path + lockSuffix); err == nil {
				continue // its lock is among the entries
			}
			errs = append(errs, removeTree(path))
			continue
		}
		lock, err := tryLock(path+lockSuffix, false)
		if errors.Is(err, errLocked) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, removeTree(path), lock.removeAndUnlock())
	}
	return errors.Join(append(errs, s.sweepLeases())...)
}

// removeTree removes a tree, directories without write permission included.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	walkErr := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && err == nil {
			return os.Chmod(path, 0o700)
		}
		return err
	})
	if walkErr != nil && !errors.Is(walkErr, fs.ErrPermission) {
		return walkErr
	}
	return os.RemoveAll(dir)
}
