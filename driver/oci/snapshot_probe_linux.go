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
func (n *Native) snapshotCapabilities(ctx context.Context, s *sandbox) []faas.Capability {
	files := n.snapshotCapability(ctx, s, faas.FeatureSnapshotFS, faas.SnapshotFS)
	full := faas.Capability{Feature: faas.FeatureSnapshotFull, Reason: files.Reason, Remedy: files.Remedy}
	if files.Available {
		files.Detail = "the writable layer is copied with the processes frozen, sharing blocks where the file system can"
		full = n.snapshotCapability(ctx, s, faas.FeatureSnapshotFull, faas.SnapshotFull)
	}
	if full.Available {
		full.Detail = "CRIU " + n.criuVersion
	}
	fork := faas.Capability{Feature: faas.FeatureFork, Available: files.Available, Reason: files.Reason, Remedy: files.Remedy}
	switch {
	case full.Available:
		fork.Detail = "memory and files"
	case files.Available:
		fork.Detail = "files only; memory: " + full.Reason
	}
	return []faas.Capability{files, full, fork}
}

func (n *Native) snapshotCapability(ctx context.Context, s *sandbox, f faas.Feature, kind faas.SnapshotKind) faas.Capability {
	err := n.trySnapshot(ctx, s, kind)
	if err == nil {
		return faas.Capability{Feature: f, Available: true}
	}
	reason, remedy := diagnose(err)
	var known *faas.Error
	if errors.As(err, &known) && known.Kind == faas.KindCapabilityUnavailable {
		reason, remedy = known.Detail, known.Remedy
		if known.Err != nil {
			reason += ": " + known.Err.Error()
		}
	} else if kind == faas.SnapshotFull && remedy == "" {
		remedy = "CRIU is installed and does not work with this kernel: install 4.2.1 or newer, and see `criu check`"
	}
	return faas.Capability{Feature: f, Reason: reason, Remedy: remedy}
}

func (n *Native) trySnapshot(ctx context.Context, s *sandbox, kind faas.SnapshotKind) error {
	if os.Geteuid() != 0 {
		return faas.Unavailable(snapshotsRootOnly, runAsRoot)
	}
	if kind == faas.SnapshotFull {
		if _, err := n.criuTool(ctx); err != nil { // cheaper than a dump that must fail
			return err
		}
	}
	dir, err := os.MkdirTemp(n.opts.Dir, ".probe-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // only empty directories could be left
	files, memory := filepath.Join(dir, "files"), filepath.Join(dir, "memory")
	if err := errors.Join(os.Mkdir(files, 0o711), os.Mkdir(memory, 0o711), os.Chmod(dir, 0o711)); err != nil { //nolint:gosec
		return err
	}
	saved, err := s.Snapshot(ctx, kind, files, memory)
	if err != nil {
		return err
	}
	restored, err := n.Restore(ctx, driver.State{
		Kind: kind, Layers: []string{files}, Memory: memory, Requires: saved.Requires, Data: saved.Data,
	}, probeSpec(), func(context.Context, driver.Sandbox) error { return nil })
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return restored.Destroy(undo)
}
