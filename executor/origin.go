package executor

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/snapshot"
)

// origin is a saved state to start from.
type origin struct {
	manifest *snapshot.Manifest
	branch   *faas.Branch // that it is the head of, when the caller named that
	done     func()
	pause    time.Duration // how long its source stood still for it
}

// release says that nothing more is made of the origin.
func (o *origin) release() {
	if o.done != nil {
		o.done()
	}
}

// lineage is the parent of what is saved later; a hidden state is nobody's.
func (o *origin) lineage() string {
	if o.manifest.Hidden {
		return o.manifest.ParentID
	}
	return o.manifest.ID
}

// inherit fills what a request leaves open with what the state was made of.
func (o *origin) inherit(req faas.Request) faas.Request {
	spec := o.manifest.Spec
	req.Image = o.manifest.Image
	req.Resources = fillResources(req.Resources, spec.Resources)
	if req.Network.Mode == "" && len(req.Network.Allow) == 0 {
		req.Network = spec.Network
	}
	if len(spec.Env) > 0 {
		env := maps.Clone(spec.Env)
		maps.Copy(env, req.Env)
		req.Env = env
	}
	return req
}

// resolve finds the state that a reference names: a snapshot, a branch by its
// id or name, an instance, which is saved for it, or an execution that left a
// state. The caller releases it.
func (e *Executor) resolve(ctx context.Context, project, ref string) (*origin, error) {
	kind, _, _ := strings.Cut(ref, "-")
	switch {
	case faas.ValidID(kind, ref) && kind == faas.PrefixSnapshot:
		return e.ofSnapshot(project, ref)
	case faas.ValidID(kind, ref) && kind == faas.PrefixInstance:
		return e.ofInstance(ctx, project, ref)
	case faas.ValidID(kind, ref) && kind == faas.PrefixExecution:
		return e.ofExecution(ctx, project, ref)
	}
	branch, err := e.store.Branch(ctx, project, ref)
	if err != nil {
		return nil, err
	}
	o, err := e.ofSnapshot(project, branch.Head)
	if err != nil {
		return nil, err
	}
	o.branch = branch
	return o, nil
}

func (e *Executor) ofSnapshot(project, id string) (*origin, error) {
	m, err := e.visible(project, id)
	if err != nil {
		return nil, err
	}
	return &origin{manifest: m}, nil
}

// visible returns a snapshot that users may name.
func (e *Executor) visible(project, id string) (*snapshot.Manifest, error) {
	m, err := e.snapshots.Get(project, id)
	if err == nil && m.Hidden {
		err = faas.Errorf(faas.KindNotFound, "there is no snapshot %s", id)
	}
	return m, err
}

// ofExecution finds what an execution left.
func (e *Executor) ofExecution(ctx context.Context, project, id string) (*origin, error) {
	record, err := e.store.Execution(ctx, project, id)
	if err != nil {
		return nil, err
	}
	switch r := record.Result; {
	case r != nil && r.SnapshotID != "":
		return e.ofSnapshot(project, r.SnapshotID)
	case r != nil && r.InstanceID != "":
		return e.ofInstance(ctx, project, r.InstanceID)
	}
	return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Op: "continue from " + id,
		Detail: "it left no state: it ran in mode " + string(record.Mode) + " and is " + string(record.Status),
		Remedy: "run it in mode checkpointed, branched or persistent"}
}

// ofInstance saves an instance in a hidden state that lasts until the origin
// is released and no instance needs it.
func (e *Executor) ofInstance(ctx context.Context, project, id string) (*origin, error) {
	x, release, err := e.take(ctx, project, id, "fork")
	if err != nil {
		return nil, err
	}
	defer release()
	record, p, s := x.state()
	if record.Status == faas.InstanceStopped {
		m, err := e.snapshots.Get(record.Project, p.State)
		if err != nil {
			return nil, err
		}
		return e.pinned(m), nil
	}
	if s == nil {
		return nil, wrongStatus(x, "fork", "start it first")
	}
	m := e.manifestOf(record, p)
	m.Hidden = true
	saved, pause, err := e.saveInstance(ctx, x, s, m, faas.SnapshotAuto)
	if err != nil {
		return nil, err
	}
	o := e.pinned(saved)
	o.pause = pause
	return o, nil
}

// pinned keeps a hidden state until the origin is released.
func (e *Executor) pinned(m *snapshot.Manifest) *origin {
	e.instances.mu.Lock()
	e.instances.pins[m.ID]++
	e.instances.mu.Unlock()
	return &origin{manifest: m, done: func() {
		e.instances.mu.Lock()
		if e.instances.pins[m.ID]--; e.instances.pins[m.ID] == 0 {
			delete(e.instances.pins, m.ID)
		}
		e.instances.mu.Unlock()
		e.dropHidden(m.ID)
	}}
}

// candidatesFor chooses runtimes for a request: those that can do what it asks
// or, when it starts from a state, the one that made that.
func (e *Executor) candidatesFor(ctx context.Context, req faas.Request, asked faas.Resources, from *origin, more ...need) ([]candidate, error) {
	if from == nil {
		return e.choose(ctx, req, asked, more...)
	}
	runtime := from.manifest.Runtime
	if req.Runtime != faas.RuntimeAuto && req.Runtime != runtime {
		return nil, &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "choose a runtime", Field: "runtime",
			Detail: "snapshot " + from.manifest.ID + " was taken on " + string(runtime) + " and restores there only, not on " + string(req.Runtime),
			Remedy: "leave the runtime to the snapshot"}
	}
	req.Runtime = runtime
	if e.drivers[runtime] == nil {
		return nil, faas.Unavailable("this installation has no driver for "+string(runtime)+", on which the snapshot was taken", "restore it where that runtime is")
	}
	if _, ok := e.drivers[runtime].(driver.Restorer); !ok {
		return nil, faas.Unavailable("the runtime "+string(runtime)+" cannot restore snapshots", "")
	}
	return e.choose(ctx, req, asked, append(more, restoreNeed(from.manifest.Kind))...)
}

// restoreNeed is what a runtime must offer for a kind of snapshot.
func restoreNeed(kind faas.SnapshotKind) need {
	if kind == faas.SnapshotFull {
		return need{feature: faas.FeatureSnapshotFull, asked: "restoring memory and processes"}
	}
	return need{feature: faas.FeatureSnapshotFS, asked: "restoring a saved state"}
}
