package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Health asks whether the server works. It needs no key.
func (c *Client) Health(ctx context.Context) (*api.Health, error) {
	return get[api.Health](ctx, c, api.PathHealth, nil)
}

// Runtimes lists what every runtime of the server can do; refresh probes again.
func (c *Client) Runtimes(ctx context.Context, refresh bool) ([]faas.Capabilities, error) {
	query := url.Values{}
	if refresh {
		query.Set("refresh", "true")
	}
	list, err := get[api.RuntimeList](ctx, c, api.PathRuntimes, query)
	if err != nil {
		return nil, err
	}
	return list.Runtimes, nil
}

// Executions lists executions, newest first: up to limit (0: 50, at most
// 1000), from the cursor of the page before ("": from the start).
func (c *Client) Executions(ctx context.Context, limit int, cursor string) (*api.ExecutionList, error) {
	query := url.Values{}
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	return get[api.ExecutionList](ctx, c, api.PathExecutions, query)
}

// Execution shows one execution; faas.ErrNotFound when the project has none of
// that id.
func (c *Client) Execution(ctx context.Context, id string) (*faas.Execution, error) {
	return get[faas.Execution](ctx, c, api.PathExecutions+"/"+url.PathEscape(id), nil)
}

// Cancel ends a running execution and returns when its processes are gone.
func (c *Client) Cancel(ctx context.Context, id string) (*faas.Execution, error) {
	return call[faas.Execution](ctx, c, http.MethodPost, api.PathExecutions+"/"+url.PathEscape(id)+"/cancel", nil)
}

// Metrics returns the project's counters.
func (c *Client) Metrics(ctx context.Context) (*api.Metrics, error) {
	return get[api.Metrics](ctx, c, api.PathMetrics, nil)
}

// ClientMetrics is what this client counted about itself.
func (c *Client) ClientMetrics() Metrics { return c.counter.snapshot() }

// ResetClientMetrics counts from zero.
func (c *Client) ResetClientMetrics() { c.counter.reset() }
