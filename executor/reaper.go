package executor

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/faas-platform/faas/pool"
)

// reapAttempts is how often destroying one sandbox is tried; between them the
// reaper waits a second, then two.
const reapAttempts = 3

// reaper destroys sandboxes off the path of the answers, with a fixed number
// of workers. Its queue is as long as its callers let it become: the gate
// bounds the sandboxes that executions leave, the pool those that it discards.
type reaper struct {
	log    *slog.Logger
	failed atomic.Int64

	mu      sync.Mutex
	queue   []corpse
	pending int // queued and being destroyed
	closed  bool
	some    sync.Cond
	empty   chan struct{} // closed when closed and nothing is pending

	ctx     context.Context
	stop    context.CancelFunc
	workers sync.WaitGroup
}

// corpse is a sandbox to destroy and what to call then, whatever came of it.
type corpse struct {
	sandbox *pool.Sandbox
	done    func()
}

func newReaper(log *slog.Logger) *reaper {
	r := &reaper{log: log, empty: make(chan struct{})}
	r.some.L = &r.mu
	r.ctx, r.stop = context.WithCancel(context.Background())
	for range max(2, runtime.NumCPU()) {
		r.workers.Go(r.work)
	}
	return r
}

// add queues a sandbox to be destroyed; done may be nil.
func (r *reaper) add(s *pool.Sandbox, done func()) {
	r.mu.Lock()
	r.queue = append(r.queue, corpse{s, done})
	r.pending++
	r.mu.Unlock()
	r.some.Signal()
}

func (r *reaper) work() {
	for {
		r.mu.Lock()
		for len(r.queue) == 0 && !r.closed {
			r.some.Wait()
		}
		if len(r.queue) == 0 {
			r.mu.Unlock()
			return
		}
		c := r.queue[0]
		r.queue[0] = corpse{}
		r.queue = r.queue[1:]
		r.mu.Unlock()
		r.destroy(c.sandbox)
		if c.done != nil {
			c.done()
		}
		r.mu.Lock()
		r.pending--
		r.announceEmpty()
		r.mu.Unlock()
	}
}

// destroy removes one sandbox, trying again when it fails. What cannot be
// removed is left to the sweep of the next start.
func (r *reaper) destroy(s *pool.Sandbox) {
	s.Client.Close()
	pause := time.Second
	for attempt := 1; ; attempt++ {
		ctx, cancel := context.WithTimeout(r.ctx, destroyTimeout)
		err := s.Destroy(ctx)
		cancel()
		if err == nil {
			gone(s)
			return
		}
		if attempt == reapAttempts || r.ctx.Err() != nil {
			r.failed.Add(1)
			r.log.Error("a sandbox could not be removed", "sandbox", s.ID(), "error", err)
			return
		}
		retry := time.NewTimer(pause)
		select {
		case <-retry.C:
		case <-r.ctx.Done():
			retry.Stop()
		}
		pause *= 2
	}
}

// announceEmpty closes empty when it is time; the caller holds mu.
func (r *reaper) announceEmpty() {
	if r.closed && r.pending == 0 {
		select {
		case <-r.empty:
		default:
			close(r.empty)
		}
	}
}

// close destroys what is queued, until ctx ends, and stops the workers.
func (r *reaper) close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.announceEmpty()
	r.mu.Unlock()
	r.some.Broadcast()
	var err error
	select {
	case <-r.empty:
	case <-ctx.Done():
		err = ctx.Err()
		r.stop()
	}
	r.workers.Wait()
	r.stop()
	return err
}
