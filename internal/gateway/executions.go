package gateway

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Executions is what the gateway needs to run commands and to show what ran.
type Executions interface {
	Execute(ctx context.Context, req faas.Request) (*faas.Result, error)
	Execution(ctx context.Context, project, id string) (*faas.Execution, error)
	Executions(ctx context.Context, project string, limit int, cursor string) ([]faas.Execution, string, error)
	Cancel(ctx context.Context, project, id string) error
}

func (g *Gateway) registerExecute() {
	for _, route := range []struct{ id, path, summary string }{
		{"execute", api.PathExecute, "Run a command in a sandbox of its own"},
		{"execute-advanced", api.PathExecuteAdvanced, "Run a command (the same as /api/v1/execute, for older clients)"},
	} {
		handleRaw(g, g.executeOperation(route.id, route.path, route.summary), g.execute)
	}
	handleRaw(g, socketOperation("execute-socket", api.PathExecuteSocket, "execute",
		"Run a command over a WebSocket, with live input, signals and a terminal"), g.executeSocket)
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
