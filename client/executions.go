package client

import (
	"context"
	"iter"
	"strconv"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Executions are the executions on record.
type Executions struct{ c *Client }

// ListOptions says how a list comes.
type ListOptions struct {
	Limit int `json:"limit,omitempty"` // size of a page; 0: the server's
}

func (o ListOptions) limit() string {
	if o.Limit == 0 {
		return ""
	}
	return strconv.Itoa(o.Limit)
}

// List yields every execution, newest first.
func (e *Executions) List(ctx context.Context, opts ListOptions) iter.Seq2[faas.Execution, error] {
	return pages(ctx, e.c, api.PathExecutions, values("limit", opts.limit()), func(p *api.ExecutionList) ([]faas.Execution, string) {
		return p.Executions, p.NextCursor
	})
}

// Get shows one execution; faas.ErrNotFound when the project has none of that
// id.
func (e *Executions) Get(ctx context.Context, id string) (*faas.Execution, error) {
	return get[faas.Execution](ctx, e.c, pathOf(api.PathExecutions, id, ""), nil)
}

// Cancel ends a running execution and returns when its processes are gone.
func (e *Executions) Cancel(ctx context.Context, id string) (*faas.Execution, error) {
	return create[faas.Execution](ctx, e.c, pathOf(api.PathExecutions, id, "/cancel"), nil)
}

// Fork runs a command beside each other Count times, or the Variants, each in
// a copy of what an execution left.
func (e *Executions) Fork(ctx context.Context, id string, request api.ForkRequest) ([]api.ForkedExecution, error) {
	return e.c.forkAt(ctx, pathOf(api.PathExecutions, id, "/fork"), request)
}

// StreamLogs is Client.StreamLogs.
func (e *Executions) StreamLogs(ctx context.Context, id, since string) iter.Seq2[*api.ServerFrame, error] {
	return e.c.StreamLogs(ctx, id, since)
}

// ForkExecution runs a command beside each other Count times, or the Variants,
// each in a copy of what an execution left.
func (c *Client) ForkExecution(ctx context.Context, id string, request api.ForkRequest) ([]api.ForkedExecution, error) {
	return c.Executions.Fork(ctx, id, request)
}

// Fork runs a command beside each other Count times, or the Variants, each in
// a copy of one state: an instance, an execution, a snapshot or a branch.
func (c *Client) Fork(ctx context.Context, request api.ForkRequest) ([]api.ForkedExecution, error) {
	return c.forkAt(ctx, api.PathFork, request)
}

func (c *Client) forkAt(ctx context.Context, path string, request api.ForkRequest) ([]api.ForkedExecution, error) {
	made, err := create[[]api.ForkedExecution](ctx, c, path, request)
	if err != nil {
		return nil, err
	}
	return *made, nil
}
