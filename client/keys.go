package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/faas-platform/faas/api"
)

// Keys are the API keys; their calls take an admin's.
type Keys struct{ c *Client }

// KeyFilter says which keys are listed; what is empty does not matter.
type KeyFilter struct {
	ListOptions
	Project string `json:"project,omitempty"`
}

// Create makes a key; Key of the answer is the only time that it shows.
func (k *Keys) Create(ctx context.Context, request api.CreateAPIKeyRequest) (*api.NewAPIKey, error) {
	return create[api.NewAPIKey](ctx, k.c, api.PathAPIKeys, request)
}

// Get returns one key.
func (k *Keys) Get(ctx context.Context, id string) (*api.APIKey, error) {
	return get[api.APIKey](ctx, k.c, pathOf(api.PathAPIKeys, id, ""), nil)
}

// List yields every key, oldest first.
func (k *Keys) List(ctx context.Context, filter KeyFilter) iter.Seq2[api.APIKey, error] {
	query := values("project", filter.Project, "limit", filter.limit())
	return pages(ctx, k.c, api.PathAPIKeys, query, func(p *api.APIKeyList) ([]api.APIKey, string) { return p.APIKeys, p.NextCursor })
}

// Delete revokes a key.
func (k *Keys) Delete(ctx context.Context, id string) error {
	_, err := call[api.APIKey](ctx, k.c, http.MethodDelete, pathOf(api.PathAPIKeys, id, ""), nil)
	return err
}
