package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/meta"
	"github.com/faas-platform/faas/pool"
)

// CreateInstance makes an instance. It is on record and running when
// CreateInstance returns; after an error nothing of it is left.
func (e *Executor) CreateInstance(ctx context.Context, req faas.InstanceRequest) (*faas.Instance, error) {
	req.Project = orDefault(req.Project)
	if _, _, err := e.instanceRequest(req, nil); err != nil {
		return nil, err
	}
	var from *origin
	if req.From != "" {
		var err error
		if from, err = e.resolve(ctx, req.Project, req.From); err != nil {
			return nil, err
		}
		defer from.release()
	}
	x, err := e.createFrom(ctx, req, from)
	if err != nil {
		return nil, err
	}
	return x.view(), nil
}

// instanceRequest turns a request for an instance into that for a command,
// which has the same checks and defaults. asked are the limits that it named.
func (e *Executor) instanceRequest(req faas.InstanceRequest, from *origin) (complete faas.Request, asked faas.Resources, err error) {
	if req.Image != "" && req.From != "" {
		return complete, asked, faas.InvalidField("image", "an instance starts from an image or from a saved state, not both")
	}
	if err := checkName("name", req.Name, true); err != nil {
		return complete, asked, err
	}
	if req.TTL < 0 {
		return complete, asked, faas.InvalidField("ttl_ms", "is negative")
	}
	if err := checkIdle(req.IdleTimeout, req.OnIdle); err != nil {
		return complete, asked, err
	}
	r := faas.Request{
		Project: req.Project, Command: []string{"true"}, Image: req.Image, Runtime: req.Runtime,
		Env: req.Env, Resources: req.Resources, Labels: req.Labels, AllowDegraded: req.AllowDegraded, Entropy: req.Entropy,
	}
	if req.Network != nil {
		r.Network = *req.Network
	}
	if from != nil {
		r = from.inherit(r)
	}
	complete, err = e.opts.Default.complete(r)
	return complete, req.Resources, err
}

// checkName accepts names of instances, snapshots and branches.
func checkName(field, name string, optional bool) error {
	if name == "" && optional {
		return nil
	}
	if len(name) == 0 || len(name) > 128 || name[0] == '-' || name[0] == '.' {
		return faas.InvalidField(field, "%q is not a name: 1 to 128 letters, digits, hyphens, dots, underscores and slashes", clip(name))
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.', r == '/':
		default:
			return faas.InvalidField(field, "%q is not a name: 1 to 128 letters, digits, hyphens, dots, underscores and slashes", clip(name))
		}
	}
	return nil
}

// createFrom makes an instance of an image, or of a state when from is not
// nil.
func (e *Executor) createFrom(ctx context.Context, req faas.InstanceRequest, from *origin) (*instance, error) {
	complete, asked, err := e.instanceRequest(req, from)
	if err != nil {
		return nil, err
	}
	if err := e.residents.enter(ctx, demand{}); err != nil {
		return nil, err
	}
	defer e.residents.leave(demand{}, 0, false)
	if n := e.instances.withSandbox(); n >= e.opts.MaxInstances {
		return nil, &faas.Error{Kind: faas.KindResourceExhausted, Op: "create instance", RetryAfter: 10 * time.Second,
			Detail: fmt.Sprintf("%d instances run here, as many as the configuration allows", n), Remedy: "stop or delete some"}
	}
	held, err := e.gate.hold(complete.Resources.MemoryMB)
	if err != nil {
		return nil, err
	}
	defer held()
	candidates, err := e.candidatesFor(ctx, complete, asked, from, idleNeeds(req)...)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	record := meta.Instance{Instance: faas.Instance{
		ID: faas.NewID(faas.PrefixInstance), Project: complete.Project, Name: req.Name, Status: faas.InstanceCreating,
		Image: complete.Image, Runtime: candidates[0].driver.Name(), Resources: complete.Resources,
		Network: complete.Network, Labels: complete.Labels, CreatedBy: req.KeyID, CreatedAt: now, SSHDisabled: req.DisableSSH,
	}}
	record.IdleTimeoutMS, record.OnIdle = req.IdleTimeout.Milliseconds(), req.OnIdle
	if record.IdleTimeoutMS != 0 && record.OnIdle == "" {
		record.OnIdle = faas.IdlePause
	}
	if req.TTL > 0 {
		expires := now.Add(req.TTL)
		record.ExpiresAt = &expires
	}
	p := private{Env: complete.Env, Entropy: complete.Entropy}
	if record.Private, err = json.Marshal(p); err != nil {
		return nil, faas.Errorf(faas.KindInternal, "encode the record of %s: %w", record.ID, err)
	}
	if err := e.store.CreateInstance(ctx, record); err != nil {
		return nil, err
	}
	x := newInstance(record, p)
	<-x.turn
	defer func() { x.turn <- struct{}{} }()
	e.instances.add(x)
	e.instanceChanged(faas.EventInstanceCreated, faas.Instance{}, record.Instance)
	if err := e.furnish(ctx, x, complete, candidates, from); err != nil {
		e.forgetInstance(x)
		return nil, err
	}
	e.expiry.poke()
	return x, nil
}

// idleNeeds is what a runtime must offer for what becomes of an idle instance.
func idleNeeds(req faas.InstanceRequest) []need {
	switch {
	case req.IdleTimeout == 0:
		return nil
	case req.OnIdle == faas.IdleStop:
		return []need{restoreNeed(faas.SnapshotFS)}
	}
	return []need{{feature: faas.FeaturePause, asked: "pausing when it is idle"}}
}

// furnish gives a new instance its sandbox.
func (e *Executor) furnish(ctx context.Context, x *instance, req faas.Request, candidates []candidate, from *origin) error {
	w := &execution{req: req, origin: from, who: x.id, arrived: time.Now()}
	s, err := e.obtainFrom(ctx, w, candidates)
	if err != nil {
		return e.causeOf(ctx, err)
	}
	err = e.save(x, func(r *meta.Instance, p *private) {
		running(r, p, s, w)
		if from != nil {
			r.SnapshotID, p.Base = from.lineage(), from.manifest.ID
			if from.branch != nil {
				r.BranchID, p.Head = from.branch.ID, from.branch.Head
			}
		}
	})
	if err != nil {
		e.reaper.add(s, nil)
		return err
	}
	e.place(x, s)
	return nil
}

// running writes into a record that an instance has a sandbox.
func running(r *meta.Instance, p *private, s *pool.Sandbox, w *execution) {
	now, handle := time.Now().UTC(), s.Handle()
	r.Status, r.Error, r.SandboxID, r.StartedAt, r.Asleep = faas.InstanceRunning, "", s.ID(), &now, false
	r.Runtime, r.Degraded = handle.Runtime, w.degraded
	r.Reseeded, r.Hooks = w.reseeded, w.hooks
	p.Handle, p.ImageDigest = &handle, s.Image.Digest
}

// forgetInstance takes an instance out of this process and off the record.
func (e *Executor) forgetInstance(x *instance) {
	x.mu.Lock()
	x.deleted = true
	x.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	if err := e.store.DeleteInstance(ctx, x.id); err != nil {
		e.log.Error("the record of an instance could not be removed yet", "instance", x.id, "error", err)
		e.ghosts.add(x.id)
	}
	e.instances.remove(x.id)
	e.countInstances()
	e.ports.closeOf(x.id)
	last := x.view()
	e.instanceChanged(faas.EventInstanceDeleted, *last, *last)
}
