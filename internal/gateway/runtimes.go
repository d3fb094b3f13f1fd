package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/faas-platform/faas"
)

// runtimeCache keeps the last probe, so that /health never waits for one.
type runtimeCache struct {
	mu      sync.Mutex
	known   []faas.Capabilities
	probing chan struct{} // closed at the end of the probe that runs; nil: none
	at      time.Time
}

// healthProbeWait is how long /health waits for a probe that is under way;
// what is not known by then appears in a later answer.
const (
	healthProbeWait = 200 * time.Millisecond
	healthProbeAge  = time.Minute
)

// Probe begins to probe the runtimes, so that the first request finds them
// known. It does not wait.
func (g *Gateway) Probe() { g.startProbe() }

// startProbe begins a probe unless one runs or the last is fresh, and returns
// what the probe's end closes (nil: there is nothing to wait for).
func (g *Gateway) startProbe() <-chan struct{} {
	c := &g.runtimes
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.probing != nil {
		return c.probing
	}
	if g.draining.Load() || !c.at.IsZero() && time.Since(c.at) < healthProbeAge {
		return nil
	}
	done := make(chan struct{})
	c.probing = done
	g.work.Go(func() {
		known := g.opts.Executor.Runtimes(g.base, false)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.known, c.at, c.probing = known, time.Now(), nil
		close(done)
	})
	return done
}

// knownRuntimes returns the last probe and whether one is still under way.
func (g *Gateway) knownRuntimes(ctx context.Context) (known []faas.Capabilities, probing bool) {
	if done := g.startProbe(); done != nil {
		timer := time.NewTimer(healthProbeWait)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	c := &g.runtimes
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known, c.probing != nil
}
