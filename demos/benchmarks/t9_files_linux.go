package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/oci"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/snapshot"
)

const (
	fileRounds = 12
	fileBudget = 60 * time.Second
	// The image below and what is changed above it, in MiB.
	belowMiB, aboveMiB = 1024, 10
	bigFiles           = 64
)

// fileSnapshots takes T9: file snapshots of a native sandbox that changed a
// little above an image of 1 GB, to the disk, and restores of them.
func fileSnapshots(ctx context.Context, b *bench) (figures []Figure, err error) {
	large := *b
	if large.rootfsTar, err = b.largeImage(); err != nil {
		return nil, err
	}
	n, err := large.openNative(ctx, "t9", oci.LauncherBuiltin)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.driver.Close()) }()
	if fs := n.driver.Probe(ctx).Feature(faas.FeatureSnapshotFS); !fs.Available {
		return nil, fmt.Errorf("%w: %s", errUnavailable, fs.Reason)
	}
	store, err := snapshot.Open(filepath.Join(b.dir, "t9", "snapshots"), snapshot.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	made, err := n.driver.Create(ctx, spec())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, made.Destroy(context.WithoutCancel(ctx))) }()
	if err := fillSandbox(ctx, made); err != nil {
		return nil, err
	}
	s := &fileSaver{native: n, store: store, source: made}
	if _, err := s.save(ctx); err != nil {
		return nil, err
	}
	const save, restore = "file snapshot", "restore"
	all, err := interleave(ctx, fileRounds, fileBudget, []contender{{name: save, once: s.save}, {name: restore, once: s.restore}})
	if err != nil {
		return nil, err
	}
	row := func(id, name, what, clock string, limit float64) Figure {
		d := all[what]
		return Figure{ID: id, Name: name, Unit: "ms", Better: LowerIsBetter, Target: target(limit), Value: d.P50, P50: d.P50, P99: d.P99,
			Runs: d.Runs, Concurrency: 1, State: "warm", Clock: clock}
	}
	what := fmt.Sprintf("%d MiB changed above an image of %d MiB", aboveMiB, belowMiB)
	return []Figure{
		row("T9.save", "file snapshot, durable: "+what, save, "from before Begin to the return of Commit, synced", 100),
		row("T9.restore", "restore before the first exec: "+what, restore, "from before Acquire to the return of Restore: the agent answers", 20),
	}, nil
}

// largeImage packs the common root file system with files of 1 GB that no
// compression or sparseness makes small.
func (b *bench) largeImage() (string, error) {
	dir, file := filepath.Join(b.dir, "t9-image"), filepath.Join(b.dir, "t9-image.tar")
	if err := os.CopyFS(filepath.Join(dir), os.DirFS(b.rootfs)); err != nil {
		return "", err
	}
	piece := make([]byte, belowMiB<<20/bigFiles)
	rand.Read(piece) //nolint:errcheck // crypto/rand.Read never fails
	for i := range bigFiles {
		copy(piece, fmt.Sprint("file ", i))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("big-", i)), piece, 0o600); err != nil {
			return "", err
		}
	}
	err := writeTar(dir, file)
	return file, errors.Join(err, os.RemoveAll(dir))
}

// fillSandbox changes some files.
func fillSandbox(ctx context.Context, s driver.Sandbox) error {
	channel := s.Channel()
	client := guest.NewClient(s.Dial, guest.Options{Secret: channel.Secret, Multiplex: channel.Multiplex})
	defer client.Close()
	var said bytes.Buffer
	command := fmt.Sprintf("head -c %d /dev/urandom >/changed", aboveMiB<<20)
	exit, err := client.Run(ctx, guest.Command{Args: []string{"sh", "-c", command}}, nil, io.Discard, &said)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("it ended with %d: %s", exit.Code, said.String())
	}
	return err
}

// fileSaver saves one sandbox again and again, and restores the last snapshot.
type fileSaver struct {
	native *native
	store  *snapshot.Store
	source driver.Sandbox
	last   *snapshot.Manifest
}

func (s *fileSaver) save(ctx context.Context) (time.Duration, error) {
	source, ok := s.source.(driver.Snapshotter)
	if !ok {
		return 0, errUnavailable
	}
	before := s.last
	start := time.Now()
	draft, err := s.store.Begin(snapshot.Manifest{Project: faas.DefaultProject, Kind: faas.SnapshotFS, Runtime: faas.RuntimeNative, Image: imageName})
	if err != nil {
		return 0, err
	}
	saved, err := source.Snapshot(ctx, faas.SnapshotFS, draft.FS(), draft.Memory())
	if err != nil {
		return 0, errors.Join(err, draft.Abort())
	}
	draft.Manifest.Driver = saved.Data
	if s.last, err = draft.Commit(ctx); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if before != nil {
		_, err = s.store.Remove(faas.DefaultProject, before.ID, false)
	}
	return took, err
}

func (s *fileSaver) restore(ctx context.Context) (took time.Duration, err error) {
	of := spec()
	start := time.Now()
	lease, err := s.store.Acquire(faas.DefaultProject, s.last.ID, of.ID)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, lease.Release()) }()
	state := driver.State{Kind: faas.SnapshotFS, Layers: lease.Layers, Data: lease.Manifest.Driver}
	made, err := s.native.driver.Restore(ctx, state, of, func(context.Context, driver.Sandbox) error { return nil })
	if err != nil {
		return 0, err
	}
	took = time.Since(start)
	return took, made.Destroy(ctx)
}
