package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// snapshotCapabilities saves a running sandbox and restores it, files first
// and then memory too.
func (g *GVisor) snapshotCapabilities(ctx context.Context, s *gvisorSandbox) []faas.Capability {
	files := g.snapshotCapability(ctx, s, faas.FeatureSnapshotFS, faas.SnapshotFS)
	full := faas.Capability{Feature: faas.FeatureSnapshotFull, Reason: files.Reason, Remedy: files.Remedy}
	if files.Available {
		files.Detail = "the writable layer is copied with the processes held still, sharing blocks where the file system can; times are of whole seconds"
		full = g.snapshotCapability(ctx, s, faas.FeatureSnapshotFull, faas.SnapshotFull)
	}
	fork := faas.Capability{Feature: faas.FeatureFork, Available: files.Available, Reason: files.Reason, Remedy: files.Remedy}
	switch {
	case full.Available:
		full.Detail = "gVisor's own checkpoints; every copy has its memory for itself"
		fork.Detail = "memory and files"
	case files.Available:
		fork.Detail = "files only; memory: " + full.Reason
	}
	return []faas.Capability{files, full, fork}
}

func (g *GVisor) snapshotCapability(ctx context.Context, s *gvisorSandbox, f faas.Feature, kind faas.SnapshotKind) faas.Capability {
	err := g.trySnapshot(ctx, s, kind)
	if err == nil {
		return faas.Capability{Feature: f, Available: true}
	}
	reason, remedy := g.diagnose(err)
	if remedy == "" {
		remedy = "install the version of gVisor's runsc that docs/platforms.md names"
	}
	return faas.Capability{Feature: f, Reason: reason, Remedy: remedy}
}

func (g *GVisor) trySnapshot(ctx context.Context, s *gvisorSandbox, kind faas.SnapshotKind) error {
	dir, err := os.MkdirTemp(g.opts.Dir, ".probe-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // only empty directories could be left
	files, memory := filepath.Join(dir, "files"), filepath.Join(dir, "memory")
	if err := errors.Join(os.Mkdir(files, 0o700), os.Mkdir(memory, 0o700)); err != nil {
		return err
	}
	saved, err := s.Snapshot(ctx, kind, files, memory)
	if err != nil {
		return err
	}
	restored, err := g.Restore(ctx, driver.State{
		Kind: kind, Layers: []string{files}, Memory: memory, Requires: saved.Requires, Data: saved.Data,
	}, probeSpec(), func(context.Context, driver.Sandbox) error { return nil })
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return restored.Destroy(undo)
}
