package oci

import (
	"context"
	"fmt"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/image"
)

// undoTimeout bounds the removal of a sandbox whose creation failed, which
// must go on when the caller's context has ended.
const undoTimeout = 20 * time.Second

// Create makes a sandbox and returns when its agent has answered and taken
// its identity and environment.
func (n *Native) Create(ctx context.Context, spec faas.Spec) (driver.Sandbox, error) {
	if err := n.check(spec); err != nil {
		return nil, err
	}
	l, err := n.launcherFor(ctx)
	if err != nil {
		return nil, driver.CreateError(ctx, spec, err)
	}
	return n.createWith(ctx, l, spec)
}

// createWith is Create with a given launcher.
func (n *Native) createWith(ctx context.Context, l launcher, spec faas.Spec) (driver.Sandbox, error) {
	ids, err := n.idMapping(ctx)
	if err != nil {
		return nil, driver.CreateError(ctx, spec, err)
	}
	r := &record{ID: spec.ID, Launcher: l.name(), CreatedAt: time.Now().UTC(), Spec: spec, Secret: newSecret()}
	return n.make(ctx, r, func(s *sandbox) error { return n.build(ctx, s, ids, nil) })
}

// make records a sandbox, has it built, and undoes everything when that fails.
func (n *Native) make(ctx context.Context, r *record, build func(*sandbox) error) (driver.Sandbox, error) {
	spec := r.Spec
	if err := n.begin(spec.ID); err != nil {
		return nil, err
	}
	defer n.finish(spec.ID)
	if err := n.work.Create(r); err != nil {
		return nil, driver.CreateError(ctx, spec, err)
	}
	s := n.newSandbox(r)
	if err := build(s); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if undoErr := s.Destroy(undo); undoErr != nil {
			n.log.Error("a sandbox that could not be created was not removed fully; a later sweep will",
				"sandbox", spec.ID, "error", undoErr)
		}
		return nil, driver.CreateError(ctx, spec, err)
	}
	return s, nil
}

// begin marks an id as one that this process is at work on, which no sweep of
// its own may touch.
func (n *Native) begin(id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, exists := n.sandboxes[id]
	switch {
	case n.closed:
		return closedError()
	case exists || n.busy[id]:
		return &faas.Error{Kind: faas.KindConflict, Op: "create sandbox", Field: "id", Detail: "there is a sandbox " + id + " already"}
	}
	n.busy[id] = true
	return nil
}

func (n *Native) finish(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.busy, id)
}

func closedError() error {
	return &faas.Error{Kind: faas.KindUnavailable, Op: "create sandbox", Detail: "the native driver is closed"}
}

// checkSpec refuses what no runtime can make.
func checkSpec(spec faas.Spec) error { return driver.CheckSpec(spec, minimumMemoryMB) }

// check refuses what cannot be made.
func (n *Native) check(spec faas.Spec) error {
	if err := checkSpec(spec); err != nil {
		return err
	}
	return n.egress().check(spec)
}

// minimumMemoryMB leaves room for the agent, the pages of the programs that
// run and what the kernel charges for a namespace.
const minimumMemoryMB = 16

// build makes everything of a sandbox whose record is on disk. The layers, if
// any, lie above the image.
func (n *Native) build(ctx context.Context, s *sandbox, ids idMap, layers []string) error {
	spec := s.spec()
	l, err := n.choice.named(s.record.Launcher)
	if err != nil {
		return err
	}
	root, err := n.images.AcquireWith(ctx, spec.Image, image.AcquireOptions{Owner: spec.ID})
	if err != nil {
		return err
	}
	p := &plan{
		id: spec.ID, dir: n.work.Path(spec.ID), ids: ids, agent: n.agent, above: layers, layers: root.Layers,
		config: n.configure(s.record, root, ids), filter: n.filter, secret: s.secret,
		placed: s.placed, confined: s.confine, connected: s.connect,
	}
	// On disk with the process, by placed: before that nothing needs it.
	s.mu.Lock()
	s.record.Mounts, s.record.Agent = p.config.Mounts, n.agent.Digest
	s.mu.Unlock()
	if !spec.ReadOnly {
		p.layer, err = n.newLayer(ctx, p.dir, spec.Resources.DiskMB, spec.Resources.MemoryMB, ids)
		if err != nil {
			return err
		}
		defer p.layer.close() //nolint:errcheck // descriptors of directories
	}
	if s.group != nil {
		if err := s.group.Create(limits(spec.Resources)); err != nil {
			return err
		}
	}
	if s.process, err = l.start(ctx, p); err != nil {
		return fmt.Errorf("start the agent with %s: %w", l.name(), err)
	}
	if err := n.adopt(s); err != nil {
		return err
	}
	if err := s.configure(ctx, environment(root, spec)); err != nil {
		return fmt.Errorf("the agent does not answer: %w", err)
	}
	return s.update(func(r *record) { r.Ready = true })
}

func limits(r faas.Resources) cgroup.Limits {
	return cgroup.Limits{CPUCores: r.CPUCores, MemoryBytes: r.MemoryMB << 20, PIDs: r.PIDs}
}

// configure makes the sandbox its first owner's.
func (s *sandbox) configure(ctx context.Context, env map[string]string) error {
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.secret})
	defer client.Close() //nolint:errcheck // connections only
	spec := s.spec()
	_, err := client.Configure(ctx, guest.Configuration{Env: env, Identity: &guest.Identity{
		ID: spec.ID, Project: spec.Project, Hostname: driver.Hostname(spec), Labels: spec.Labels,
	}, Network: resolvers(s.attachment())})
	return err
}
