package executor

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/pool"
)

const (
	configureTimeout = 10 * time.Second
	createTimeout    = 2 * time.Minute // the image is at hand before
	statsTimeout     = 2 * time.Second
	// warmAttempts is how many warm sandboxes that turn out to be dead a
	// request tries before it has one made.
	warmAttempts = 3
)

// obtain returns a sandbox that is this request's alone and configured for it:
// one restored from its origin, a warm one when the pool has it, or a new one.
func (e *Executor) obtain(ctx context.Context, x *execution, d driver.Driver) (*pool.Sandbox, error) {
	if x.origin != nil {
		return e.restore(ctx, x, d)
	}
	req := x.req
	image, err := e.images.resolve(ctx, d.Name(), req.Image)
	if err != nil {
		return nil, err
	}
	spec := faas.Spec{
		Project: req.Project, Image: req.Image, Resources: req.Resources, Network: req.Network, Labels: req.Labels,
	}
	s, err := e.claim(ctx, d, image, spec, x)
	if err != nil {
		return nil, err
	}
	if s != nil {
		e.counters.poolHits.Add(1)
		return s, nil
	}
	e.counters.coldStarts.Add(1)
	begun := time.Now()
	if s, err = e.create(ctx, d, image, spec); err != nil {
		return nil, err
	}
	took := time.Since(begun)
	e.counters.missTime.Add(int64(took))
	e.pool.Missed(pool.Class{Runtime: d.Name(), Image: spec.Image, Resources: spec.Resources}, took)
	if err := configure(ctx, s, x); err != nil {
		e.reaper.add(s, nil)
		return nil, err
	}
	return s, nil
}

// claim returns a warm sandbox, made this request's, or nil when there is none
// that answers.
func (e *Executor) claim(ctx context.Context, d driver.Driver, image driver.Image, spec faas.Spec, x *execution) (*pool.Sandbox, error) {
	if spec.Network.Mode != faas.NetworkNone {
		return nil, nil // the warm ones have none
	}
	class := pool.Class{Runtime: d.Name(), Image: spec.Image, Resources: spec.Resources}
	for range warmAttempts {
		s := e.pool.Claim(class, image.Digest)
		adopted := false
		if s == nil {
			s, adopted = e.claimOther(d, class, image.Digest), true
		}
		if s == nil {
			return nil, nil
		}
		err := e.become(ctx, s, d, spec, x, adopted)
		if err == nil {
			return s, nil
		}
		e.reaper.add(s, nil)
		if ctx.Err() != nil {
			return nil, stopped(ctx, "claim a sandbox")
		}
		e.log.Warn("a warm sandbox could not be claimed", "sandbox", s.ID(), "error", err)
	}
	return nil, nil
}

// claimOther claims a warm sandbox of another size, where the driver can
// change what makes the difference. The disk's size is fixed at its making.
func (e *Executor) claimOther(d driver.Driver, class pool.Class, digest string) *pool.Sandbox {
	if _, ok := d.(driver.Pooled); !ok {
		return nil
	}
	return e.pool.ClaimOther(class, digest, func(have faas.Resources) bool { return have.DiskMB == class.Resources.DiskMB })
}

// become makes a warm sandbox that of a request.
func (e *Executor) become(ctx context.Context, s *pool.Sandbox, d driver.Driver, spec faas.Spec, x *execution, adopt bool) error {
	if adopt {
		spec.ID, spec.Hostname = s.ID(), s.ID()
		ctx, cancel := context.WithTimeout(ctx, configureTimeout)
		defer cancel()
		if err := d.(driver.Pooled).Adopt(ctx, s.Sandbox, spec); err != nil {
			return err
		}
	}
	return configure(ctx, s, x)
}

// create makes a sandbox and a client of its agent.
func (e *Executor) create(ctx context.Context, d driver.Driver, image driver.Image, spec faas.Spec) (*pool.Sandbox, error) {
	spec.ID = faas.NewID(faas.PrefixSandbox)
	spec.Hostname = spec.ID
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	made, err := d.Create(ctx, spec)
	if err != nil {
		if errors.Is(err, faas.ErrNotFound) {
			e.images.forget(d.Name(), spec.Image) // it was removed since
		}
		return nil, err
	}
	return connect(made, image), nil
}

// connect gives a sandbox a client of its agent.
func connect(made driver.Sandbox, image driver.Image) *pool.Sandbox {
	channel := made.Channel()
	client := guest.NewClient(made.Dial, guest.Options{Secret: channel.Secret, Multiplex: channel.Multiplex})
	return &pool.Sandbox{Sandbox: made, Client: client, Image: image}
}

// configure makes a sandbox that of a request: identity and environment.
func configure(ctx context.Context, s *pool.Sandbox, x *execution) error {
	who, req := x.identity(s.ID()), x.req
	ctx, cancel := context.WithTimeout(ctx, configureTimeout)
	defer cancel()
	_, err := s.Client.Configure(ctx, guest.Configuration{
		Identity: &guest.Identity{ID: who, Project: req.Project, Hostname: who, Labels: req.Labels},
		Env:      environment(s.Image.Config.Env, req.Env),
	})
	return err
}

// environment is the image's own with the request's on top.
func environment(image []string, request map[string]string) map[string]string {
	env := make(map[string]string, len(image)+len(request))
	for _, entry := range image {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
			env[name] = value
		}
	}
	maps.Copy(env, request)
	return env
}

// poolSource makes warm sandboxes with the executor's drivers.
type poolSource struct{ e *Executor }

// Make implements pool.Source.
func (p poolSource) Make(ctx context.Context, class pool.Class) (*pool.Sandbox, error) {
	d := p.e.drivers[class.Runtime]
	image, err := p.e.images.resolve(ctx, class.Runtime, class.Image)
	if err != nil {
		return nil, err
	}
	s, err := p.e.create(ctx, d, image, faas.Spec{
		Project: faas.DefaultProject, Image: class.Image, Resources: class.Resources,
		Network: faas.NetworkPolicy{Mode: faas.NetworkNone},
	})
	if err != nil {
		return nil, err
	}
	// The connection that this opens is the one that a claim will use.
	if err := p.Check(ctx, s); err != nil {
		p.Discard(s)
		return nil, err
	}
	if s.Baseline, err = readStats(ctx, s, statsTimeout); err != nil {
		p.e.log.Warn("a warm sandbox tells no consumption", "sandbox", s.ID(), "error", err)
	}
	return s, nil
}

// Check implements pool.Source.
func (p poolSource) Check(ctx context.Context, s *pool.Sandbox) error {
	_, err := s.Client.Hello(ctx)
	return err
}

// Digest implements pool.Source.
func (p poolSource) Digest(ctx context.Context, class pool.Class) (string, error) {
	image, err := p.e.images.resolve(ctx, class.Runtime, class.Image)
	return image.Digest, err
}

// Discard implements pool.Source.
func (p poolSource) Discard(s *pool.Sandbox) { p.e.reaper.add(s, nil) }

func readStats(ctx context.Context, s *pool.Sandbox, limit time.Duration) (driver.Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.Stats(ctx)
}
