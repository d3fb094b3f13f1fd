package oci

import (
	"context"
	"errors"
	"fmt"

	"github.com/faas-platform/faas"
)

// Sweep removes the sandboxes of dead processes that keep rejects, in
// whatever state they were left, and returns their ids.
func (g *GVisor) Sweep(ctx context.Context, keep func(id string) bool) ([]string, error) {
	var removed []string
	err := g.work.Exclusive(func() error {
		ids, err := g.work.IDs()
		errs := []error{err}
		for _, id := range ids {
			if keep != nil && keep(id) || !g.abandoned(id) {
				continue
			}
			r, err := g.work.Load(id)
			if err != nil {
				r = &record{ID: id}
			}
			if err := g.remove(ctx, r); err != nil {
				errs = append(errs, fmt.Errorf("sandbox %s: %w", id, err))
				continue
			}
			removed = append(removed, id)
		}
		return errors.Join(append(errs, g.work.Tidy(), g.egress().sweep(ctx, g.work))...)
	})
	if err != nil {
		var known *faas.Error
		if !errors.As(err, &known) {
			err = &faas.Error{Kind: faas.KindInternal, Op: "sweep", Err: err}
		}
		return removed, err
	}
	return removed, ctx.Err()
}

// abandoned says that no living process cares for a sandbox: its owner is
// dead, or it is this process and could not finish a Create or Destroy.
func (g *GVisor) abandoned(id string) bool {
	r, err := g.work.Load(id)
	if err != nil {
		return true // a record is written before anything else and stays to the end
	}
	if r.Owner != g.work.Owner() {
		return !g.work.OwnerAlive(r.Owner)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known := g.sandboxes[id]
	return !known && !g.busy[id] && g.ahead[id] == nil
}

// remove ends every process of a sandbox (all are in its control group from
// their first moment on) and removes all that is left of it, its directory
// last. Its mounts go away with its processes.
func (g *GVisor) remove(ctx context.Context, r *record) error {
	if g.tree == nil {
		return fmt.Errorf("sandbox %s cannot be removed without control groups: %w", r.ID, g.treeErr)
	}
	if err := g.egress().detach(ctx, r); err != nil {
		return err
	}
	if err := g.tree.Group(r.ID).Remove(ctx); err != nil {
		return err
	}
	if err := g.images.ReleaseOwner(ctx, r.ID); err != nil {
		return err
	}
	return g.work.Discard(r.ID)
}
