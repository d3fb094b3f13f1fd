package snapshot

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/faas-platform/faas"
)

// Compact makes one layer of all that lie below a snapshot's own, when there
// are at least two, and has every snapshot that lies on the same ones lie on
// that instead. What sandboxes have in use stays until they end. It says
// whether it did; it is off everybody's path.
func (s *Store) Compact(ctx context.Context, project, id string) (bool, error) {
	if err := s.Warm(ctx, project, id); err != nil {
		return false, err
	}
	l, err := s.Acquire(project, id, faas.NewID(s.name))
	if err != nil {
		return false, err
	}
	did, err := s.compact(ctx, l)
	if err = errors.Join(err, l.Release()); err != nil {
		return false, storeError("compact snapshot "+id, err)
	}
	return did, nil
}

func (s *Store) compact(ctx context.Context, l *Lease) (bool, error) {
	below := l.Manifest.Layers[1:]
	if len(below) < 2 {
		return false, nil
	}
	d, err := s.BeginOn(Manifest{
		Project: l.Manifest.Project, Kind: faas.SnapshotFS, Runtime: l.Manifest.Runtime,
		Image: l.Manifest.Image, ImageDigest: l.Manifest.ImageDigest, Spec: l.Manifest.Spec, Hidden: true,
	}, "")
	if err != nil {
		return false, err
	}
	err = flatten(ctx, l.Layers[1:], d.FS())
	if err == nil {
		err = d.finish(ctx)
	}
	if err == nil {
		// Nobody sees it; it is there for those that lie on it.
		err = writeDurably(filepath.Join(d.dir, fileRemoved), time.Now().UTC())
	}
	if err == nil {
		err = s.relay(d, below)
	}
	if err != nil {
		return false, errors.Join(err, d.Abort())
	}
	return true, nil
}

// relay puts a finished draft in place and has all that lie on the layers
// below lie on it. Whatever a crash interrupts is a whole: each manifest names
// either the old layers or the new one, which show the same.
func (s *Store) relay(d *Draft, below []string) error {
	release, err := s.exclusive()
	if err != nil {
		return err
	}
	defer release()
	if err := s.place(d.dir, d.Manifest.ID); err != nil {
		return err
	}
	if err := s.reload(s.loaded); err != nil {
		return err
	}
	for id, m := range s.byID {
		above, on := suffixOf(m.Layers, below)
		if !on || len(above) == 0 {
			continue
		}
		changed := clone(m)
		changed.Layers = append(slices.Clone(above), d.Manifest.ID)
		if err := writeDurably(filepath.Join(s.path(id), fileManifest), changed); err != nil {
			return err
		}
	}
	return s.reap(slices.Concat(below, []string{d.Manifest.ID})...)
}

// suffixOf says whether list ends with end, and what comes before.
func suffixOf(list, end []string) (before []string, ok bool) {
	n := len(list) - len(end)
	if n < 0 || !slices.Equal(list[n:], end) {
		return nil, false
	}
	return list[:n], true
}
