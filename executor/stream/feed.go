package stream

import (
	"context"
	"sync"
	"time"
)

// Feed is one sequence that any number of readers follow, each at its own
// pace. What its bounded buffer no longer holds is lost to a reader that comes
// too late, who is told.
type Feed[T any] struct {
	mu    sync.Mutex
	kept  ring[T]
	seq   int64
	start int64         // seq before the first entry
	moved chan struct{} // closed at the next entry
}

// Entry is one value of a feed.
type Entry[T any] struct {
	Seq   int64
	Value T
}

// NewFeed returns a feed that keeps limit bytes of entries. Its numbers begin
// at the present time, so that those of one process are never those of the
// next.
func NewFeed[T any](limit int) *Feed[T] {
	start := firstSeq(time.Now())
	return &Feed[T]{kept: ring[T]{limit: limit, dropped: start}, seq: start, start: start, moved: make(chan struct{})}
}

// firstSeq is a number that no earlier process used: a thousand entries a
// millisecond, and exact in JavaScript's numbers until the year 2255.
func firstSeq(now time.Time) int64 { return now.UnixMilli() * 1000 }

// Add appends a value that takes about size bytes.
func (f *Feed[T]) Add(value T, size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	f.kept.add(f.seq, size, value)
	close(f.moved)
	f.moved = make(chan struct{})
}

// Last returns the number of the newest entry.
func (f *Feed[T]) Last() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seq
}

// batch is how many entries are returned at once.
const batch = 64

// After returns entries beyond since, none when there are none, and the number
// to continue from. lost says that others between since and the first of them
// are gone.
func (f *Feed[T]) After(since int64) (found []Entry[T], at int64, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.after(since)
}

func (f *Feed[T]) after(since int64) (found []Entry[T], at int64, lost bool) {
	if at = since; at > f.seq {
		at = f.start - 1 // a number of another process
	}
	if at < f.kept.dropped {
		at, lost = f.kept.dropped, true
	}
	first := f.kept.after(at)
	for _, e := range f.kept.entries[first:min(first+batch, len(f.kept.entries))] {
		found, at = append(found, Entry[T]{e.seq, e.value}), e.seq
	}
	return found, at, lost
}

// Next is After that waits until there is something to return.
func (f *Feed[T]) Next(ctx context.Context, since int64) (found []Entry[T], at int64, lost bool, err error) {
	for {
		f.mu.Lock()
		found, at, lost = f.after(since)
		moved := f.moved
		f.mu.Unlock()
		if len(found) > 0 || lost {
			return found, at, lost, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, since, false, ctx.Err()
		}
	}
}
