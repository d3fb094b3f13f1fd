package client

import (
	"context"
	"net/url"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// HealthCheck asks whether the server works. It needs no key.
func (c *Client) HealthCheck(ctx context.Context) (*api.Health, error) {
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

// GetMetrics counts what the project did since the server started.
func (c *Client) GetMetrics(ctx context.Context) (*api.Metrics, error) {
	return get[api.Metrics](ctx, c, api.PathMetrics, nil)
}

// ClientMetrics is what this client counted about itself.
func (c *Client) ClientMetrics() Metrics { return c.counter.snapshot() }

// ResetClientMetrics counts from zero.
func (c *Client) ResetClientMetrics() { c.counter.reset() }
