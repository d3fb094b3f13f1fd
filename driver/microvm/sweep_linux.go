package microvm

import (
	"context"
	"errors"
	"fmt"

	"github.com/faas-platform/faas"
)

// Sweep removes the machines of dead processes that keep rejects, in whatever
// state they were left, and returns their ids.
func (q *QEMU) Sweep(ctx context.Context, keep func(id string) bool) ([]string, error) {
	var removed []string
	err := q.work.Exclusive(func() error {
		ids, err := q.work.IDs()
		errs := []error{err}
		for _, id := range ids {
			if keep != nil && keep(id) || !q.abandoned(id) {
				continue
			}
			if err := q.remove(ctx, id); err != nil {
				errs = append(errs, fmt.Errorf("sandbox %s: %w", id, err))
				continue
			}
			removed = append(removed, id)
		}
		return errors.Join(append(errs, q.work.Tidy())...)
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
func (q *QEMU) abandoned(id string) bool {
	r, err := q.work.Load(id)
	if err != nil {
		return true // a record is written before anything else and stays to the end
	}
	if r.Owner != q.work.Owner() {
		return !q.work.OwnerAlive(r.Owner)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	_, known := q.sandboxes[id]
	return !known && !q.busy[id]
}

// remove ends the machine's process, which is in its control group from its
// first moment, and removes all that is left of it, its directory last.
func (q *QEMU) remove(ctx context.Context, id string) error {
	if q.tree == nil {
		return fmt.Errorf("sandbox %s cannot be removed without control groups: %w", id, q.treeErr)
	}
	if err := q.tree.Group(id).Remove(ctx); err != nil {
		return err
	}
	if err := q.images.ReleaseOwner(ctx, id); err != nil {
		return err
	}
	return q.work.Discard(id)
}
