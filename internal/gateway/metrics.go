package gateway

import (
	"maps"
	"sync"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// counters counts executions by project.
type counters struct {
	mu       sync.Mutex
	projects map[string]*projectCount
}

type projectCount struct {
	ended, running, refused, cacheHits int64
	ran                                int64
	totalMS                            float64
	runtimes                           map[faas.Runtime]int64
}

// begin counts an execution as running until the function that it returns is
// called.
func (c *counters) begin(project string) func(*faas.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.projects == nil {
		c.projects = map[string]*projectCount{}
	}
	count := c.projects[project]
	if count == nil {
		count = &projectCount{runtimes: map[faas.Runtime]int64{}}
		c.projects[project] = count
	}
	count.running++
	return func(result *faas.Result, err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		count.running--
		count.ended++
		if err != nil {
			count.refused++
			return
		}
		count.ran++
		count.totalMS += result.DurationMS
		count.runtimes[result.RuntimeUsed]++
		if result.CacheHit {
			count.cacheHits++
		}
	}
}

// of returns what a project did.
func (c *counters) of(project string) api.Metrics {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := api.Metrics{ExecutionsByRuntime: map[faas.Runtime]int64{}}
	count := c.projects[project]
	if count == nil {
		return m
	}
	m.TotalRequests, m.Running, m.CacheHits = count.ended, count.running, count.cacheHits
	maps.Copy(m.ExecutionsByRuntime, count.runtimes)
	if count.ended > 0 {
		m.CacheHitRate = float64(count.cacheHits) / float64(count.ended)
		m.ErrorRate = float64(count.refused) / float64(count.ended)
	}
	if count.ran > 0 {
		m.AvgExecutionTimeMS = count.totalMS / float64(count.ran)
	}
	return m
}
