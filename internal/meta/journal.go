package meta

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/faas-platform/faas"
)

const (
	ownerPrefix  = "own"
	lockSuffix   = ".lock"
	segmentLimit = 8 << 20 // bytes after which a segment is closed
	// inheritedLimit is how long an heir of a dead owner's lock is waited for:
	// it is between its fork and its exec, for milliseconds on an idle machine.
	inheritedLimit    = 5 * time.Second
	inheritedInterval = 2 * time.Millisecond
)

// journal is the append-only log of one process: numbered segment files
// beside a lock file that says whether their owner lives.
type journal struct {
	dir   string
	owner string
	lock  *os.File

	// mu is held shared while a line is appended, and exclusively only for
	// the moment in which the current segment changes.
	mu      sync.RWMutex
	current *segment

	closed []*segment // segments that take no more lines; the writer's alone
}

// segment is one file of a journal.
type segment struct {
	number    int
	file      *os.File
	size      atomic.Int64
	appended  atomic.Int64 // events in it
	committed int64        // events of it in the database; the writer's alone
}

// openJournal starts a journal of a new owner in dir.
func openJournal(dir string) (*journal, error) {
	for range 16 {
		owner := faas.NewID(ownerPrefix)
		lock, err := acquireOwner(dir, owner)
		if err != nil {
			return nil, storeError("lock the journal", err)
		}
		if lock == nil {
			continue // another process took the new file for a dead owner's
		}
		j := &journal{dir: dir, owner: owner, lock: lock}
		if err := signOwner(lock); err != nil {
			j.discard()
			return nil, storeError("sign the journal's lock", err)
		}
		if j.current, err = j.openSegment(1); err != nil {
			j.discard()
			return nil, storeError("open the journal", err)
		}
		return j, nil
	}
	return nil, storeError("lock the journal", fmt.Errorf("every new lock file in %s was taken away", dir))
}

// acquireOwner creates and locks an owner's lock file, or locks the one that
// is there. It returns nil when someone else holds it, or removed it between
// the two steps.
func acquireOwner(dir, owner string) (*os.File, error) {
	path := filepath.Join(dir, owner+lockSuffix)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	locked, err := tryLock(f)
	if err == nil && !locked && ownerEnded(f) {
		locked, err = awaitLock(f)
	}
	if err != nil || !locked {
		f.Close()
		return nil, err
	}
	opened, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if present, err := os.Stat(path); err != nil || !os.SameFile(opened, present) {
		f.Close()
		return nil, nil
	}
	return f, nil
}

// awaitLock takes the lock of an owner that has ended, which a process that it
// was about to start still holds. That one lets go of it in a moment.
func awaitLock(f *os.File) (bool, error) {
	for deadline := time.Now().Add(inheritedLimit); ; time.Sleep(inheritedInterval) {
		locked, err := tryLock(f)
		if locked || err != nil || time.Now().After(deadline) {
			return locked, err
		}
	}
}

// releaseOwner removes an owner's lock file and ends its lock.
func releaseOwner(lock *os.File) {
	err := os.Remove(lock.Name())
	lock.Close()
	if err != nil {
		os.Remove(lock.Name()) // where an open file cannot be removed
	}
}

func (j *journal) openSegment(number int) (*segment, error) {
	f, err := os.OpenFile(filepath.Join(j.dir, segmentName(j.owner, number)),
		os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &segment{number: number, file: f}, nil
}

func segmentName(owner string, number int) string {
	return fmt.Sprintf("%s.%08d.log", owner, number)
}

// parseSegmentName is the inverse of segmentName.
func parseSegmentName(name string) (owner string, number int, ok bool) {
	rest, found := strings.CutSuffix(name, ".log")
	owner, digits, cut := strings.Cut(rest, ".")
	if !found || !cut || !faas.ValidID(ownerPrefix, owner) {
		return "", 0, false
	}
	number, err := strconv.Atoi(digits)
	return owner, number, err == nil
}

// append writes one line and returns the segment that holds it.
func (j *journal) append(line []byte) (*segment, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	seg := j.current
	if seg == nil {
		return nil, os.ErrClosed
	}
	seg.appended.Add(1)
	n, err := seg.file.Write(line)
	seg.size.Add(int64(n))
	if err != nil {
		seg.appended.Add(-1)
		return nil, err
	}
	return seg, nil
}

// rotate starts a new segment when the current one is full. The writer calls
// it, between batches.
func (j *journal) rotate() error {
	old := j.current // only rotate changes it
	if old == nil || old.size.Load() < segmentLimit {
		return nil
	}
	next, err := j.openSegment(old.number + 1)
	if err != nil {
		return storeError("rotate the journal", err)
	}
	j.mu.Lock()
	j.current = next
	j.mu.Unlock()
	j.closed = append(j.closed, old)
	return old.file.Close()
}

// drained says whether a closed segment could be removed.
func (j *journal) drained() bool {
	for _, seg := range j.closed {
		if seg.committed == seg.appended.Load() {
			return true
		}
	}
	return false
}

// removeDrained removes the closed segments whose events are all in the
// database.
func (j *journal) removeDrained() error {
	var first error
	kept := j.closed[:0]
	for _, seg := range j.closed {
		if seg.committed < seg.appended.Load() {
			kept = append(kept, seg)
			continue
		}
		if err := os.Remove(seg.file.Name()); err != nil && first == nil {
			first = storeError("remove a journal segment", err)
		}
	}
	j.closed = kept
	return first
}

// release gives the journal up and leaves its files to be adopted.
func (j *journal) release() {
	j.mu.Lock()
	if j.current != nil {
		j.current.file.Close()
		j.current = nil
	}
	j.mu.Unlock()
	j.lock.Close()
}

// discard removes the journal, whose events are all in the database.
func (j *journal) discard() {
	j.mu.Lock()
	if j.current != nil {
		j.current.file.Close()
		j.closed = append(j.closed, j.current)
		j.current = nil
	}
	j.mu.Unlock()
	for _, seg := range j.closed {
		os.Remove(seg.file.Name())
	}
	releaseOwner(j.lock)
}
