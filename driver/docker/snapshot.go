package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

const opSnapshot = "snapshot docker sandbox"

var _ driver.Snapshotter = (*sandbox)(nil)

// saving is kept in the sandbox's record while a snapshot holds its processes,
// so that a daemon which dies meanwhile does not leave them standing.
type saving struct {
	Held    bool  `json:"held"`              // its processes are stopped, not only frozen
	Stopped []int `json:"stopped,omitempty"` // ids inside of processes that others had stopped
}

// capture is one snapshot in the making.
type capture struct {
	s             *sandbox
	kind          faas.SnapshotKind
	files, memory string
	info          container.InspectResponse
	upper         string // the writable layer, where this process can read it
	data          stateData
	requires      driver.Requirements
}

// Snapshot implements driver.Snapshotter. Where this process can read the
// engine's overlay it copies the sandbox's layer; elsewhere the engine commits
// the container, and the layer is taken out of the image afterwards.
func (s *sandbox) Snapshot(ctx context.Context, kind faas.SnapshotKind, files, memory string) (driver.Saved, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	s.saving.Lock() // one at a time
	defer s.saving.Unlock()
	c := &capture{s: s, kind: kind, files: files, memory: memory, data: stateData{Token: randomHex(12)}}
	saved, err := c.save(ctx)
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if forgetErr := s.d.Forget(undo, json.RawMessage(fmt.Sprintf(`{"token":%q}`, c.data.Token))); forgetErr != nil {
			err = errors.Join(err, forgetErr)
		}
		return driver.Saved{}, opError(opSnapshot, "sandbox "+s.id, err)
	}
	return saved, nil
}

func (c *capture) save(ctx context.Context) (driver.Saved, error) {
	var saved driver.Saved
	if err := c.prepare(ctx); err != nil {
		return saved, err
	}
	started := time.Now()
	err := c.standing(ctx, func() error {
		if c.kind == faas.SnapshotFull {
			if err := c.s.checkpoint(ctx, c.memory); err != nil {
				return err
			}
		}
		if c.upper != "" {
			return copyUpper(ctx, c.upper, c.volumes(), c.files)
		}
		return c.commit(ctx)
	})
	saved.Pause = time.Since(started)
	if err != nil {
		return saved, err
	}
	if c.data.Image != "" && canWriteLayers() {
		if c.data.Layer, err = c.s.d.exportLayer(ctx, c.data.Image, c.files); err != nil {
			return saved, err
		}
	}
	saved.Requires = c.requires
	saved.Data, err = json.Marshal(c.data)
	return saved, err
}

// prepare finds out how the sandbox is to be saved, and records it.
func (c *capture) prepare(ctx context.Context) error {
	var err error
	if c.info, err = c.s.d.engine.inspect(ctx, c.s.container()); err != nil {
		return err
	}
	if c.info.State == nil || !c.info.State.Running {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Detail: "it has ended"}
	}
	shared, err := c.s.d.sharedWith(ctx)
	if err != nil {
		return err
	}
	direct, _ := c.s.located()
	if g := c.info.GraphDriver; g != nil && direct && shared.layers && canWriteLayers() {
		c.upper = g.Data["UpperDir"]
	}
	if names := c.volumes(); c.upper == "" && len(names) > 0 {
		return faas.Unavailable(fmt.Sprintf("the image declares the volume %s, which the engine leaves out when it commits a container", names[0].Destination),
			"run the gateway as root beside an engine with the overlay2 storage driver, or use an image without volumes")
	}
	rec := stateRecord{Owner: c.s.d.owner.token, Image: c.upper == ""}
	if c.kind == faas.SnapshotFull {
		if err := c.s.d.canCheckpoint(direct, shared); err != nil {
			return err
		}
		if c.info.State.Paused {
			return &faas.Error{Kind: faas.KindFailedPrecondition, Detail: "memory is saved of a sandbox that runs, and it is paused", Remedy: "resume it first"}
		}
		if err := c.describeMemory(ctx); err != nil {
			return err
		}
		rec.Agent = c.s.snapshotRecord().Agent
	}
	return c.s.d.writeState(c.data.Token, rec)
}

// describeMemory notes what a restore of the memory must know and have.
func (c *capture) describeMemory(ctx context.Context) error {
	rec := c.s.snapshotRecord()
	img, err := c.s.d.imageFor(ctx, rec.Spec.Image)
	if err != nil {
		return err
	}
	c.data.Base, c.data.Secret, c.data.ReadOnly = img.id, rec.Secret, rec.Spec.ReadOnly
	conn, err := c.s.d.engine.connect(ctx, false)
	if err != nil {
		return err
	}
	c.requires, err = c.s.requirements("Docker Engine " + conn.version.Version)
	return err
}

// standing runs work while the sandbox's processes stand still: frozen, and
// for memory marked to be stopped as well, so that in a copy only the agent
// goes on by itself.
func (c *capture) standing(ctx context.Context, work func() error) (err error) {
	if c.info.State.Paused { // by its owner, who will resume it
		return work()
	}
	s := c.s
	hold := saving{Held: c.kind == faas.SnapshotFull}
	if err := s.update(func(rec *record) { rec.Saving = &hold }); err != nil {
		return err
	}
	after := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, s.letGo(after, hold)) }()
	if !hold.Held {
		if err := s.Pause(ctx); err != nil {
			return err
		}
		return work()
	}
	defer s.holdDials()()
	if err := s.pauseBetweenForks(ctx); err != nil {
		return err
	}
	if hold.Stopped, err = s.stoppedBefore(); err == nil {
		err = s.update(func(rec *record) { rec.Saving = &hold })
	}
	if err == nil {
		err = s.stopOthers()
	}
	if err != nil {
		return err
	}
	c.data.Stopped = hold.Stopped
	return work()
}

// forkTimeout bounds the search for a moment in which memory can be saved.
const forkTimeout = 5 * time.Second

// pauseBetweenForks freezes the sandbox at a moment in which no process waits
// for a child of a vfork to run its program: CRIU has each of a frozen
// sandbox's processes answer, and such a one cannot while the child is frozen.
func (s *sandbox) pauseBetweenForks(ctx context.Context) error {
	deadline := time.Now().Add(forkTimeout)
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		if err := s.Pause(ctx); err != nil {
			return err
		}
		forking, err := s.forking()
		if err != nil || !forking {
			return err
		}
		if time.Now().After(deadline) {
			return &faas.Error{Kind: faas.KindUnavailable, Detail: "its processes start others without a pause, and memory cannot be saved meanwhile", RetryAfter: time.Second}
		}
		if err := s.Resume(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// letGo ends what standing began. Processes are let go on while they are still
// frozen: they never see that they were to stop.
func (s *sandbox) letGo(ctx context.Context, hold saving) error {
	var err error
	if hold.Held {
		err = s.continueOthers(hold.Stopped)
	}
	if err := errors.Join(err, s.Resume(ctx)); err != nil {
		return err
	}
	return s.update(func(rec *record) { rec.Saving = nil })
}

// holdDials makes Dial wait: a connection of the host's that is open, or only
// waits for the agent, cannot be saved. It returns what lets them go on.
func (s *sandbox) holdDials() (release func()) {
	held := make(chan struct{})
	s.mu.Lock()
	s.held = held
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		s.held = nil
		s.mu.Unlock()
		close(held)
	}
}

// awaitSaved returns when no snapshot of memory is under way.
func (s *sandbox) awaitSaved(ctx context.Context) error {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	if held == nil {
		return nil
	}
	select {
	case <-held:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// volumes are those that the image declares, made for this container alone.
func (c *capture) volumes() []container.MountPoint {
	var list []container.MountPoint
	for _, m := range c.info.Mounts {
		if m.Type == mount.TypeVolume && m.Destination != agentDir {
			list = append(list, m)
		}
	}
	return list
}

// commit has the engine make an image of the container, which stands still.
func (c *capture) commit(ctx context.Context) error {
	return c.s.d.engine.call(ctx, stateTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.ContainerCommit(ctx, c.info.ID, client.ContainerCommitOptions{
			Reference: c.s.d.stateName(c.data.Token), NoPause: true,
			Changes: []string{"LABEL " + LabelRole + "=" + roleState},
		})
		c.data.Image = res.ID
		return err
	})
}

// located returns whether the agent is reached without the engine, and where.
func (s *sandbox) located() (bool, process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.direct, s.process
}
