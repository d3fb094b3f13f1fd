package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/faas-platform/faas/api"
)

// Pools lists the pools of warm sandboxes.
func (c *Client) Pools(ctx context.Context) ([]api.Pool, error) {
	list, err := get[api.PoolList](ctx, c, api.PathPools, nil)
	if err != nil {
		return nil, err
	}
	return list.Pools, nil
}

// SetPool sets how many sandboxes of a kind are kept warm. It takes an admin's
// key.
func (c *Client) SetPool(ctx context.Context, settings api.PoolSettings) (*api.Pool, error) {
	return call[api.Pool](ctx, c, http.MethodPut, api.PathPools, settings)
}

// RemovePool removes a pool and its warm sandboxes. It takes an admin's key.
func (c *Client) RemovePool(ctx context.Context, id string) error {
	_, err := call[api.PoolList](ctx, c, http.MethodDelete, api.PathPools+"/"+url.PathEscape(id), nil)
	return err
}

// Prewarm has sandboxes made ahead of requests. It does not wait for them:
// Pools tells how many are ready.
func (c *Client) Prewarm(ctx context.Context, what api.Prewarm) (*api.Pool, error) {
	return call[api.Pool](ctx, c, http.MethodPost, api.PathPrewarm, what)
}
