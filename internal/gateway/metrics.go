package gateway

import (
	"maps"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/telemetry"
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
	cpuMS                              int64
	runtimes                           map[faas.Runtime]int64
	stages                             [len(stageNames)]telemetry.Histogram

	sampled   time.Time // when cpu_usage_percent was last told
	sampledMS int64     // CPU time used until then
}

// stageNames are what a command passes: it waits for its turn and a sandbox,
// it runs, and all of it together.
var stageNames = [...]string{"queue", "run", "total"}

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
	begun := time.Now()
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
		count.cpuMS += result.Usage.CPUMS
		for i, ms := range [...]float64{result.QueuedMS, result.DurationMS, float64(time.Since(begun).Microseconds()) / 1000} {
			count.stages[i].Observe(ms)
		}
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

// detailed returns how long a project's commands spent in each stage.
func (c *counters) detailed(project string) map[string]api.Percentiles {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]api.Percentiles{}
	count := c.projects[project]
	for i, name := range stageNames {
		h := &telemetry.Histogram{}
		if count != nil {
			h = &count.stages[i]
		}
		all[name] = api.Percentiles{
			Count: h.Count(), MeanMS: h.Mean(), P50MS: h.Quantile(.5), P90MS: h.Quantile(.9), P95MS: h.Quantile(.95), P99MS: h.Quantile(.99), MaxMS: h.Max(),
		}
	}
	return all
}

// cpuPercent returns how many hundredths of a CPU a project used since it was
// last asked, or since its first command; residentMS is what its instances used
// so far.
func (c *counters) cpuPercent(project string, residentMS int64, now time.Time) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	count := c.projects[project]
	if count == nil {
		return 0
	}
	used := count.cpuMS + residentMS
	since, usedSince := now.Sub(count.sampled), used-count.sampledMS
	first := count.sampled.IsZero()
	count.sampled, count.sampledMS = now, used
	if first || since <= 0 || usedSince < 0 { // an instance that is gone takes its time along
		return 0
	}
	return 100 * float64(usedSince) / float64(since.Milliseconds()+1)
}
