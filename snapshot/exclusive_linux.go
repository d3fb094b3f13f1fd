package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

const (
	// lockTimeout bounds the wait for another process's change: each takes
	// milliseconds.
	lockTimeout = 30 * time.Second
	lockPause   = 20 * time.Millisecond // between two tries, at most
)

// reaped is a directory that was taken out of sight to be removed.
type reaped struct {
	dir      string
	manifest *Manifest // nil: it could not be read
}

// exclusive takes the store for a change, among the goroutines of this process
// and among all processes that share it. What is renamed, leased or removed
// meanwhile is one step to everybody else. A process that dies lets go.
//
// Releasing it removes, outside the lock, what was taken out of sight under it.
func (s *Store) exclusive() (release func(), err error) {
	s.mu.Lock()
	// Opened for each change: leases may end after the store was closed.
	gate, err := os.OpenFile(filepath.Join(s.dir, fileLock), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		s.mu.Unlock()
		return nil, storeError("lock the snapshot store", err)
	}
	deadline := time.Now().Add(lockTimeout)
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, lockPause) {
		err := unix.Flock(int(gate.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			s.mu.Unlock()
			return nil, storeError("lock the snapshot store", errors.Join(err, gate.Close()))
		}
		if time.Now().After(deadline) {
			s.mu.Unlock()
			gate.Close() //nolint:errcheck // nothing was written
			return nil, &faas.Error{Kind: faas.KindUnavailable, Op: "lock the snapshot store",
				Detail: "another process has held it for " + lockTimeout.String(), RetryAfter: time.Second}
		}
		time.Sleep(pause)
	}
	return func() { s.release(gate) }, nil
}

func (s *Store) release(gate *os.File) {
	doomed := s.doomed
	s.doomed = nil
	gate.Close() //nolint:errcheck // which unlocks it
	s.mu.Unlock()
	for _, d := range doomed {
		if err := removeAll(d.dir); err != nil {
			s.log.Error("what is left of a removed snapshot stays until the next start", "directory", d.dir, "error", err)
		}
		if d.manifest != nil && s.opts.Forget != nil {
			s.opts.Forget(d.manifest)
		}
	}
}

// stamp tells one version of a manifest from another.
type stamp struct {
	inode uint64
	at    unix.Timespec
}

func (s *Store) stampOf(id string) (stamp, error) {
	var st unix.Stat_t
	path := filepath.Join(s.path(id), fileManifest)
	if err := unix.Stat(path, &st); err != nil {
		return stamp{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return stamp{st.Ino, st.Ctim}, nil
}

func (s *Store) exists(id string) bool {
	_, err := os.Stat(s.path(id))
	return err == nil
}
