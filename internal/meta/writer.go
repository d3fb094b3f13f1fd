package meta

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"time"

	"github.com/faas-platform/faas"
)

const (
	batchWindow = 100 * time.Millisecond // how long events gather before they go to the database
	batchBytes  = 4 << 20                // or how many of them
	batchEvents = 1000                   // or how many events
	// pendingLimit bounds the events in memory. Beyond it Begin waits for the
	// database, so that a slow disk is felt instead of memory.
	pendingLimit  = 32 << 20
	admitPatience = 5 * time.Second
	syncPatience  = 10 * time.Second
	retryFirst    = 100 * time.Millisecond
	retryLast     = 5 * time.Second
)

// pendingEvent is an event on its way from the journal to the database.
type pendingEvent struct {
	op      string
	record  record
	segment *segment // that holds it; nil when the journal could not be written
	size    int
}

// writer carries events from memory into the database, in batches, from one
// goroutine.
type writer struct {
	db      *sql.DB
	journal *journal
	log     *slog.Logger

	mu       sync.Mutex
	pending  []pendingEvent
	bytes    int
	enqueued uint64        // events ever
	written  uint64        // events in the database
	lastErr  error         // of the last attempt; nil after a success
	progress chan struct{} // closed and renewed whenever written or lastErr changes

	some     chan struct{} // capacity 1: there are events
	hurry    chan struct{} // capacity 1: do not wait for more of them
	stopping chan struct{} // closed by close
	abort    context.CancelFunc
	ctx      context.Context // of the database's calls; ended by abort
	done     chan struct{}
}

func newWriter(db *sql.DB, j *journal, log *slog.Logger) *writer {
	ctx, abort := context.WithCancel(context.Background())
	return &writer{
		db: db, journal: j, log: log, ctx: ctx, abort: abort,
		progress: make(chan struct{}), some: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		stopping: make(chan struct{}), done: make(chan struct{}),
	}
}

// admit waits until there is room for one more execution's events.
func (w *writer) admit(ctx context.Context) error {
	w.mu.Lock()
	full := w.bytes >= pendingLimit
	w.mu.Unlock()
	if !full {
		return nil
	}
	return w.waitFor(ctx, admitPatience, "record the start of an execution", func() bool { return w.bytes < pendingLimit })
}

// sync waits until every event enqueued so far is in the database.
func (w *writer) sync(ctx context.Context) error {
	w.mu.Lock()
	target := w.enqueued
	behind := w.written < target
	w.mu.Unlock()
	if !behind {
		return nil
	}
	signal(w.hurry)
	return w.waitFor(ctx, syncPatience, "read the record of executions", func() bool { return w.written >= target })
}

// waitFor waits until a condition on the writer's state holds. The condition
// is called with the lock held.
func (w *writer) waitFor(ctx context.Context, patience time.Duration, op string, holds func() bool) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		w.mu.Lock()
		ok, progress, last := holds(), w.progress, w.lastErr
		w.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-progress:
		case <-w.done:
			w.mu.Lock()
			ok := holds()
			w.mu.Unlock()
			if ok {
				return nil
			}
			return &faas.Error{Kind: faas.KindUnavailable, Op: op, Detail: "the data directory was closed", Err: last}
		case <-ctx.Done():
			return &faas.Error{Kind: faas.KindOf(ctx.Err()), Op: op, Detail: "stopped while waiting for the database", Err: ctx.Err()}
		case <-deadline.C:
			return &faas.Error{Kind: faas.KindUnavailable, Op: op, Err: last, RetryAfter: retryLast,
				Detail: "the database did not take the pending events within " + patience.String(),
				Remedy: "check the data directory's free space and the disk's load"}
		}
	}
}

func (w *writer) enqueue(ev pendingEvent) {
	w.mu.Lock()
	w.pending = append(w.pending, ev)
	w.bytes += ev.size
	w.enqueued++
	urgent := w.bytes >= batchBytes || len(w.pending) >= batchEvents
	w.mu.Unlock()
	signal(w.some)
	if urgent {
		signal(w.hurry)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run is the writer's goroutine. It ends when close was called and everything
// is written, or when the calls to the database are aborted.
func (w *writer) run() {
	defer close(w.done)
	window := time.NewTimer(batchWindow)
	defer window.Stop()
	for {
		closing := false
		select {
		case <-w.some:
			window.Reset(batchWindow)
			select {
			case <-window.C:
			case <-w.hurry:
			case <-w.stopping:
				closing = true
			}
		case <-w.stopping:
			closing = true
		}
		if !w.flush() || closing {
			return
		}
	}
}

// flush writes everything that is pending and says whether it could. It
// tries again until the database takes it or its calls are aborted.
func (w *writer) flush() bool {
	for {
		batch := w.take()
		if len(batch) == 0 {
			return true
		}
		if !w.write(batch) {
			return false
		}
		w.tidyJournal(batch)
	}
}

// take removes the next batch from the pending events; its bytes count until
// it is written.
func (w *writer) take() []pendingEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.pending), batchEvents)
	batch := w.pending[:n:n]
	if w.pending = w.pending[n:]; len(w.pending) == 0 {
		w.pending = nil
	}
	return batch
}

// write brings a batch into the database, again and again with growing pauses.
func (w *writer) write(batch []pendingEvent) bool {
	pause := retryFirst
	for {
		err := applyEvents(w.ctx, w.db, w.journal.owner, batch)
		w.report(batch, err)
		if err == nil {
			return true
		}
		if w.ctx.Err() != nil {
			return false
		}
		w.log.Error("recording executions failed, trying again", "events", len(batch), "pause", pause, "error", err)
		retry := time.NewTimer(pause)
		select {
		case <-retry.C:
		case <-w.ctx.Done():
			retry.Stop()
			return false
		}
		pause = min(2*pause, retryLast)
	}
}

// report publishes the outcome of an attempt.
func (w *writer) report(batch []pendingEvent, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastErr = err
	if err == nil {
		w.written += uint64(len(batch))
		for _, ev := range batch {
			w.bytes -= ev.size
		}
	}
	close(w.progress)
	w.progress = make(chan struct{})
}

// tidyJournal accounts for a written batch, starts a new segment when the
// current one is full and removes those that nobody needs any more.
func (w *writer) tidyJournal(batch []pendingEvent) {
	for _, ev := range batch {
		if ev.segment != nil {
			ev.segment.committed++
		}
	}
	if err := w.journal.rotate(); err != nil {
		w.log.Error("rotating the journal failed, it goes on growing", "error", err)
	}
	if !w.journal.drained() {
		return
	}
	if err := checkpoint(w.ctx, w.db); err != nil {
		w.log.Warn("checkpoint failed, the journal is kept", "error", err)
		return
	}
	if err := w.journal.removeDrained(); err != nil {
		w.log.Warn("removing a journal segment failed", "error", err)
	}
}

// close writes what is pending until ctx ends and stops the writer.
func (w *writer) close(ctx context.Context) error {
	close(w.stopping)
	select {
	case <-w.done:
	case <-ctx.Done():
		w.abort()
		<-w.done
	}
	w.abort()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.written < w.enqueued {
		return &faas.Error{Kind: faas.KindUnavailable, Op: "close the data directory", Err: w.lastErr,
			Detail: "some events are not in the database yet; they stay in the journal and are adopted at the next start"}
	}
	return nil
}
