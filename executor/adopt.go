package executor

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/internal/meta"
	"github.com/faas-platform/faas/pool"
)

// adoptInstances takes over the instances of dead processes and returns the
// sandboxes that instances hold, whoever looks after them.
func (e *Executor) adoptInstances(ctx context.Context) (keep map[string]bool, err error) {
	records, err := e.store.AllInstances(ctx)
	if err != nil {
		return nil, err
	}
	var group sync.WaitGroup
	for _, r := range records {
		if e.instances.find(r.ID) != nil {
			continue
		}
		group.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
			defer cancel()
			if _, err := e.adoptInstance(ctx, r); err != nil {
				e.log.Error("an instance could not be taken over", "instance", r.ID, "error", err)
			}
		})
	}
	group.Wait()
	if records, err = e.store.AllInstances(ctx); err != nil { // as they are now
		return nil, err
	}
	keep = map[string]bool{}
	for _, r := range records {
		if r.SandboxID != "" {
			keep[r.SandboxID] = true
		}
	}
	return keep, nil
}

// adoptInstance takes over one instance when its process is dead and this one
// has its runtime; nil, nil when not.
func (e *Executor) adoptInstance(ctx context.Context, r meta.Instance) (*instance, error) {
	d := e.drivers[r.Runtime]
	if d == nil {
		return nil, nil
	}
	done, err := e.instances.adopt(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	defer done()
	if x := e.instances.find(r.ID); x != nil {
		return x, nil // by another call of this process
	}
	claimed, err := e.store.ClaimInstance(ctx, r)
	if err != nil {
		return nil, err
	}
	if !claimed && !e.instances.retry(r.ID) {
		return nil, nil
	}
	var p private
	if err := json.Unmarshal(r.Private, &p); err != nil {
		return nil, faas.Errorf(faas.KindInternal, "the record of %s cannot be read: %w", r.ID, err)
	}
	r.Owner = e.store.Owner()
	x := newInstance(r, p)
	<-x.turn
	defer func() { x.turn <- struct{}{} }()
	if r.Status == faas.InstanceCreating || r.Status == faas.InstanceDeleting {
		// One was never acknowledged, the other has begun to go.
		if p.Handle != nil {
			e.removeLeft(ctx, d, *p.Handle)
		}
		e.forgetInstance(x)
		return nil, nil
	}
	if err := e.recoverInstance(ctx, x, d); err != nil {
		e.instances.lose(x.id)
		return nil, err
	}
	e.instances.add(x)
	e.reopen(ctx, x)
	e.log.Info("took over an instance", "instance", x.id, "status", x.status())
	return x, nil
}

// removeLeft destroys the sandbox of a handle, if there is one.
func (e *Executor) removeLeft(ctx context.Context, d driver.Driver, h driver.Handle) {
	s, err := d.Recover(ctx, h)
	if errors.Is(err, faas.ErrNotFound) {
		return // the sweep removes what is left of it
	}
	if err == nil {
		err = s.Destroy(ctx)
	}
	if err != nil {
		e.log.Error("the sandbox of an instance that is being deleted could not be removed; the next start does", "sandbox", h.ID, "error", err)
	}
}

// recoverInstance finds an instance's sandbox again, and ends what was half
// done when its process died: what was not acknowledged did not happen.
func (e *Executor) recoverInstance(ctx context.Context, x *instance, d driver.Driver) error {
	record, p, _ := x.state()
	if p.Handle == nil {
		if record.Status == faas.InstanceStarting && p.State == "" {
			return e.save(x, failed("the daemon ended while it was being started"))
		}
		if record.Status == faas.InstanceStarting {
			return e.save(x, func(r *meta.Instance, _ *private) { r.Status = faas.InstanceStopped })
		}
		return nil
	}
	made, err := d.Recover(ctx, *p.Handle)
	if errors.Is(err, faas.ErrNotFound) {
		return e.save(x, failed("its sandbox ended while no daemon ran"))
	}
	if err != nil {
		return err
	}
	status := record.Status
	if status != faas.InstancePaused {
		if pauser, ok := made.(driver.Pauser); ok && status != faas.InstanceRunning {
			if err := pauser.Resume(ctx); err != nil {
				e.log.Warn("an instance may still be paused", "instance", x.id, "error", err)
			}
		}
		status = faas.InstanceRunning
	}
	s := connect(made, driver.Image{Ref: record.Image, Digest: p.ImageDigest})
	s.Gone = func() {
		if err := e.snapshots.ReleaseHolder(made.ID()); err != nil {
			e.log.Error("snapshots are held until the next start", "holder", made.ID(), "error", err)
		}
	}
	if err := e.save(x, func(r *meta.Instance, _ *private) { r.Status = status }); err != nil {
		return err
	}
	e.place(x, s)
	return nil
}

// statesInUse returns the snapshots that instances need.
func (e *Executor) statesInUse(ctx context.Context) (map[string]bool, error) {
	records, err := e.store.AllInstances(ctx)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, r := range records {
		var p private
		if err := json.Unmarshal(r.Private, &p); err != nil {
			return nil, faas.Errorf(faas.KindInternal, "the record of %s cannot be read: %w", r.ID, err)
		}
		used[p.Base], used[p.State] = true, true
	}
	delete(used, "")
	return used, nil
}

// sweepStates removes the hidden states that dead processes left and ends the
// leases of sandboxes that are gone.
func (e *Executor) sweepStates(ctx context.Context, keep map[string]bool) {
	if err := e.snapshots.Sweep(func(holder string) bool { return keep[holder] }); err != nil {
		e.log.Warn("sweeping snapshots failed", "error", err)
	}
	used, err := e.statesInUse(ctx)
	if err != nil {
		e.log.Warn("sweeping the states of instances failed", "error", err)
		return
	}
	for _, m := range e.snapshots.Hidden() {
		// One that a living process has just made may not be on record yet.
		if r, err := e.store.Instance(ctx, m.Project, m.InstanceID); used[m.ID] || err == nil && r.Owner != e.store.Owner() {
			continue
		}
		e.dropHidden(m.ID)
	}
}

// closeInstances ends this process's connections to its instances, which live
// on.
func (e *Executor) closeInstances() {
	for _, x := range e.instances.all() {
		if _, _, s := x.state(); s != nil {
			s.Client.Close() //nolint:errcheck // connections only
		}
	}
}

// gone says that a sandbox was destroyed.
func gone(s *pool.Sandbox) {
	if s.Gone != nil {
		s.Gone()
	}
}
