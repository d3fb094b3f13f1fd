package gateway

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

// answer is the output of an operation with a JSON body.
type answer[T any] struct{ Body T }

// handle registers an operation with typed input and output, and an example of
// its answer.
func handle[I, T any](g *Gateway, op huma.Operation, example T, run func(context.Context, *I) (T, error)) {
	huma.Register(g.api, g.document(op), func(ctx context.Context, in *I) (*answer[T], error) {
		body, err := run(ctx, in)
		if err != nil {
			return nil, &statusError{err}
		}
		return &answer[T]{body}, nil
	})
	described(g.api.OpenAPI().Paths[op.Path], op.Method).Responses["200"].Content["application/json"].Example = example
}

// described returns the description of the operation just registered.
func described(item *huma.PathItem, method string) *huma.Operation {
	if method == http.MethodPost {
		return item.Post
	}
	return item.Get
}

// handleRaw registers an operation that reads and writes HTTP itself: one that
// streams, or whose body needs a decoder of its own. Its parameters, body and
// answers are described by op alone, and checked by run.
func handleRaw(g *Gateway, op huma.Operation, run http.HandlerFunc) {
	body := op.RequestBody
	op.RequestBody, op.SkipValidateParams = nil, true // huma would read it
	huma.Register(g.api, g.document(op), func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			r, w := humago.Unwrap(ctx)
			run(w, r)
		}}, nil
	})
	if body != nil {
		g.api.OpenAPI().Paths[op.Path].Post.RequestBody = body
	}
}

func (g *Gateway) register() {
	g.registerExecute()
	g.registerExecutions()
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
	tidySchemas(g.api.OpenAPI().Components.Schemas.Map())
	g.mux.HandleFunc("GET "+api.PathOpenAPI, g.serveOpenAPI)
	g.mux.HandleFunc("GET "+api.PathDocs, serveDocs)
}

func (g *Gateway) registerExecute() {
	for _, route := range []struct{ id, path, summary string }{
		{"execute", api.PathExecute, "Run a command in a sandbox of its own"},
		{"execute-advanced", api.PathExecuteAdvanced, "Run a command (the same as /api/v1/execute, for older clients)"},
	} {
		handleRaw(g, g.executeOperation(route.id, route.path, route.summary), g.execute)
	}
	handleRaw(g, socketOperation(), g.executeSocket)
}

type executionInput struct {
	ID string `path:"id" doc:"Id of the execution." example:"exec-0c7v4g6k1w0003f9a2m5d8r1t6"`
}

type executionsInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Executions on one page."`
	Cursor string `query:"cursor" doc:"The next_cursor of the page before."`
}

func (g *Gateway) registerExecutions() {
	handle(g, huma.Operation{
		OperationID: "list-executions", Method: http.MethodGet, Path: api.PathExecutions, Tags: []string{"executions"},
		Summary: "List the project's executions, newest first",
		Errors:  []int{http.StatusBadRequest, http.StatusUnauthorized},
	}, api.ExecutionList{Executions: []faas.Execution{exampleExecution}, NextCursor: ""}, func(ctx context.Context, in *executionsInput) (api.ExecutionList, error) {
		found, next, err := g.opts.Executor.Executions(ctx, identity(ctx).Project, in.Limit, in.Cursor)
		if found == nil {
			found = []faas.Execution{}
		}
		return api.ExecutionList{Executions: found, NextCursor: next}, err
	})
	handle(g, huma.Operation{
		OperationID: "get-execution", Method: http.MethodGet, Path: api.PathExecutions + "/{id}", Tags: []string{"executions"},
		Summary: "Show one execution",
		Errors:  []int{http.StatusUnauthorized, http.StatusNotFound},
	}, &exampleExecution, func(ctx context.Context, in *executionInput) (*faas.Execution, error) {
		return g.execution(ctx, in.ID)
	})
	handle(g, huma.Operation{
		OperationID: "cancel-execution", Method: http.MethodPost, Path: api.PathExecutions + "/{id}/cancel", Tags: []string{"executions"},
		Summary:     "End a running execution",
		Description: "Answers with the execution when its processes are gone.",
		Errors:      []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict},
	}, &exampleExecution, func(ctx context.Context, in *executionInput) (*faas.Execution, error) {
		if _, err := g.execution(ctx, in.ID); err != nil {
			return nil, err
		}
		if err := g.opts.Executor.Cancel(ctx, identity(ctx).Project, in.ID); err != nil {
			return nil, err
		}
		return g.execution(ctx, in.ID)
	})
}

func (g *Gateway) execution(ctx context.Context, id string) (*faas.Execution, error) {
	if !faas.ValidID(faas.PrefixExecution, id) {
		return nil, faas.Errorf(faas.KindNotFound, "there is no execution %q", id)
	}
	return g.opts.Executor.Execution(ctx, identity(ctx).Project, id)
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
	if g.opts.Counters != nil && who.Role.Allows(auth.RoleAdmin) {
		m.Executor = g.opts.Counters()
	}
	return m, nil
}

func (g *Gateway) serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "application/vnd.oai.openapi+json")
	header.Set("Content-Length", strconv.Itoa(len(g.openapi)))
	_, _ = w.Write(g.openapi)
}
