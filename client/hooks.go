package client

import (
	"sync"
	"time"

	"github.com/faas-platform/faas/api"
)

// Hooks are called by a client as things happen, on the goroutine of the call
// that they are about. Each may be nil.
type Hooks struct {
	Execution func(*api.ExecuteResponse) // a command ran
	Retry     func(Retry)
	Error     func(error)                // a call failed for good
	CacheHit  func(*api.ExecuteResponse) // its result was kept
	CacheMiss func(*api.ExecuteResponse) // it ran in the cached mode, and was not kept
}

// Retry says that a request is about to be sent again.
type Retry struct {
	Method, Path string
	Attempt      int // the trial that failed, from 1
	Delay        time.Duration
	Err          error
}

// Metrics is what a client counted about itself since it was made, or since
// ResetClientMetrics.
type Metrics struct {
	Requests    int64   `json:"requests"` // calls, however often each was sent
	Retries     int64   `json:"retries"`
	Errors      int64   `json:"errors"`
	Executions  int64   `json:"executions"`
	CacheHits   int64   `json:"cache_hits"`
	CacheMisses int64   `json:"cache_misses"`
	TotalMS     float64 `json:"total_ms"` // spent waiting for answers, retries included
}

// counter counts; safe for concurrent use.
type counter struct {
	mu  sync.Mutex
	now Metrics
}

func (c *counter) request(took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.Requests++
	c.now.TotalMS += float64(took) / float64(time.Millisecond)
	if err != nil {
		c.now.Errors++
	}
}

func (c *counter) retried() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.Retries++
}

func (c *counter) execution(hit, cached bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.Executions++
	switch {
	case hit:
		c.now.CacheHits++
	case cached:
		c.now.CacheMisses++
	}
}

func (c *counter) snapshot() Metrics {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = Metrics{}
}
