package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Runtimes is what the gateway needs to say what the machine can do.
type Runtimes interface {
	Runtimes(ctx context.Context, refresh bool) []faas.Capabilities
}

// registerServer registers what tells of the server itself.
func (g *Gateway) registerServer() {
	handle(g, huma.Operation{
		OperationID: "get-health", Method: http.MethodGet, Path: api.PathHealth, Tags: []string{"server"},
		Summary:     "Say whether the server works",
		Description: "Needs no key. Never waits for a probe of the runtimes: one that is under way shows as `probing`.",
		Security:    []map[string][]string{},
	}, exampleHealth, g.health)
	handle(g, huma.Operation{
		OperationID: "list-runtimes", Method: http.MethodGet, Path: api.PathRuntimes, Tags: []string{"server"},
		Summary:     "List every runtime with what it can do here, and why not what it cannot",
		Description: "Answers are at most a minute old; `refresh=true` probes again.",
		Errors:      []int{http.StatusBadRequest, http.StatusUnauthorized},
	}, exampleRuntimes, g.listRuntimes)
	handle(g, huma.Operation{
		OperationID: "get-metrics", Method: http.MethodGet, Path: api.PathMetrics, Tags: []string{"server"},
		Summary: "Count what the project did since the server started",
		Errors:  []int{http.StatusUnauthorized},
	}, exampleMetrics, g.metrics)
}

func (g *Gateway) health(ctx context.Context, _ *struct{}) (api.Health, error) {
	known, probing := g.knownRuntimes(ctx)
	h := api.Health{
		Status: "ok", Version: g.opts.Version, UptimeMS: time.Since(g.started).Milliseconds(),
		Runtimes: []faas.Runtime{}, Probing: probing,
	}
	if g.draining.Load() {
		h.Status = "draining"
	}
	for _, c := range known {
		if !c.Available {
			continue
		}
		h.Runtimes = append(h.Runtimes, c.Runtime)
		h.Docker = h.Docker || c.Runtime == faas.RuntimeDocker
		h.Firecracker = h.Firecracker || c.Runtime == faas.RuntimeFirecracker
	}
	return h, nil
}

type runtimesInput struct {
	Refresh bool `query:"refresh" doc:"Probe again."`
}

func (g *Gateway) listRuntimes(ctx context.Context, in *runtimesInput) (api.RuntimeList, error) {
	known := g.opts.Executor.Runtimes(ctx, in.Refresh)
	if err := ctx.Err(); err != nil {
		return api.RuntimeList{}, err
	}
	if known == nil {
		known = []faas.Capabilities{}
	}
	return api.RuntimeList{Runtimes: known}, nil
}

func (g *Gateway) metrics(ctx context.Context, _ *struct{}) (api.Metrics, error) {
	who := identity(ctx)
	m := g.counters.of(who.Project)
	m.UptimeMS = time.Since(g.started).Milliseconds()
	now := time.Now()
	instances, memory, cpuMS, err := g.resident(ctx, who.Project)
	if err != nil {
		return m, err
	}
	m.ActiveInstances, m.ActiveContainers = instances, instances+m.Running
	m.MemoryUsageMB = float64(memory) / (1 << 20)
	m.CPUUsagePercent = g.counters.cpuPercent(who.Project, cpuMS, now)
	if g.opts.Counters != nil && who.Installation() {
		m.Executor = g.opts.Counters()
	}
	return m, nil
}
