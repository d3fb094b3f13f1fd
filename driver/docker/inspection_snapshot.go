package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// snapshots saves the sandbox and restores it, files first and then memory.
func (in *inspection) snapshots(ctx context.Context, shared sharing) {
	err := in.saveAndRestore(ctx, faas.SnapshotFS)
	detail := "the engine commits the container, which it holds meanwhile"
	switch direct, _ := in.s.located(); {
	case direct && shared.layers && canWriteLayers():
		detail = "the writable layer is copied with the processes frozen"
	case !canWriteLayers():
		detail += "; " + layersElsewhere + ", which need the gateway to run as root on Linux"
	}
	in.judge(faas.FeatureSnapshotFS, err, "%s", detail)
	in.judge(faas.FeatureFork, err, "files only")
	if err != nil {
		in.a.no(faas.FeatureSnapshotFull, "files cannot be saved", in.a[faas.FeatureSnapshotFS].Remedy)
		return
	}
	err = in.saveAndRestore(ctx, faas.SnapshotFull)
	in.judge(faas.FeatureSnapshotFull, err, "by the engine's experimental checkpoints and its CRIU; "+
		"open TCP connections, file locks and large nameless files only as the engine's /etc/criu/runc.conf lets it")
	if err == nil {
		in.a.yes(faas.FeatureFork, "memory and files")
		return
	}
	full := in.a[faas.FeatureSnapshotFull]
	if full.Remedy == "" {
		full.Remedy = "install CRIU 4.2.1 or newer where the engine finds it; see docs/platforms.md"
	}
	in.a[faas.FeatureSnapshotFull] = full
	in.a.yes(faas.FeatureFork, "files only; memory: %s", full.Reason)
}

// saveAndRestore saves the probe's sandbox and makes another one of it.
func (in *inspection) saveAndRestore(ctx context.Context, kind faas.SnapshotKind) (err error) {
	dir, err := os.MkdirTemp(in.s.d.opts.Dir, ".probe-*")
	if err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "probe snapshots", Err: err}
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(dir))
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		err = errors.Join(err, in.s.d.sweepStates(undo))
	}()
	files, memory := filepath.Join(dir, "files"), filepath.Join(dir, "memory")
	if err := errors.Join(os.Mkdir(files, 0o700), os.Mkdir(memory, 0o700)); err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "probe snapshots", Err: err}
	}
	if kind == faas.SnapshotFull { // no connection of the host's may be open
		if err := in.client.Quiesce(ctx); err != nil {
			return err
		}
	}
	saved, err := in.s.Snapshot(ctx, kind, files, memory)
	if err != nil {
		return err
	}
	defer func() {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		err = errors.Join(err, in.s.d.Forget(undo, saved.Data))
	}()
	spec := in.spec
	spec.ID = "probe-" + randomHex(8)
	restored, err := in.s.d.Restore(ctx, driver.State{
		Kind: kind, Layers: []string{files}, Memory: memory, Requires: saved.Requires, Data: saved.Data,
	}, spec, func(context.Context, driver.Sandbox) error { return nil })
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return restored.Destroy(undo)
}
