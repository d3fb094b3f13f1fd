package executor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/pool"
)

// ExecInstance runs a command in a running instance, beside others that may
// run there. One that sleeps is woken. It streams as Execute does and is on record as an execution. When
// ctx ends the command is killed with all that it started; the instance goes
// on. The request's image, runtime, limits and network are the instance's.
func (e *Executor) ExecInstance(ctx context.Context, project, id string, req faas.Request) (*faas.Result, error) {
	project = orDefault(project)
	inst, s, leave, err := e.enter(ctx, project, id, "run a command in")
	if err != nil {
		return nil, err
	}
	defer leave()
	record, _, _ := inst.state()
	req.Project, req.Image, req.Runtime, req.Mode = project, record.Image, record.Runtime, faas.ModePersistent
	req.Resources, req.Network, req.SnapshotID, req.BranchFrom, req.InstanceID = record.Resources, record.Network, "", "", id
	x := &execution{asked: req.Resources, arrived: time.Now(), who: id}
	if x.req, err = e.opts.Default.complete(req); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(x.req.Env)) {
		x.env = append(x.env, name+"="+x.req.Env[name])
	}
	return e.execResident(ctx, x, s)
}

func (e *Executor) execResident(ctx context.Context, x *execution, s *pool.Sandbox) (*faas.Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended, err := e.live.add(x, cancel)
	if err != nil {
		return nil, err
	}
	defer ended()
	x.admitted = time.Now()
	if err := e.begin(ctx, x, s.Handle().Runtime); err != nil {
		return nil, err
	}
	shared := *s // with what was consumed before this command
	if shared.Baseline, err = readStats(ctx, s, quickStatsWait); err != nil {
		e.log.Debug("a sandbox tells no consumption", "sandbox", s.ID(), "error", err)
	}
	x.owned = time.Now()
	result, err := e.runIn(ctx, cancel, x, &shared)
	if result != nil {
		result.InstanceID = x.req.InstanceID
	}
	return e.end(ctx, x, result, err)
}

// Guest calls f with the client of a running instance's agent: its files,
// processes and ports. One that sleeps is woken, and none falls asleep while f
// runs. The client is not f's to close, and what f starts ends with the
// instance.
func (e *Executor) Guest(ctx context.Context, project, id string, f func(*guest.Client) error) error {
	_, s, leave, err := e.enter(ctx, orDefault(project), id, "reach")
	if err != nil {
		return err
	}
	defer leave()
	return f(s.Client)
}

// InstanceStats reads what an instance consumes; zero when it is stopped.
func (e *Executor) InstanceStats(ctx context.Context, project, id string) (driver.Stats, error) {
	x, err := e.lookUp(ctx, orDefault(project), id)
	if err != nil {
		return driver.Stats{}, err
	}
	_, _, s := x.state()
	if s == nil {
		return driver.Stats{}, nil
	}
	return readStats(ctx, s, statsTimeout)
}

// executePersistent runs a command in an instance that it leaves behind: a new
// one, or that of the request.
func (e *Executor) executePersistent(ctx context.Context, req faas.Request) (*faas.Result, error) {
	if req.InstanceID != "" {
		return e.ExecInstance(ctx, req.Project, req.InstanceID, req)
	}
	from := req.SnapshotID
	if from == "" {
		from = req.BranchFrom
	}
	wanted := faas.InstanceRequest{
		Project: req.Project, KeyID: req.KeyID, From: from, Runtime: req.Runtime, Resources: req.Resources, Env: req.Env,
		Labels: req.Labels, AllowDegraded: req.AllowDegraded, Entropy: req.Entropy,
	}
	if from == "" {
		wanted.Image = req.Image
	}
	if req.Network.Mode != "" {
		wanted.Network = &req.Network
	}
	made, err := e.CreateInstance(ctx, wanted)
	if err != nil {
		return nil, err
	}
	result, err := e.ExecInstance(ctx, req.Project, made.ID, req)
	if err != nil {
		// The caller does not learn of the instance, so nobody would end it.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), destroyTimeout*(reapAttempts+1))
		defer cancel()
		return nil, errors.Join(err, e.DeleteInstance(after, req.Project, made.ID))
	}
	result.Degraded = joinSentences(made.Degraded, result.Degraded)
	return result, nil
}

// LiveInstances returns the instances of this process, of every project.
func (e *Executor) LiveInstances() []faas.Instance {
	all := e.instances.all()
	list := make([]faas.Instance, 0, len(all))
	for _, x := range all {
		record, _, _ := x.state()
		list = append(list, record.Instance)
	}
	return list
}
