package executor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

const (
	probeAge = time.Minute // after which Runtimes probes again
	// probeStale is the age from which a request that finds no runtime has the
	// runtimes probed again before it is refused: the user may just have
	// installed what was missing.
	probeStale     = 5 * time.Second
	probeTimeout   = 15 * time.Second
	probeTimeoutVM = 45 * time.Second // a microVM's probe boots one
)

// probes caches what the drivers say of themselves. Each driver is probed by
// at most one goroutine at a time; requests read the last answer.
type probes struct {
	ctx     context.Context
	cache   *probeCache // nil: answers are kept in this process only
	tasks   sync.WaitGroup
	entries []*probe // in the order of faas.Runtimes
}

type probe struct {
	driver driver.Driver
	answer atomic.Pointer[faas.Capabilities]

	mu       sync.Mutex
	inflight chan struct{} // closed when the probe under way has answered; nil: none
}

func newProbes(ctx context.Context, drivers []driver.Driver, cache *probeCache) *probes {
	p := &probes{ctx: ctx, cache: cache}
	for _, d := range drivers {
		p.entries = append(p.entries, &probe{driver: d})
	}
	slices.SortStableFunc(p.entries, func(a, b *probe) int {
		return slices.Index(faas.Runtimes(), a.driver.Name()) - slices.Index(faas.Runtimes(), b.driver.Name())
	})
	return p
}

func (p *probes) entry(runtime faas.Runtime) *probe {
	for _, entry := range p.entries {
		if entry.driver.Name() == runtime {
			return entry
		}
	}
	return nil
}

// begin takes the answers of an earlier process that still hold, and starts a
// probe of every other driver.
func (p *probes) begin() {
	for _, entry := range p.entries {
		if kept := p.cache.recall(p.ctx, entry.driver); kept != nil {
			entry.answer.Store(kept)
			continue
		}
		p.start(entry)
	}
}

// start starts a probe unless one is under way, and returns a channel that is
// closed when it has answered.
func (p *probes) start(entry *probe) <-chan struct{} {
	entry.mu.Lock()
	defer entry.mu.Unlock()
	if entry.inflight != nil {
		return entry.inflight
	}
	done := make(chan struct{})
	if p.ctx.Err() != nil {
		close(done)
		return done
	}
	entry.inflight = done
	p.tasks.Go(func() { p.run(entry, done) })
	return done
}

// run probes one driver. When it does not answer in time that is the answer,
// but no other probe of it starts before it returns.
func (p *probes) run(entry *probe, done chan struct{}) {
	limit := probeTimeout
	if name := entry.driver.Name(); name == faas.RuntimeFirecracker || name == faas.RuntimeQEMU {
		limit = probeTimeoutVM
	}
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	answered := make(chan struct{})
	late := time.AfterFunc(limit+time.Second, func() {
		entry.answer.Store(silent(entry.driver.Name(), limit))
		close(done)
		close(answered)
	})
	begun := time.Now()
	found := entry.driver.Probe(ctx)
	if found.ProbedAt.IsZero() {
		found.ProbedAt, found.ProbeMS = begun.UTC(), milliseconds(time.Since(begun))
	}
	inTime := late.Stop()
	if !inTime {
		<-answered
	}
	entry.mu.Lock()
	entry.answer.Store(&found)
	entry.inflight = nil
	entry.mu.Unlock()
	if inTime {
		close(done)
	}
	p.cache.keep(ctx, entry.driver, found)
}

// silent is what is said of a runtime whose probe does not answer.
func silent(runtime faas.Runtime, limit time.Duration) *faas.Capabilities {
	return &faas.Capabilities{
		Runtime: runtime, ProbedAt: time.Now().UTC(), ProbeMS: milliseconds(limit),
		Reason: fmt.Sprintf("its probe did not answer within %v", limit),
		Remedy: "see whether what it drives hangs, then run `faas doctor`",
	}
}

// known returns the last answer of a runtime, waiting for the first one. ok
// is false when ctx ended before.
func (p *probes) known(ctx context.Context, entry *probe) (answer *faas.Capabilities, ok bool) {
	if answer := entry.answer.Load(); answer != nil {
		return answer, true
	}
	select {
	case <-p.start(entry):
		answer := entry.answer.Load()
		return answer, answer != nil
	case <-ctx.Done():
		return nil, false
	}
}

// all returns every driver's answer, probing again those that are too old.
func (p *probes) all(ctx context.Context, refresh bool) []faas.Capabilities {
	var pending []<-chan struct{}
	for _, entry := range p.entries {
		answer := entry.answer.Load()
		if refresh || answer == nil || time.Since(answer.ProbedAt) > probeAge {
			pending = append(pending, p.start(entry))
		}
	}
	for _, done := range pending {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
	list := make([]faas.Capabilities, 0, len(p.entries))
	for _, entry := range p.entries {
		if answer := entry.answer.Load(); answer != nil {
			list = append(list, *answer)
		} else {
			list = append(list, faas.Capabilities{Runtime: entry.driver.Name(), Reason: "its probe has not answered yet",
				Remedy: "ask again in a few seconds"})
		}
	}
	return list
}

// renew probes again what a refused request depends on, where the answers are
// old enough, and says whether anything was.
func (p *probes) renew(ctx context.Context) bool {
	var pending []<-chan struct{}
	for _, entry := range p.entries {
		if answer := entry.answer.Load(); answer != nil && time.Since(answer.ProbedAt) > probeStale {
			pending = append(pending, p.start(entry))
		}
	}
	for _, done := range pending {
		select {
		case <-done:
		case <-ctx.Done():
			return false
		}
	}
	return len(pending) > 0
}

// close waits for the probes under way, whose context has ended.
func (p *probes) close(ctx context.Context) error {
	ended := make(chan struct{})
	go func() { p.tasks.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
