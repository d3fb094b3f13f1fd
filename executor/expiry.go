package executor

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/faas-platform/faas"
)

const (
	// adoptEvery is how often instances of processes that died meanwhile are
	// taken over.
	adoptEvery = 5 * time.Second
	// expiryRetry is when the deletion of an expired instance that failed is
	// tried again.
	expiryRetry = 10 * time.Second
)

// expiry deletes instances whose time is over.
type expiry struct{ wake chan struct{} }

func newExpiry() *expiry { return &expiry{wake: make(chan struct{}, 1)} }

// poke makes the keeper look at the instances again.
func (k *expiry) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// keepTime deletes expired instances, puts idle ones to sleep, and takes over those of processes that
// died, until the executor closes.
func (e *Executor) keepTime() {
	timer := time.NewTimer(adoptEvery)
	defer timer.Stop()
	adopted := time.Now()
	for {
		pause := min(e.expire(time.Now()), e.idle(time.Now()))
		timer.Reset(min(pause, max(0, adoptEvery-time.Since(adopted))))
		select {
		case <-e.ctx.Done():
			return
		case <-e.expiry.wake:
		case <-timer.C:
		}
		if time.Since(adopted) >= adoptEvery {
			e.forgetGhosts()
			if _, err := e.adoptInstances(e.ctx); err != nil && e.ctx.Err() == nil {
				e.log.Warn("looking for instances without a living process failed", "error", err)
			}
			adopted = time.Now()
		}
	}
}

// ghosts are instances that are gone and whose records could not be removed:
// the disk was full.
type ghosts struct {
	mu  sync.Mutex
	ids []string
}

func (g *ghosts) add(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ids = append(g.ids, id)
}

func (g *ghosts) take() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids := g.ids
	g.ids = nil
	return ids
}

// forgetGhosts tries again to remove the records of instances that are gone.
func (e *Executor) forgetGhosts() {
	for _, id := range e.ghosts.take() {
		ctx, cancel := context.WithTimeout(e.ctx, recordTimeout)
		err := e.store.DeleteInstance(ctx, id)
		cancel()
		if err != nil && !errors.Is(err, faas.ErrNotFound) {
			e.ghosts.add(id)
		}
	}
}

// expire deletes the instances whose time is over, several at once, and
// returns when the next one's is.
func (e *Executor) expire(now time.Time) time.Duration {
	next := time.Hour
	var over []*instance
	for _, x := range e.instances.all() {
		at := x.view().ExpiresAt
		switch {
		case at == nil:
		case at.After(now):
			next = min(next, at.Sub(now))
		default:
			over = append(over, x)
		}
	}
	failures := make([]error, len(over))
	beside(len(over), func(i int) {
		ctx, cancel := context.WithTimeout(e.ctx, destroyTimeout*(reapAttempts+1))
		defer cancel()
		e.log.Info("an instance's time is over", "instance", over[i].id)
		failures[i] = e.DeleteInstance(ctx, over[i].project, over[i].id)
	})
	for i, err := range failures {
		if err != nil && !errors.Is(err, faas.ErrNotFound) && e.ctx.Err() == nil {
			e.log.Error("an expired instance could not be deleted", "instance", over[i].id, "error", err)
			next = min(next, expiryRetry)
		}
	}
	return next
}
