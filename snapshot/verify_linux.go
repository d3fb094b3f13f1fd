package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/snapshot/chunk"
)

// Verify reads everything that a snapshot and the layers below it hold, in
// both tiers, and compares it with the digests taken when it was archived. One
// without digests gets them first: from then on its bytes can be compared.
func (s *Store) Verify(ctx context.Context, project, id string) ([]Problem, error) {
	m, err := s.Get(project, id)
	if err != nil {
		return nil, err
	}
	var all []Problem
	for _, layer := range m.Layers {
		problems, err := s.VerifyOwn(ctx, layer)
		if err != nil {
			return all, err
		}
		all = append(all, problems...)
	}
	return all, nil
}

// VerifyOwn is Verify of a snapshot's own bytes, whoever's it is, without the
// layers below.
func (s *Store) VerifyOwn(ctx context.Context, id string) ([]Problem, error) {
	m, err := s.readManifest(id)
	if err != nil {
		return []Problem{{id, TierHot, fileManifest, "its manifest cannot be read: " + err.Error()}}, nil
	}
	hot := s.hot(id)
	if hot {
		if _, err := s.Archive(ctx, id); err != nil && !errors.Is(err, faas.ErrFailedPrecondition) {
			return nil, err
		}
	}
	x, err := s.readIndex(ctx, id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Problem{{id, TierHot, "", "its files are missing and it has no cold copy"}}, nil
	case errors.Is(err, faas.ErrFailedPrecondition):
		return []Problem{{id, TierCold, "", err.Error()}}, nil
	case err != nil:
		return nil, storeError("verify snapshot "+id, err)
	}
	var problems []Problem
	if c, err := s.readCold(id); err == nil && c.Index != "" {
		if problems, err = s.verifyCold(ctx, m, x); err != nil {
			return problems, storeError("verify snapshot "+id, err)
		}
	} else if !hot {
		return []Problem{{id, TierHot, "", "its files are missing and it has no cold copy"}}, nil
	}
	if !hot {
		return problems, nil
	}
	more, err := s.verifyHot(ctx, m, x)
	if err != nil {
		err = storeError("verify snapshot "+id, err)
	}
	return append(problems, more...), err
}

func (s *Store) verifyCold(ctx context.Context, m *Manifest, x *index) ([]Problem, error) {
	var problems []Problem
	seen := map[chunk.Ref]bool{}
	err := x.pieces(func(e *entry, p piece) error {
		if seen[p.Ref] {
			return ctx.Err()
		}
		seen[p.Ref] = true
		_, err := s.cold.Get(ctx, p.Ref)
		if errors.Is(err, faas.ErrFailedPrecondition) {
			problems = append(problems, Problem{m.ID, TierCold, e.Path, err.Error()})
			return nil
		}
		return err
	})
	return problems, err
}

// verifyHot lists the hot files again and compares with the index.
func (s *Store) verifyHot(ctx context.Context, m *Manifest, x *index) ([]Problem, error) {
	var problems []Problem
	for _, p := range x.Parts {
		have, _, err := pack(ctx, s.naming, filepath.Join(s.path(m.ID), p.Name), nil)
		if errors.Is(err, fs.ErrNotExist) && !s.hot(m.ID) {
			return problems, nil // evicted meanwhile
		}
		if err != nil {
			return problems, err
		}
		byPath := make(map[string]entry, len(have))
		for _, e := range have {
			byPath[e.Path] = e
		}
		for _, want := range p.Entries {
			got, ok := byPath[want.Path]
			delete(byPath, want.Path)
			switch {
			case !ok:
				problems = append(problems, Problem{m.ID, TierHot, want.Path, "it is missing"})
			case !sameEntry(got, want):
				problems = append(problems, Problem{m.ID, TierHot, want.Path, "it is not what was saved"})
			}
		}
		for path := range byPath {
			problems = append(problems, Problem{m.ID, TierHot, path, "it was not saved"})
		}
	}
	return problems, nil
}

// sameEntry compares what a restore would see. A file's times and how many
// names it has may differ: a sandbox that reads it changes neither, but what
// was brought back has its own.
func sameEntry(a, b entry) bool {
	if a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || a.Size != b.Size || a.Target != b.Target || a.Link != b.Link || a.Device != b.Device {
		return false
	}
	return reflect.DeepEqual(a.Extents, b.Extents) && reflect.DeepEqual(a.Xattrs, b.Xattrs)
}
