package executor

import (
	"context"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/internal/meta"
	"github.com/faas-platform/faas/snapshot"
)

// pauseTimeout bounds the stopping and continuing of processes in place.
const pauseTimeout = 30 * time.Second

// PauseInstance stops every process of an instance in place. Its commands go
// on when it is resumed. One that is paused already stays so.
func (e *Executor) PauseInstance(ctx context.Context, project, id string) (*faas.Instance, error) {
	return e.pausing(ctx, project, id, "pause", faas.InstanceRunning, faas.InstancePausing, faas.InstancePaused, driver.Pauser.Pause)
}

// ResumeInstance lets the processes of a paused instance go on.
func (e *Executor) ResumeInstance(ctx context.Context, project, id string) (*faas.Instance, error) {
	return e.pausing(ctx, project, id, "resume", faas.InstancePaused, faas.InstanceResuming, faas.InstanceRunning, driver.Pauser.Resume)
}

func (e *Executor) pausing(ctx context.Context, project, id, op string, from, through, to faas.InstanceStatus, do func(driver.Pauser, context.Context) error) (*faas.Instance, error) {
	x, release, err := e.take(ctx, project, id, op)
	if err != nil {
		return nil, err
	}
	defer release()
	_, _, s := x.state()
	switch x.status() {
	case to:
		return x.view(), nil
	case from:
	default:
		return nil, wrongStatus(x, op, "only one that is "+string(from)+" can "+op)
	}
	pauser, ok := s.Sandbox.(driver.Pauser)
	if !ok {
		return nil, e.lacks(x, faas.FeaturePause, op)
	}
	back, err := e.transition(x, through)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, pauseTimeout)
	defer cancel()
	if err := do(pauser, limited); err != nil {
		back()
		return nil, err
	}
	if err := e.save(x, func(r *meta.Instance, _ *private) { r.Status = to }); err != nil {
		return nil, err
	}
	return x.view(), nil
}

// lacks says why an instance's runtime cannot do something.
func (e *Executor) lacks(x *instance, f faas.Feature, op string) error {
	view := x.view()
	entry := e.probes.entry(view.Runtime)
	detail, remedy := "the runtime "+string(view.Runtime)+" does not offer it", "use a runtime that does: GET /api/v1/runtimes names them"
	if entry != nil {
		if answer := entry.answer.Load(); answer != nil && !answer.Has(f) {
			if c := answer.Feature(f); c.Reason != "" {
				detail, remedy = string(view.Runtime)+": "+c.Reason, c.Remedy
			}
		}
	}
	return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: op + " instance " + x.id, Detail: detail, Remedy: remedy}
}

// StopInstance keeps an instance's files and frees all else: its processes are
// killed. One that is stopped already stays so.
func (e *Executor) StopInstance(ctx context.Context, project, id string) (*faas.Instance, error) {
	x, release, err := e.take(ctx, project, id, "stop")
	if err != nil {
		return nil, err
	}
	defer release()
	switch x.status() {
	case faas.InstanceStopped:
		return x.view(), nil
	case faas.InstanceRunning, faas.InstancePaused:
	default:
		return nil, wrongStatus(x, "stop", "start or delete it")
	}
	back, err := e.transition(x, faas.InstanceStopping)
	if err != nil {
		return nil, err
	}
	record, p, s := x.state()
	m := e.manifestOf(record, p)
	m.Kind, m.Hidden = faas.SnapshotFS, true
	saved, _, err := e.saveState(ctx, s, m, p.Base)
	if err != nil {
		back()
		return nil, err
	}
	err = e.save(x, func(r *meta.Instance, p *private) {
		r.Status, r.SandboxID, r.StartedAt = faas.InstanceStopped, "", nil
		p.State, p.Base, p.Handle = saved.ID, saved.ID, nil
	})
	if err != nil {
		e.dropHidden(saved.ID)
		back()
		return nil, err
	}
	x.mu.Lock()
	x.sandbox = nil
	x.mu.Unlock()
	e.reaper.destroy(s)
	e.dropHidden(p.State, p.Base)
	return x.view(), nil
}

// StartInstance makes a stopped instance run again from its files. A failed
// one begins again with what it was last made of.
func (e *Executor) StartInstance(ctx context.Context, project, id string) (*faas.Instance, error) {
	x, release, err := e.take(ctx, project, id, "start")
	if err != nil {
		return nil, err
	}
	defer release()
	switch x.status() {
	case faas.InstanceRunning:
		return x.view(), nil
	case faas.InstanceStopped, faas.InstanceFailed:
	default:
		return nil, wrongStatus(x, "start", "a paused one is resumed")
	}
	back, err := e.transition(x, faas.InstanceStarting)
	if err != nil {
		return nil, err
	}
	if err := e.startAgain(ctx, x); err != nil {
		back()
		return nil, err
	}
	return x.view(), nil
}

func (e *Executor) startAgain(ctx context.Context, x *instance) error {
	record, p, _ := x.state()
	req := faas.Request{
		Project: record.Project, Command: []string{"true"}, Image: record.Image, Runtime: record.Runtime,
		Resources: record.Resources, Network: record.Network, Env: p.Env, Labels: record.Labels, Entropy: p.Entropy,
	}
	req, err := e.opts.Default.complete(req)
	if err != nil {
		return err
	}
	w := &execution{req: req, who: x.id, arrived: time.Now()}
	var from string
	if from = p.State; from == "" {
		from = p.Base
	}
	if from != "" {
		m, err := e.snapshots.Get(record.Project, from)
		if err != nil {
			return err
		}
		w.origin = &origin{manifest: m}
	}
	candidates, err := e.candidatesFor(ctx, req, faas.Resources{}, w.origin)
	if err != nil {
		return err
	}
	s, err := e.obtainFrom(ctx, w, candidates)
	if err != nil {
		return e.causeOf(ctx, err)
	}
	err = e.save(x, func(r *meta.Instance, p *private) {
		running(r, p, s, w)
		p.Base = from
	})
	if err != nil {
		e.reaper.add(s, nil)
		return err
	}
	e.place(x, s)
	return nil
}

// DeleteInstance ends an instance and removes all of it but the snapshots that
// were taken of it.
func (e *Executor) DeleteInstance(ctx context.Context, project, id string) error {
	x, release, err := e.take(ctx, project, id, "delete")
	if err != nil {
		return err
	}
	defer release()
	if _, err := e.transition(x, faas.InstanceDeleting); err != nil {
		return err
	}
	_, p, s := x.state()
	x.mu.Lock()
	x.deleted = true
	x.mu.Unlock()
	if s != nil {
		e.reaper.destroy(s)
	}
	e.forgetInstance(x)
	e.dropHidden(p.State, p.Base)
	return nil
}

// UpdateInstance changes the name and the labels of an instance, and how long
// it lives from now on: 0 leaves that as it is, a negative ttl lets it live
// until told otherwise. A nil name or labels stay as they are.
func (e *Executor) UpdateInstance(ctx context.Context, project, id string, name *string, labels map[string]string, ttl time.Duration) (*faas.Instance, error) {
	if name != nil {
		if err := checkName("name", *name, true); err != nil {
			return nil, err
		}
	}
	if err := checkLabels(&faas.Request{Labels: labels}); err != nil {
		return nil, err
	}
	x, release, err := e.take(ctx, project, id, "update")
	if err != nil {
		return nil, err
	}
	defer release()
	err = e.save(x, func(r *meta.Instance, _ *private) {
		if name != nil {
			r.Name = *name
		}
		if labels != nil {
			r.Labels = labels
		}
		if ttl > 0 {
			expires := time.Now().UTC().Add(ttl)
			r.ExpiresAt = &expires
		}
		if ttl < 0 {
			r.ExpiresAt = nil
		}
	})
	if err != nil {
		return nil, err
	}
	e.expiry.poke()
	return x.view(), nil
}

// manifestOf describes a snapshot of an instance.
func (e *Executor) manifestOf(r meta.Instance, p private) snapshot.Manifest {
	m := snapshot.Manifest{
		Project: r.Project, Runtime: r.Runtime, InstanceID: r.ID, Image: r.Image, ImageDigest: p.ImageDigest,
		Spec: faas.Spec{Project: r.Project, Image: r.Image, Resources: r.Resources, Network: r.Network, Env: p.Env, Labels: r.Labels},
	}
	if parent, err := e.snapshots.Get(r.Project, r.SnapshotID); err == nil && !parent.Hidden {
		m.ParentID = parent.ID
	}
	return m
}

// dropHidden removes the hidden snapshots among ids that no instance needs.
func (e *Executor) dropHidden(ids ...string) {
	for _, id := range ids {
		if id == "" {
			continue
		}
		if err := e.dropOne(id); err != nil {
			e.log.Error("a state that nothing needs could not be removed; the next start does", "snapshot", id, "error", err)
		}
	}
}

func (e *Executor) dropOne(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	e.instances.mu.Lock()
	defer e.instances.mu.Unlock()
	if e.instances.pins[id] > 0 {
		return nil
	}
	used, err := e.statesInUse(ctx)
	if err != nil || used[id] {
		return err
	}
	return e.snapshots.Drop(id)
}
