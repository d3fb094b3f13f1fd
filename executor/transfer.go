package executor

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"io"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/snapshot"
)

// Transfer says whom imported snapshots are believed from.
type Transfer struct {
	// Trusted are the keys of installations whose exports may be imported with
	// memory.
	Trusted []ed25519.PublicKey
	// MaxBytes bounds an imported stream, and what it unpacks to. 0: 64 GiB.
	MaxBytes int64
}

const (
	defaultMaxImport = 64 << 30
	// transfersAtOnce bounds the imports that unpack beside each other.
	transfersAtOnce = 2
)

func (t Transfer) withDefaults() Transfer {
	if t.MaxBytes <= 0 {
		t.MaxBytes = defaultMaxImport
	}
	return t
}

// SigningKey returns the public key that this installation signs its exports
// with, as snapshots.trusted_keys of another takes it.
func (e *Executor) SigningKey() (string, error) {
	key, err := e.snapshots.SigningKey()
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey)), nil //nolint:forcetypeassert // its documented type
}

// fileOwner is the host's id of root in the layers of a runtime.
func (e *Executor) fileOwner(runtime faas.Runtime) uint32 {
	if shifted, ok := e.drivers[runtime].(driver.Shifted); ok {
		return shifted.FileOwner()
	}
	return 0
}

// ExportSnapshot writes a snapshot with the layers below it as one signed
// stream, without memory for kind fs. What was written before an error is no
// whole stream, and no import takes it.
func (e *Executor) ExportSnapshot(ctx context.Context, project, id string, kind faas.SnapshotKind, w io.Writer) error {
	project = orDefault(project)
	m, err := e.visible(project, id)
	if err != nil {
		return err
	}
	switch {
	case kind != "" && kind != faas.SnapshotAuto && kind != faas.SnapshotFS && kind != faas.SnapshotFull:
		return faas.InvalidField("kind", "%q is not one of auto, fs, full", clip(string(kind)))
	case kind == faas.SnapshotFull && m.Kind != faas.SnapshotFull:
		return faas.InvalidField("kind", "snapshot %s has no memory", id)
	}
	if p, ok := e.drivers[m.Runtime].(driver.Elsewhere); ok {
		if err := p.InLayers(m.Driver); err != nil {
			return restoreErrorOp("export", id, err)
		}
	}
	return e.snapshots.Export(ctx, w, project, id, snapshot.ExportOptions{Kind: kind, Owner: e.fileOwner(m.Runtime)})
}

func restoreErrorOp(op, id string, err error) error {
	return &faas.Error{Kind: faas.KindOf(err), Op: op + " snapshot " + id, Err: err}
}

// ImportSnapshot takes in what ExportSnapshot wrote, here or on another
// machine. It is durable when ImportSnapshot returns; after an error nothing of
// it is left.
func (e *Executor) ImportSnapshot(ctx context.Context, project string, r io.Reader, opts faas.ImportOptions) (*faas.Snapshot, error) {
	check := faas.SnapshotRequest{Name: opts.Name, Kind: opts.Kind, Labels: opts.Labels}
	if err := checkSnapshotRequest(&check); err != nil {
		return nil, err
	}
	select {
	case e.tiers.imports <- struct{}{}:
		defer func() { <-e.tiers.imports }()
	case <-ctx.Done():
		return nil, stopped(ctx, "import snapshot")
	}
	if err := e.roomFor(ctx, "", ""); err != nil {
		return nil, err
	}
	m, err := e.snapshots.Import(ctx, r, snapshot.ImportOptions{
		Project: orDefault(project), Kind: check.Kind, Memory: opts.Memory, Trusted: e.opts.Transfer.Trusted,
		MaxBytes: e.opts.Transfer.MaxBytes, Owner: e.fileOwner,
		Accept: func(m *snapshot.Manifest) error { return e.acceptImport(m, opts) },
	})
	if err != nil {
		return nil, err
	}
	e.tiers.added(m.SizeBytes)
	return e.snapshotView(m), nil
}

// acceptImport checks, by the rules for requests, what a manifest from
// elsewhere says, and calls it what the caller wants.
func (e *Executor) acceptImport(m *snapshot.Manifest, opts faas.ImportOptions) error {
	if opts.Name != "" {
		m.Name = opts.Name
	}
	if opts.Labels != nil {
		m.Labels = opts.Labels
	}
	said := faas.SnapshotRequest{Name: m.Name, Description: m.Description, Labels: m.Labels}
	if err := checkSnapshotRequest(&said); err != nil {
		return err
	}
	req := faas.Request{Command: []string{"true"}, Image: m.Image, Runtime: m.Runtime, Resources: m.Spec.Resources, Env: m.Spec.Env, Network: m.Spec.Network}
	_, err := e.opts.Default.complete(req)
	return err
}
