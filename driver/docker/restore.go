package docker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

const opRestore = "restore docker sandbox"

var _ driver.Restorer = (*Driver)(nil)

// CheckRestore implements driver.Restorer.
func (d *Driver) CheckRestore(ctx context.Context, from driver.State) error {
	state, err := parseState(from.Data)
	if err != nil {
		return err
	}
	if state.Image != "" && state.Layer == "" { // its files are in the engine only
		if _, err := d.committed(ctx, state); err != nil {
			return err
		}
	}
	if from.Kind != faas.SnapshotFull {
		return nil
	}
	shared, err := d.sharedWith(ctx)
	if err != nil {
		return err
	}
	if err := d.canCheckpoint(true, shared); err != nil {
		return err
	}
	if _, err := d.volumeOf(ctx, from.Requires.Agent); err != nil {
		return err
	}
	return checkRequirements(from.Requires)
}

// committed returns the id of a state's committed image.
func (d *Driver) committed(ctx context.Context, state stateData) (string, error) {
	img, err := d.inspectImage(ctx, state.Image)
	if err == nil && img.Labels[LabelInstallation] == d.installation {
		return img.Digest, nil
	}
	if err != nil && !errors.Is(err, faas.ErrNotFound) {
		return "", err
	}
	return "", &faas.Error{Kind: faas.KindFailedPrecondition, Op: opRestore,
		Detail: fmt.Sprintf("the engine has the snapshot's image %.19s no more", state.Image),
		Remedy: "images named faas/state are snapshots: do not remove them by hand"}
}

// Restore implements driver.Restorer.
func (d *Driver) Restore(ctx context.Context, from driver.State, spec faas.Spec, prepare func(context.Context, driver.Sandbox) error) (driver.Sandbox, error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	if err := d.CheckRestore(ctx, from); err != nil {
		return nil, opError(opRestore, "sandbox "+spec.ID, err)
	}
	state, err := parseState(from.Data)
	if err != nil {
		return nil, err
	}
	img, err := d.sourceOf(ctx, from, state, spec)
	if err != nil {
		return nil, opError(opRestore, "sandbox "+spec.ID, err)
	}
	secret := newSecret()
	if from.Kind == faas.SnapshotFull {
		secret = state.Secret // what the restored agent knows, until told another
	}
	rec, err := d.claim(spec, secret)
	if err != nil {
		return nil, err
	}
	s := d.newSandbox(spec.ID, rec)
	if from.Kind == faas.SnapshotFull {
		err = s.awaken(ctx, img, from, state, prepare)
	} else if err = s.start(ctx, img); err == nil {
		err = prepare(ctx, s)
	}
	if err != nil {
		return nil, opError(opRestore, "sandbox "+spec.ID, s.undo(ctx, err))
	}
	return s, nil
}

func newSecret() []byte {
	secret := make([]byte, secretSize)
	rand.Read(secret) //nolint:errcheck // crypto/rand.Read never fails
	return secret
}

// sourceOf returns what a sandbox of the state is made of: the image of its
// spec, with the state's files on top.
func (d *Driver) sourceOf(ctx context.Context, from driver.State, state stateData, spec faas.Spec) (source, error) {
	img, err := d.imageFor(ctx, spec.Image)
	if err != nil {
		return img, err
	}
	if from.Kind == faas.SnapshotFull {
		switch {
		case img.id != state.Base:
			return img, faas.Errorf(faas.KindFailedPrecondition, "image %s has changed since the snapshot was taken: it was %.19s and is %.19s", spec.Image, state.Base, img.id)
		case spec.ReadOnly != state.ReadOnly:
			return img, faas.Errorf(faas.KindFailedPrecondition, "a sandbox with memory keeps the kind of root file system that its source had")
		}
	}
	whole := state.Image != ""
	if whole && state.Layer != "" {
		have, err := fingerprint(ctx, from.Layers[:min(1, len(from.Layers))])
		if err != nil {
			return img, err
		}
		whole = have == state.Layer // else the layer was merged, imported or brought back
	}
	if whole {
		id, err := d.committed(ctx, state)
		if err == nil || state.Layer == "" {
			img.id = id
			return img, err
		}
	}
	if len(from.Layers) > 0 {
		img.id, err = d.assembled(ctx, spec.Project, img.id, from.Layers)
	}
	return img, err
}

// awaken makes the container of a state with memory. Every process but the
// agent is stopped in it; the rest goes on when the caller has prepared it.
func (s *sandbox) awaken(ctx context.Context, img source, from driver.State, state stateData, prepare func(context.Context, driver.Sandbox) error) error {
	volume, err := s.d.volumeOf(ctx, from.Requires.Agent)
	if err != nil {
		return err
	}
	shared, err := s.d.sharedWith(ctx)
	if err != nil {
		return err
	}
	if err := s.makeContainer(ctx, img, volume, from.Requires.Agent, shared); err != nil {
		return err
	}
	if err := s.startFrom(ctx, shared, from.Memory); err != nil {
		return err
	}
	if err := s.find(ctx); err != nil {
		return err
	}
	if err := s.rename(); err != nil {
		return err
	}
	if err := s.connectNetwork(ctx); err != nil {
		return err
	}
	if err := s.rotateSecret(ctx); err != nil {
		return err
	}
	if err := prepare(ctx, s); err != nil {
		return err
	}
	return s.continueOthers(state.Stopped)
}

// startFrom starts the container from the checkpoint in a directory.
func (s *sandbox) startFrom(ctx context.Context, shared sharing, memory string) (err error) {
	remove, err := placeCheckpoint(ctx, memory, shared.dataRoot, s.container())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	err = s.d.engine.call(ctx, stateTimeout, func(ctx context.Context, api *client.Client) error {
		_, err := api.ContainerStart(ctx, s.container(), client.ContainerStartOptions{CheckpointID: checkpointName})
		return err
	})
	return explainCRIU(err)
}

// rotateSecret gives the restored agent a secret of its own: root of the
// source may have learnt the old one.
func (s *sandbox) rotateSecret(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	channel := s.Channel()
	c := guest.NewClient(s.Dial, guest.Options{Secret: channel.Secret, Multiplex: channel.Multiplex})
	defer c.Close() //nolint:errcheck // connections only
	secret := newSecret()
	if _, err := c.Configure(ctx, guest.Configuration{Secret: secret, Network: s.resolvers()}); err != nil {
		return fmt.Errorf("the restored agent does not answer: %w", err)
	}
	return s.update(func(rec *record) { rec.Secret = secret })
}

// volumeOf returns the name of the volume with the agent of a digest, which a
// state with memory has mapped.
func (d *Driver) volumeOf(ctx context.Context, digest string) (string, error) {
	gone := faas.Errorf(faas.KindFailedPrecondition, "the snapshot needs the guest agent %.12s, which this installation does not have", digest)
	if len(digest) < 16 {
		return "", gone
	}
	name := d.agentVolumeName(digest)
	var labels map[string]string
	err := d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
		labels = res.Volume.Labels
		return err
	})
	if errors.Is(err, faas.ErrNotFound) || err == nil && (labels[LabelInstallation] != d.installation || labels[LabelDigest] != digest) {
		return "", gone
	}
	return name, err
}

// undo removes a sandbox that could not be made, for the reason err.
func (s *sandbox) undo(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	undoErr := s.Destroy(ctx)
	if undoErr == nil {
		return err
	}
	s.d.log.Warn("a failed sandbox could not be removed; Sweep will", "sandbox", s.id, "error", undoErr)
	return errors.Join(err, s.update(func(rec *record) { rec.Owner = "" }))
}

// checkpointTimeout bounds one checkpoint, whose source stands still meanwhile.
const checkpointTimeout = 2 * time.Minute
