package gateway

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Pools is what the gateway needs to show and to size the pools.
type Pools interface {
	Pools() []faas.Pool
	SetPool(ctx context.Context, req faas.PoolRequest) (*faas.Pool, error)
	RemovePool(ctx context.Context, id string) error
	Prewarm(ctx context.Context, req faas.PoolRequest, count int) (*faas.Pool, error)
}

type poolInput struct {
	ID string `path:"id" doc:"Id of the pool." example:"pool-5f2c1a9e0b7d4c83"`
}

// registerPools registers what concerns warm sandboxes. They belong to the
// installation, so only admins size them; members may have some made for a
// while.
func (g *Gateway) registerPools() {
	handle(g, huma.Operation{
		OperationID: "list-pools", Method: http.MethodGet, Path: api.PathPools, Tags: []string{"pools"},
		Summary: "List the pools of warm sandboxes, with their sizes and why",
		Errors:  []int{http.StatusUnauthorized},
	}, api.PoolList{Pools: []api.Pool{api.NewPool(examplePool)}}, func(ctx context.Context, _ *struct{}) (api.PoolList, error) {
		return poolList(slices.DeleteFunc(g.opts.Executor.Pools(), func(p faas.Pool) bool {
			_, err := visibleImage(ctx, g.opts.ImageNames, identity(ctx).Project, p.Image)
			return err != nil // another project's image is not shown
		})), nil
	})
	handleBody(g, huma.Operation{
		OperationID: "set-pool", Method: http.MethodPut, Path: api.PathPools, Tags: []string{"pools"},
		Summary:     "Set how many sandboxes of a kind are kept warm",
		Description: "For admins. It replaces what was set of the same runtime, image and limits, and outlasts restarts.",
		Errors:      []int{http.StatusUnprocessableEntity},
	}, map[string]any{"pool": api.PoolSettings{PoolKind: api.PoolKind{Image: "host", Runtime: faas.RuntimeNative}, Min: 2, Max: 16}},
		api.NewPool(examplePool), func(ctx context.Context, _ *struct{}, body *api.PoolSettings) (api.Pool, error) {
			if err := requireInstallation(ctx); err != nil {
				return api.Pool{}, err
			}
			return poolView(g.opts.Executor.SetPool(ctx, body.Request()))
		})
	handle(g, huma.Operation{
		OperationID: "remove-pool", Method: http.MethodDelete, Path: api.PathPools + "/{id}", Tags: []string{"pools"},
		Summary:       "Remove a pool and its warm sandboxes",
		Description:   "For admins. Answers with the pools that are left. One of the configuration is there again after a restart.",
		DefaultStatus: http.StatusOK,
		Errors:        []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound},
	}, poolList(nil), func(ctx context.Context, in *poolInput) (api.PoolList, error) {
		if err := requireInstallation(ctx); err != nil {
			return api.PoolList{}, err
		}
		if err := g.opts.Executor.RemovePool(ctx, in.ID); err != nil {
			return api.PoolList{}, err
		}
		return poolList(g.opts.Executor.Pools()), nil
	})
	handleBody(g, huma.Operation{
		OperationID: "prewarm", Method: http.MethodPost, Path: api.PathPrewarm, Tags: []string{"pools"},
		Summary:       "Have sandboxes made ahead of requests",
		Description:   "Answers at once; the pool in the answer tells, asked again, how far it is. They are kept for ten minutes.",
		DefaultStatus: http.StatusAccepted,
		Errors:        []int{http.StatusUnprocessableEntity},
	}, map[string]any{"prewarm": api.Prewarm{PoolKind: api.PoolKind{Image: "host"}, Count: 4}},
		api.NewPool(examplePool), func(ctx context.Context, _ *struct{}, body *api.Prewarm) (api.Pool, error) {
			return poolView(g.opts.Executor.Prewarm(ctx, body.Request(), body.Count))
		})
}

func poolView(p *faas.Pool, err error) (api.Pool, error) {
	if err != nil {
		return api.Pool{}, err
	}
	return api.NewPool(*p), nil
}

func poolList(pools []faas.Pool) api.PoolList {
	list := api.PoolList{Pools: make([]api.Pool, 0, len(pools))}
	for _, p := range pools {
		list.Pools = append(list.Pools, api.NewPool(p))
	}
	return list
}
