package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

var _ driver.Restorer = (*GVisor)(nil)

// Restore makes a sandbox from a saved state.
func (g *GVisor) Restore(ctx context.Context, from driver.State, spec faas.Spec, prepare func(context.Context, driver.Sandbox) error) (driver.Sandbox, error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	if err := g.egress().check(spec); err != nil {
		return nil, err
	}
	if err := g.CheckRestore(ctx, from); err != nil {
		return nil, err
	}
	data, err := readGVisorSaved(from)
	if err != nil {
		return nil, err
	}
	if err := data.fits(from, spec); err != nil {
		return nil, err
	}
	if from.Kind == faas.SnapshotFull {
		return g.restoreMemory(ctx, from, data, spec, prepare)
	}
	r := &record{ID: spec.ID, Launcher: launcherRunsc, CreatedAt: time.Now().UTC(), Spec: spec, Secret: newSecret(), Layer: gvisorLayer}
	return g.make(ctx, r, func(s *gvisorSandbox) error {
		if err := g.build(ctx, s, from.Layers); err != nil {
			return err
		}
		return prepare(ctx, s)
	})
}

func readGVisorSaved(from driver.State) (gvisorSaved, error) {
	var data gvisorSaved
	if from.Kind == faas.SnapshotFS && len(from.Data) == 0 {
		return data, nil // merged, or of another machine
	}
	if err := json.Unmarshal(from.Data, &data); err != nil {
		return data, faas.Errorf(faas.KindFailedPrecondition, "the snapshot was not made by this runtime: %w", err)
	}
	if from.Kind == faas.SnapshotFull && (data.Held < 1 || data.Held > len(from.Layers)) {
		return data, faas.Errorf(faas.KindFailedPrecondition,
			"the snapshot has %d layers, and gVisor's memory in it holds the first %d", len(from.Layers), data.Held)
	}
	return data, nil
}

// fits refuses sandboxes that a saved memory cannot become.
func (d gvisorSaved) fits(from driver.State, spec faas.Spec) error {
	refused := func(field, detail string) error {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "restore", Field: field, Detail: detail,
			Remedy: "leave it as it was, or restore the files only"}
	}
	switch {
	case from.Kind != faas.SnapshotFull:
		return nil
	case d.ReadOnly != spec.ReadOnly:
		return refused("read_only", fmt.Sprintf("the saved sandbox had read_only %v, which gVisor's memory holds", d.ReadOnly))
	case d.DiskMB != spec.Resources.DiskMB:
		return refused("resources.disk_mb", fmt.Sprintf("the saved sandbox had %d MiB of disk, a limit that gVisor's memory holds", d.DiskMB))
	}
	return nil
}

// CheckRestore compares what a state needs with this machine.
func (g *GVisor) CheckRestore(ctx context.Context, from driver.State) error {
	data, err := readGVisorSaved(from)
	if err != nil {
		return err
	}
	if err := g.usable(); err != nil {
		return err
	}
	if from.Kind != faas.SnapshotFull {
		return nil
	}
	have, err := g.version(ctx)
	if err != nil {
		return gvisorError(err)
	}
	if have != data.Runsc {
		return refuse("the snapshot was taken by %s, and only the same can restore its memory; here is %s", data.Runsc, have)
	}
	if _, err := agentOf(g.opts.Dir, g.shift, from.Requires.Agent); err != nil {
		return err
	}
	return checkMachine(from.Requires)
}

// restoreMemory restores files, memory and processes, into what was made ahead
// for it if that is there.
func (g *GVisor) restoreMemory(ctx context.Context, from driver.State, data gvisorSaved, spec faas.Spec, prepare func(context.Context, driver.Sandbox) error) (driver.Sandbox, error) {
	if a := g.take(spec.ID); a != nil {
		if a.fits(from, spec) {
			defer g.finish(spec.ID)
			if err := g.fill(ctx, a, spec, data, prepare); err != nil {
				g.undo(ctx, a.s)
				return nil, driver.CreateError(ctx, spec, err)
			}
			return a.s, nil
		}
		err := a.s.Destroy(ctx)
		g.finish(spec.ID)
		if err != nil {
			return nil, err
		}
	}
	return g.make(ctx, savedRecord(from, data, spec), func(s *gvisorSandbox) error {
		start, err := g.savedBeginning(from, data)
		if err != nil {
			return err
		}
		if err := g.begun(ctx, s, &start); err != nil {
			return err
		}
		return s.awaken(ctx, data, prepare)
	})
}

// savedRecord describes a sandbox restored with memory. Its agent knows the
// secrets of its source until told others.
func savedRecord(from driver.State, data gvisorSaved, spec faas.Spec) *record {
	return &record{ID: spec.ID, Launcher: launcherRunsc, CreatedAt: time.Now().UTC(), Spec: spec, Layer: gvisorLayer,
		Secret: data.Secret, Proof: data.Proof, Layers: from.Layers, Held: data.Held, Agent: from.Requires.Agent}
}

// savedBeginning leaves out the layers that the saved kernel's own holds too:
// it goes on with the files below that it had open.
func (g *GVisor) savedBeginning(from driver.State, data gvisorSaved) (beginning, error) {
	agent, err := agentOf(g.opts.Dir, g.shift, from.Requires.Agent)
	return beginning{agent: agent, above: from.Layers[data.Held:], memory: from.Memory}, err
}

// awaken gives a restored agent its new secret, has the caller prepare the
// sandbox, and then wakes the rest.
func (s *gvisorSandbox) awaken(ctx context.Context, data gvisorSaved, prepare func(context.Context, driver.Sandbox) error) error {
	if err := s.rotateSecret(ctx); err != nil {
		return err
	}
	if err := s.limitCPU(); err != nil {
		return err
	}
	if err := prepare(ctx, s); err != nil {
		return err
	}
	if err := s.signalAll(ctx, data.Stopped, unix.SIGCONT); err != nil {
		return fmt.Errorf("let the restored processes go on: %w", err)
	}
	return s.update(func(r *record) { r.Ready = true })
}

// rotateSecret gives the restored agent a secret of its own, since root of the
// source may have learnt the old one, and a name: gVisor keeps the one that
// the source was given.
func (s *gvisorSandbox) rotateSecret(ctx context.Context) error {
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.channelSecret(), Multiplex: true})
	defer client.Close() //nolint:errcheck // connections only
	secret := newSecret()
	_, err := client.Configure(ctx, guest.Configuration{Secret: secret, Identity: s.identity(), Network: resolvers(s.attachment())})
	if err != nil {
		return fmt.Errorf("the restored agent does not answer: %w: runsc says: %s", err, complaint(s.driver.work.Path(s.id)))
	}
	return s.update(func(r *record) { r.Secret = secret })
}
