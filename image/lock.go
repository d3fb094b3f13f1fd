package image

import (
	"context"
	"errors"
	"os"
	"time"
)

// errLocked says that someone else holds a lock.
var errLocked = errors.New("locked by another holder")

// fileLock is an exclusive or shared flock(2). It belongs to the open file,
// so that two of one process exclude each other like those of two processes,
// and the kernel drops it when its process dies.
type fileLock struct{ f *os.File }

// unlock releases the lock and leaves its file.
func (l *fileLock) unlock() { l.f.Close() }

// removeAndUnlock removes the file while the lock on it is still held.
func (l *fileLock) removeAndUnlock() error {
	err := os.Remove(l.f.Name())
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	l.f.Close()
	return err
}

// tryLock locks path, making it when missing, or returns errLocked. A lock
// file may be removed by whoever holds its lock: after locking, the path is
// looked at again, and the attempt repeated when it names another file.
func tryLock(path string, shared bool) (*fileLock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flock(f, shared); err != nil {
			f.Close()
			return nil, err
		}
		mine, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		there, err := os.Stat(path)
		if err == nil && os.SameFile(mine, there) {
			return &fileLock{f}, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
}

// lockPath is tryLock that waits, asking again at growing intervals, until
// the context ends. waiting is called once when the lock is not free at once.
func lockPath(ctx context.Context, path string, shared bool, waiting func()) (*fileLock, error) {
	delay := time.Millisecond
	for {
		l, err := tryLock(path, shared)
		if !errors.Is(err, errLocked) {
			return l, err
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		case <-timer.C:
		}
		delay = min(delay*2, 100*time.Millisecond)
	}
}
