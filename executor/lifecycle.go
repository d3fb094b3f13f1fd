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
// on when it is resumed. One that is paused already stays so, and does not wake
// by itself any more.
func (e *Executor) PauseInstance(ctx context.Context, project, id string) (*faas.Instance, error) {
	return e.changed(ctx, project, id, "pause", func(ctx context.Context, x *instance) error { return e.pauseTaken(ctx, x, false) })
}

// ResumeInstance lets the processes of a paused instance go on.
func (e *Executor) ResumeInstance(ctx context.Context, project, id string) (*faas.Instance, error) {
	return e.changed(ctx, project, id, "resume", e.resumeTaken)
}

// changed changes an instance in its turn and returns what it is then.
func (e *Executor) changed(ctx context.Context, project, id, op string, change func(context.Context, *instance) error) (*faas.Instance, error) {
	x, release, err := e.take(ctx, project, id, op)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := change(ctx, x); err != nil {
		return nil, err
	}
	e.expiry.poke()
	return x.view(), nil
}

// pauseTaken pauses an instance whose turn the caller has; asleep says that it
// wakes by itself.
func (e *Executor) pauseTaken(ctx context.Context, x *instance, asleep bool) error {
	if x.status() == faas.InstancePaused {
		return e.stayAwake(x)
	}
	return e.pausing(ctx, x, pauseStep{
		op: "pause", from: faas.InstanceRunning, through: faas.InstancePausing, to: faas.InstancePaused,
		do: driver.Pauser.Pause, asleep: asleep,
	})
}

func (e *Executor) resumeTaken(ctx context.Context, x *instance) error {
	if x.status() == faas.InstanceRunning {
		return nil
	}
	err := e.pausing(ctx, x, pauseStep{
		op: "resume", from: faas.InstancePaused, through: faas.InstanceResuming, to: faas.InstanceRunning, do: driver.Pauser.Resume,
	})
	x.mu.Lock()
	x.use.last = time.Now()
	x.mu.Unlock()
	return err
}

// stayAwake makes an instance that sleeps one that was paused or stopped on
// request.
func (e *Executor) stayAwake(x *instance) error {
	if !x.view().Asleep {
		return nil
	}
	return e.save(x, func(r *meta.Instance, _ *private) { r.Asleep = false })
}

// pauseStep is a change between running and paused.
type pauseStep struct {
	op                string
	from, through, to faas.InstanceStatus
	do                func(driver.Pauser, context.Context) error
	asleep            bool
}

func (e *Executor) pausing(ctx context.Context, x *instance, step pauseStep) error {
	if x.status() != step.from {
		return wrongStatus(x, step.op, "only one that is "+string(step.from)+" can "+step.op)
	}
	_, _, s := x.state()
	pauser, ok := s.Sandbox.(driver.Pauser)
	if !ok {
		return e.lacks(x, faas.FeaturePause, step.op)
	}
	back, err := e.transition(x, step.through)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, pauseTimeout)
	defer cancel()
	if err := step.do(pauser, limited); err != nil {
		back()
		return err
	}
	return e.save(x, func(r *meta.Instance, _ *private) { r.Status, r.Asleep = step.to, step.asleep })
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
// killed. One that is stopped already stays so, and does not wake by itself any
// more.
func (e *Executor) StopInstance(ctx context.Context, project, id string) (*faas.Instance, error) {
	return e.changed(ctx, project, id, "stop", func(ctx context.Context, x *instance) error { return e.stopTaken(ctx, x, false) })
}

// stopTaken stops an instance whose turn the caller has; asleep says that it
// wakes by itself.
func (e *Executor) stopTaken(ctx context.Context, x *instance, asleep bool) error {
	switch x.status() {
	case faas.InstanceStopped:
		return e.stayAwake(x)
	case faas.InstanceRunning, faas.InstancePaused:
	default:
		return wrongStatus(x, "stop", "start or delete it")
	}
	back, err := e.transition(x, faas.InstanceStopping)
	if err != nil {
		return err
	}
	record, p, s := x.state()
	m := e.manifestOf(record, p)
	m.Kind, m.Hidden = faas.SnapshotFS, true
	saved, _, err := e.saveState(ctx, s, m, p.Base)
	if err != nil {
		back()
		return err
	}
	err = e.save(x, func(r *meta.Instance, p *private) {
		r.Status, r.SandboxID, r.StartedAt, r.Asleep = faas.InstanceStopped, "", nil, asleep
		p.State, p.Base, p.Handle = saved.ID, saved.ID, nil
	})
	if err != nil {
		e.dropHidden(saved.ID)
		back()
		return err
	}
	x.mu.Lock()
	x.sandbox = nil
	x.mu.Unlock()
	e.countInstances()
	e.reaper.destroy(s)
	e.dropHidden(p.State, p.Base)
	return nil
}

// StartInstance makes a stopped instance run again from its files. A failed
// one begins again with what it was last made of.
func (e *Executor) StartInstance(ctx context.Context, project, id string) (*faas.Instance, error) {
	return e.changed(ctx, project, id, "start", e.startTaken)
}

func (e *Executor) startTaken(ctx context.Context, x *instance) error {
	switch x.status() {
	case faas.InstanceRunning:
		return nil
	case faas.InstanceStopped, faas.InstanceFailed:
	default:
		return wrongStatus(x, "start", "a paused one is resumed")
	}
	back, err := e.transition(x, faas.InstanceStarting)
	if err != nil {
		return err
	}
	if err := e.startAgain(ctx, x); err != nil {
		back()
		return err
	}
	return nil
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
	held, err := e.gate.hold(req.Resources.MemoryMB)
	if err != nil {
		return err
	}
	defer held()
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

// UpdateInstance changes what an instance is called and how long it lives and
// stays awake.
func (e *Executor) UpdateInstance(ctx context.Context, project, id string, update faas.InstanceUpdate) (*faas.Instance, error) {
	if err := checkUpdate(update); err != nil {
		return nil, err
	}
	return e.changed(ctx, project, id, "update", func(_ context.Context, x *instance) error {
		return e.save(x, func(r *meta.Instance, _ *private) { apply(update, r) })
	})
}

func checkUpdate(u faas.InstanceUpdate) error {
	if u.Name != nil {
		if err := checkName("name", *u.Name, true); err != nil {
			return err
		}
	}
	if u.TTL != nil && *u.TTL < 0 {
		return faas.InvalidField("ttl_ms", "is negative")
	}
	var idle time.Duration
	if u.IdleTimeout != nil {
		idle = *u.IdleTimeout
	}
	if err := checkIdle(idle, u.OnIdle); err != nil {
		return err
	}
	return checkLabels(&faas.Request{Labels: u.Labels})
}

func apply(u faas.InstanceUpdate, r *meta.Instance) {
	if u.Name != nil {
		r.Name = *u.Name
	}
	if u.Labels != nil {
		r.Labels = u.Labels
	}
	if u.TTL != nil {
		r.ExpiresAt = nil
		if *u.TTL > 0 {
			expires := time.Now().UTC().Add(*u.TTL)
			r.ExpiresAt = &expires
		}
	}
	if u.IdleTimeout != nil {
		r.IdleTimeoutMS = u.IdleTimeout.Milliseconds()
	}
	if u.OnIdle != "" {
		r.OnIdle = u.OnIdle
	}
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
