package executor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/pool"
)

const (
	restoreTimeout = 3 * time.Minute
	// prepareTimeout bounds what the agent of a copy does before the rest of
	// it goes on: hooks and re-seeding have bounds of their own.
	prepareTimeout = time.Minute
	entropyBytes   = 64
)

// restore makes a sandbox of the execution's origin, configured for it.
func (e *Executor) restore(ctx context.Context, x *execution, d driver.Driver) (*pool.Sandbox, error) {
	m := x.origin.manifest
	restorer, ok := d.(driver.Restorer)
	if !ok {
		return nil, faas.Unavailable("the runtime "+string(d.Name())+" cannot restore snapshots", "")
	}
	ctx, cancel := context.WithTimeout(ctx, restoreTimeout)
	defer cancel()
	image, err := e.images.resolve(ctx, d.Name(), m.Image)
	if err != nil {
		return nil, err
	}
	if err := sameImage(x, image.Digest); err != nil {
		return nil, err
	}
	id := faas.NewID(faas.PrefixSandbox)
	state, release, err := e.lease(ctx, x.origin, id)
	if err != nil {
		return nil, err
	}
	if err := restorer.CheckRestore(ctx, state); err != nil {
		release()
		return nil, restoreError(m.ID, err)
	}
	spec := faas.Spec{
		ID: id, Project: x.req.Project, Image: m.Image, Resources: x.req.Resources, Network: x.req.Network,
		Hostname: x.identity(id), Labels: x.req.Labels,
	}
	made, err := restorer.Restore(ctx, state, spec, func(ctx context.Context, s driver.Sandbox) error {
		return e.prepare(ctx, x, s, image)
	})
	if err != nil {
		release()
		return nil, restoreError(m.ID, err)
	}
	s := connect(made, image)
	s.Gone = release
	s.Baseline, err = readStats(ctx, s, statsTimeout)
	if err != nil {
		e.log.Debug("a restored sandbox tells no consumption", "sandbox", id, "error", err)
	}
	e.counters.restores.Add(1)
	return s, nil
}

// sameImage compares the image with that of the time of the snapshot. What
// memory maps must be the same; files may go on above a changed image, and the
// answer says so.
func sameImage(x *execution, digest string) error {
	m := x.origin.manifest
	if m.ImageDigest == "" || m.ImageDigest == digest {
		return nil
	}
	if m.Kind == faas.SnapshotFull {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "restore snapshot " + m.ID,
			Detail: fmt.Sprintf("image %s has changed since it was taken: it was %.19s and is %.19s", m.Image, m.ImageDigest, digest),
			Remedy: "bring the image of that time back, or start from a file snapshot"}
	}
	x.degraded = joinSentences(x.degraded, fmt.Sprintf("image %s has changed since snapshot %s was taken", m.Image, m.ID))
	return nil
}

// lease keeps a state's files in place for a sandbox, bringing them back from
// the cold tier first where they were evicted.
func (e *Executor) lease(ctx context.Context, from *origin, holder string) (driver.State, func(), error) {
	m := from.manifest
	l, err := e.snapshots.Acquire(m.Project, m.ID, holder)
	if errors.Is(err, faas.ErrFailedPrecondition) {
		if warmErr := e.snapshots.Warm(ctx, m.Project, m.ID); warmErr != nil {
			return driver.State{}, nil, warmErr
		}
		l, err = e.snapshots.Acquire(m.Project, m.ID, holder)
	}
	if err != nil {
		return driver.State{}, nil, err
	}
	state := driver.State{Kind: m.Kind, Layers: l.Layers, Requires: m.Requires, Data: m.Driver}
	if m.Kind == faas.SnapshotFull {
		state.Memory = l.Memory
	}
	return state, func() {
		if err := l.Release(); err != nil {
			e.log.Error("a snapshot is held until the next start", "snapshot", m.ID, "holder", holder, "error", err)
		}
	}, nil
}

func restoreError(id string, err error) error {
	var known *faas.Error
	if errors.As(err, &known) {
		return fmt.Errorf("restore snapshot %s: %w", id, err)
	}
	return &faas.Error{Kind: faas.KindOf(err), Op: "restore snapshot " + id, Err: err}
}

// prepare makes a restored sandbox someone of its own, before its processes go
// on: entropy, clock, identity, environment, generators, hooks.
func (e *Executor) prepare(ctx context.Context, x *execution, s driver.Sandbox, image driver.Image) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	channel := s.Channel()
	client := guest.NewClient(s.Dial, guest.Options{Secret: channel.Secret, Multiplex: channel.Multiplex})
	defer client.Close() //nolint:errcheck // connections only
	now, entropy := time.Now(), make([]byte, entropyBytes)
	rand.Read(entropy) //nolint:errcheck // crypto/rand.Read never fails
	who := x.identity(s.ID())
	full := x.origin.manifest.Kind == faas.SnapshotFull
	done, err := client.Configure(ctx, guest.Configuration{
		Identity: &guest.Identity{ID: who, Project: x.req.Project, Hostname: who, MachineID: newMachineID(), Labels: x.req.Labels},
		Env:      environment(image.Config.Env, x.req.Env),
		Clock:    &now, Entropy: entropy, Reseed: full, RunHooks: true,
	})
	if err != nil {
		return err
	}
	for field, why := range done.Skipped {
		e.log.Debug("an agent could not configure all of a copy", "sandbox", s.ID(), "field", field, "reason", why)
	}
	x.reseeded, x.hooks = done.Reseeded, nil
	for _, h := range done.Hooks {
		x.hooks = append(x.hooks, faas.Hook{Path: h.Path, ExitCode: h.Exit.Code, Output: h.Output})
	}
	if full && x.req.Entropy == faas.EntropyStrict {
		return unreached(done)
	}
	return nil
}

// unreached refuses a copy in which a generator would repeat.
func unreached(done guest.Configured) error {
	var who []string
	for _, r := range done.Reseeded {
		if !r.Done {
			who = append(who, fmt.Sprintf("%d (%s): %s", r.PID, r.Command, r.Reason))
		}
	}
	if why := done.Skipped["reseed"]; why != "" {
		who = append(who, why)
	}
	if len(who) == 0 {
		return nil
	}
	return &faas.Error{Kind: faas.KindFailedPrecondition, Field: "entropy",
		Detail: "the random generators of some processes could not be renewed: " + clip(strings.Join(who, "; ")),
		Remedy: "end those processes before the snapshot, renew them in a hook, or leave entropy strict out"}
}

func newMachineID() string {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // crypto/rand.Read never fails
	return hex.EncodeToString(b[:])
}
