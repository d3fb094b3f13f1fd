package oci

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/image"
)

// gvisorLayer is the kind of writable layer that the records name.
const gvisorLayer = "gVisor overlay"

const (
	// kernelMemoryMB is what a sandbox gets on top of its own memory for
	// gVisor's kernel and its file server (some 40 MiB when idle).
	kernelMemoryMB = 64
	// kernelTasks and tasksPerProcess bound the host's tasks of a sandbox: the
	// kernel's own threads, and the stubs that run each process's threads. The
	// limit that commands meet is the one inside; this is a backstop.
	kernelTasks     = 512
	tasksPerProcess = 6
)

// Create makes a sandbox and returns when its agent has answered and taken
// its identity and environment.
func (g *GVisor) Create(ctx context.Context, spec faas.Spec) (driver.Sandbox, error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	if err := g.egress().check(spec); err != nil {
		return nil, err
	}
	if err := g.usable(); err != nil {
		return nil, err
	}
	r := &record{ID: spec.ID, Launcher: launcherRunsc, CreatedAt: time.Now().UTC(), Spec: spec, Secret: newSecret(), Layer: gvisorLayer}
	return g.make(ctx, r, func(s *gvisorSandbox) error { return g.build(ctx, s, nil) })
}

// make records a sandbox, has it built, and undoes everything when that fails.
func (g *GVisor) make(ctx context.Context, r *record, build func(*gvisorSandbox) error) (driver.Sandbox, error) {
	spec := r.Spec
	if err := g.begin(spec.ID); err != nil {
		return nil, err
	}
	defer g.finish(spec.ID)
	if err := g.work.Create(r); err != nil {
		return nil, driver.CreateError(ctx, spec, err)
	}
	s := g.newSandbox(r)
	if err := build(s); err != nil {
		g.undo(ctx, s)
		return nil, driver.CreateError(ctx, spec, err)
	}
	return s, nil
}

// undo removes a sandbox that did not come to be.
func (g *GVisor) undo(ctx context.Context, s *gvisorSandbox) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := s.Destroy(ctx); err != nil {
		g.log.Error("a sandbox that could not be created was not removed fully; a later sweep will",
			"sandbox", s.id, "error", err)
	}
}

// build makes everything of a sandbox whose record is on disk, with layers
// above the image, topmost first.
func (g *GVisor) build(ctx context.Context, s *gvisorSandbox, above []string) error {
	if err := s.update(func(r *record) { r.Agent, r.Layers = g.agent.Digest, above }); err != nil {
		return err
	}
	from := beginning{agent: g.agent.Dir, above: above}
	if err := g.begun(ctx, s, &from); err != nil {
		return err
	}
	if err := s.configure(ctx, environment(from.root, s.spec())); err != nil {
		return fmt.Errorf("the agent does not answer: %w: runsc says: %s", err, complaint(g.work.Path(s.id)))
	}
	if err := s.limitCPU(); err != nil {
		return err
	}
	// The agent has read it; commands never see it.
	if err := os.Remove(filepath.Join(s.channel.dir, "secret")); err != nil {
		return err
	}
	return s.update(func(r *record) { r.Ready = true })
}

// begun makes all that a sandbox needs and starts it.
func (g *GVisor) begun(ctx context.Context, s *gvisorSandbox, from *beginning) error {
	spec := s.spec()
	var err error
	if from.root, err = g.images.AcquireWith(ctx, spec.Image, image.AcquireOptions{Owner: spec.ID}); err != nil {
		return err
	}
	if from.root.Host != nil {
		if err := s.update(func(r *record) { r.Mounts = hostMounts(from.root.Host) }); err != nil {
			return err
		}
	}
	ns, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if ns != nil {
		defer ns.Close()
	}
	if err := g.furnish(s, ns, from.memory == ""); err != nil {
		return err
	}
	starting := gvisorLimits(spec.Resources)
	starting.CPUCores = 0 // see limitCPU
	if err := s.group.Create(starting); err != nil {
		return err
	}
	if _, err := s.channel.listen(ctx); err != nil {
		return fmt.Errorf("listen for the agent: %w", err)
	}
	if err := g.start(ctx, s, *from); err != nil || from.ahead {
		return err
	}
	return g.running(ctx, s)
}

// running takes a sandbox over whose agent runs, or will in a moment.
func (g *GVisor) running(ctx context.Context, s *gvisorSandbox) error {
	if err := g.adopt(s); err != nil {
		return err
	}
	spec := s.spec()
	if err := s.limitProcesses(ctx, spec.Resources.PIDs); err != nil {
		return fmt.Errorf("limit the number of processes: %w: runsc says: %s", err, complaint(g.work.Path(s.id)))
	}
	return nil
}

// furnish makes the sandbox's directory: the bundle that runsc reads, its
// state, the writable layer's file, and what the agent sees as channelDir, with
// the secret for one that has none yet.
func (g *GVisor) furnish(s *gvisorSandbox, ns *os.File, withSecret bool) error {
	dir := g.work.Path(s.id)
	// runsc's file server has root's ids of the sandbox and must get through.
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // the record in it is 0600
		return err
	}
	for _, sub := range []string{"rootfs", "state", "upper", filepath.Base(s.channel.dir)} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o711); err != nil { //nolint:gosec // as above
			return err
		}
	}
	if !withSecret {
		return g.writeBundle(s, dir, ns)
	}
	secret := filepath.Join(s.channel.dir, "secret")
	if err := os.WriteFile(secret, s.channelSecret(), 0o400); err != nil {
		return err
	}
	if err := os.Lchown(secret, g.shift, g.shift); err != nil {
		return err
	}
	return g.writeBundle(s, dir, ns)
}

// limitCPU is called before anything but the agent runs inside. Until then
// gVisor starts on as many processors as it finds: a quota would have its
// threads use it up in the first part of a period and wait out the rest.
func (s *gvisorSandbox) limitCPU() error {
	return s.group.SetLimits(gvisorLimits(s.spec().Resources))
}

func gvisorLimits(r faas.Resources) cgroup.Limits {
	l := limits(r)
	if l.MemoryBytes > 0 {
		l.MemoryBytes += kernelMemoryMB << 20
	}
	if l.PIDs > 0 {
		l.PIDs = kernelTasks + tasksPerProcess*l.PIDs
	}
	return l
}

// configure makes the sandbox its first owner's, and removes what kept gVisor
// from mounting over /tmp.
func (s *gvisorSandbox) configure(ctx context.Context, env map[string]string) error {
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.channelSecret(), Multiplex: true})
	defer client.Close() //nolint:errcheck // connections only
	_, err := client.Configure(ctx, guest.Configuration{Env: env, Identity: s.identity(), Network: resolvers(s.attachment())})
	if err != nil || s.spec().ReadOnly {
		return err
	}
	err = client.Remove(ctx, spacerPath, false)
	if faas.KindOf(err) == faas.KindNotFound {
		return nil // the layers of a snapshot did without
	}
	return err
}

func (s *gvisorSandbox) identity() *guest.Identity {
	spec := s.spec()
	return &guest.Identity{ID: spec.ID, Project: spec.Project, Hostname: driver.Hostname(spec), Labels: spec.Labels}
}
