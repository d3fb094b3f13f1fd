package gateway

import (
	"context"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/telemetry"
)

// Paths of what is for the installation's own tools.
const (
	pathPrometheus = "/metrics"
	pathProfiles   = "/debug/pprof/"
)

// served counts the requests by operation.
type served struct {
	mu         sync.Mutex
	operations map[string]*servedOperation
}

type servedOperation struct {
	statuses map[int]int64
	duration telemetry.Histogram
}

// measured counts a request with its status and how long it took. Streams
// count with their whole life.
func (g *Gateway) measured(ctx huma.Context, next func(huma.Context)) {
	begun := time.Now()
	defer func() {
		c := callerOf(ctx.Context())
		if c == nil {
			return
		}
		s := &g.served
		s.mu.Lock()
		defer s.mu.Unlock()
		op := s.operations[ctx.Operation().OperationID]
		if op == nil {
			op = &servedOperation{statuses: map[int]int64{}}
			if s.operations == nil {
				s.operations = map[string]*servedOperation{}
			}
			s.operations[ctx.Operation().OperationID] = op
		}
		op.statuses[c.answer.status]++
		op.duration.Observe(float64(time.Since(begun).Microseconds()) / 1000)
	}()
	next(ctx)
}

// servePrometheus answers every metric of the installation. It is for keys of
// the default project, a read-only one included: a scraper needs no more.
func (g *Gateway) servePrometheus(w http.ResponseWriter, r *http.Request) {
	if identity(r.Context()).Project != faas.DefaultProject {
		g.fail(w, r, faas.Errorf(faas.KindPermissionDenied, "only keys of the project %s see the installation's metrics", faas.DefaultProject))
		return
	}
	text := &telemetry.Text{}
	text.Gauge("faas_uptime_seconds", "Seconds since the server started.", nil, time.Since(g.started).Seconds())
	g.writeExecutions(text)
	g.writeExecutor(text)
	g.writeServed(text)
	w.Header().Set("Content-Type", telemetry.TextType)
	w.Header().Set("Content-Length", strconv.Itoa(len(text.Bytes())))
	_, _ = w.Write(text.Bytes())
}

func (g *Gateway) writeExecutions(text *telemetry.Text) {
	c := &g.counters
	c.mu.Lock()
	defer c.mu.Unlock()
	projects := slices.Sorted(maps.Keys(c.projects))
	each := func(write func(project string, count *projectCount)) {
		for _, project := range projects {
			write(project, c.projects[project])
		}
	}
	each(func(project string, count *projectCount) {
		for _, runtime := range slices.Sorted(maps.Keys(count.runtimes)) {
			text.Counter("faas_executions_total", "Commands that ran.", telemetry.Labels{"project", project, "runtime", string(runtime)}, float64(count.runtimes[runtime]))
		}
	})
	each(func(project string, count *projectCount) {
		text.Counter("faas_executions_refused_total", "Commands that could not run.", telemetry.Labels{"project", project}, float64(count.refused))
	})
	each(func(project string, count *projectCount) {
		text.Counter("faas_cache_hits_total", "Answers that were remembered.", telemetry.Labels{"project", project}, float64(count.cacheHits))
	})
	each(func(project string, count *projectCount) {
		text.Counter("faas_cpu_seconds_total", "CPU time of commands.", telemetry.Labels{"project", project}, float64(count.cpuMS)/1000)
	})
	each(func(project string, count *projectCount) {
		text.Gauge("faas_executions_running", "Commands that run or wait.", telemetry.Labels{"project", project}, float64(count.running))
	})
	for i, stage := range stageNames {
		var all telemetry.Histogram
		each(func(_ string, count *projectCount) { all.Add(&count.stages[i]) })
		text.Histogram("faas_execution_stage_seconds", "How long commands spent in each stage.", telemetry.Labels{"stage", stage}, &all)
	}
}

func (g *Gateway) writeExecutor(text *telemetry.Text) {
	if g.opts.Counters == nil {
		return
	}
	m := g.opts.Counters()
	text.Counter("faas_executor_requests_total", "Executions begun.", nil, float64(m.Requests))
	text.Gauge("faas_executor_running", "Executions with a sandbox.", nil, float64(m.Running))
	text.Gauge("faas_executor_queued", "Executions that wait for their turn.", nil, float64(m.Queued))
	text.Counter("faas_pool_hits_total", "Executions that found a warm sandbox.", nil, float64(m.PoolHits))
	text.Counter("faas_cold_starts_total", "Executions that found none.", nil, float64(m.ColdStarts))
}

func (g *Gateway) writeServed(text *telemetry.Text) {
	s := &g.served
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Keys(s.operations))
	for _, name := range names {
		for _, status := range slices.Sorted(maps.Keys(s.operations[name].statuses)) {
			text.Counter("faas_http_requests_total", "Requests answered.", telemetry.Labels{"operation", name, "status", strconv.Itoa(status)}, float64(s.operations[name].statuses[status]))
		}
	}
	for _, name := range names {
		text.Histogram("faas_http_request_seconds", "How long requests took.", telemetry.Labels{"operation", name}, &s.operations[name].duration)
	}
}

// serveProfiles lets admins of the installation profile the server.
func (g *Gateway) serveProfiles(w http.ResponseWriter, r *http.Request) {
	if err := requireInstallation(r.Context()); err != nil {
		g.fail(w, r, err)
		return
	}
	switch r.URL.Path[len(pathProfiles):] {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
}

// registerObservation registers what tells how the server does.
func (g *Gateway) registerObservation() {
	handle(g, huma.Operation{
		OperationID: "get-detailed-metrics", Method: http.MethodGet, Path: api.PathMetricsDetailed, Tags: []string{serverArea},
		Summary:     "Show how long the project's commands spend in each stage",
		Description: "Since the server started. A percentile is at most a quarter above the true one.",
	}, api.DetailedMetrics{Stages: map[string]api.Percentiles{"run": {Count: 120, MeanMS: 8.5, P50MS: 7, P90MS: 11, P95MS: 14, P99MS: 30, MaxMS: 41}}},
		func(ctx context.Context, _ *struct{}) (api.DetailedMetrics, error) {
			return api.DetailedMetrics{Stages: g.counters.detailed(identity(ctx).Project)}, nil
		})
	g.mux.HandleFunc("GET "+pathPrometheus, g.servePrometheus)
	g.mux.HandleFunc("GET "+pathProfiles, g.serveProfiles)
}

// resident sums up what the project's instances take now.
func (g *Gateway) resident(ctx context.Context, project string) (instances, memoryBytes, cpuMS int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, residentTimeout)
	defer cancel()
	filter := faas.InstanceFilter{Limit: heldPage}
	for {
		list, next, err := g.opts.Executor.Instances(ctx, project, filter)
		if err != nil {
			return 0, 0, 0, err
		}
		for _, x := range list {
			if !holds(x.Status) {
				continue
			}
			instances++
			if stats, err := g.opts.Executor.InstanceStats(ctx, project, x.ID); err == nil { // one that ends meanwhile takes nothing
				memoryBytes += stats.MemoryBytes
				cpuMS += stats.CPUMS
			}
		}
		if filter.Cursor = next; next == "" {
			return instances, memoryBytes, cpuMS, nil
		}
	}
}

// residentTimeout bounds the reading of what instances take.
const residentTimeout = 5 * time.Second
