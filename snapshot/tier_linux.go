package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

// Evict drops the hot files of an archived snapshot that nobody uses, and
// says how many bytes that freed. The next Warm brings them back.
func (s *Store) Evict(id string) (int64, error) {
	release, err := s.exclusive()
	if err != nil {
		return 0, err
	}
	defer release()
	m, err := s.readManifest(id)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, noSnapshot(id)
	}
	if err != nil {
		return 0, storeError("evict snapshot "+id, err)
	}
	if c, err := s.readCold(id); err != nil || c.Index == "" {
		return 0, faas.Errorf(faas.KindFailedPrecondition, "snapshot %s has no cold copy", id)
	}
	if s.leased(id) {
		return 0, faas.Errorf(faas.KindConflict, "snapshot %s is in use", id)
	}
	// One rename takes each part out of sight, so a reader finds it whole or
	// not at all.
	for _, name := range []string{partMemory, partFS} {
		trash := filepath.Join(s.dir, dirTrash, id+"-"+name+"-"+faas.NewID("hot"))
		err := os.Rename(filepath.Join(s.path(id), name), trash)
		if err == nil {
			s.doomed = append(s.doomed, reaped{dir: trash})
		} else if ignoreMissing(err) != nil {
			return 0, storeError("evict snapshot "+id, err)
		}
	}
	return m.SizeBytes, nil
}

func (s *Store) hot(id string) bool { return s.has(id, partFS) && s.has(id, partMemory) }

// Warm brings the files of a snapshot, and of the layers below it, back from
// the cold tier where they were evicted.
func (s *Store) Warm(ctx context.Context, project, id string) error {
	m, err := s.Get(project, id)
	if err != nil {
		return err
	}
	for _, layer := range m.Layers {
		if s.hot(layer) {
			continue
		}
		if err := s.thaw(ctx, layer); err != nil {
			return storeError("bring back snapshot "+layer+" from the cold tier", err)
		}
	}
	return nil
}

// thaw unpacks aside and renames the parts into place. Two at once do the work
// twice and keep one result.
func (s *Store) thaw(ctx context.Context, id string) error {
	if c, err := s.readCold(id); errors.Is(err, fs.ErrNotExist) || err == nil && c.Index == "" {
		return faas.Errorf(faas.KindFailedPrecondition, "its files are missing and it has no cold copy")
	}
	release, err := s.guard(ctx, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer release()
	x, err := s.readIndex(ctx, id)
	if err != nil {
		return err
	}
	done := s.moving(id, PhaseFetch, x.bytes())
	defer done(0, true)
	staging := filepath.Join(s.dir, dirStaging, s.name, faas.NewID("thaw"))
	defer removeAll(staging) //nolint:errcheck // swept at the next start
	for _, p := range x.Parts {
		dir := filepath.Join(staging, p.Name)
		if p.Name != partFS && p.Name != partMemory {
			return faas.Errorf(faas.KindFailedPrecondition, "the list of its files names a part %q", p.Name)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := unpack(ctx, s.cold, p.Entries, dir, done); err != nil {
			return err
		}
	}
	if _, err := syncTree(ctx, staging); err != nil {
		return err
	}
	return s.putBack(staging, id)
}

func (s *Store) putBack(staging, id string) error {
	release, err := s.exclusive()
	if err != nil {
		return err
	}
	defer release()
	for _, name := range []string{partFS, partMemory} {
		if s.has(id, name) {
			continue
		}
		if err := os.Rename(filepath.Join(staging, name), filepath.Join(s.path(id), name)); err != nil {
			return fmt.Errorf("put its files in place: %w", err)
		}
	}
	return syncDir(s.path(id))
}

// progress says that so many bytes more were moved, and at the end that it is
// over.
type progress func(bytes int64, over bool)

// moving shows a snapshot as on its way between the tiers.
func (s *Store) moving(id, phase string, total int64) progress {
	s.movesMu.Lock()
	defer s.movesMu.Unlock()
	move := Move{Phase: phase, Total: total}
	s.moves[id] = move
	return func(bytes int64, over bool) {
		s.movesMu.Lock()
		defer s.movesMu.Unlock()
		if over {
			delete(s.moves, id)
			return
		}
		move.Done += bytes
		s.moves[id] = move
	}
}

// Tier says where a snapshot's own bytes are.
func (s *Store) Tier(id string) Placement {
	p := Placement{Hot: s.hot(id)}
	if c, err := s.readCold(id); err == nil {
		p.Cold, p.StoredBytes = c.Index != "", c.StoredBytes
		p.Archived = p.Cold || s.cold == nil
	}
	s.movesMu.Lock()
	defer s.movesMu.Unlock()
	if move, ok := s.moves[id]; ok {
		p.Move = &move
	}
	return p
}

// Holdings lists all that the store keeps, hidden and removed ones of every
// project included, oldest first.
func (s *Store) Holdings() ([]Holding, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, dirSnapshots))
	if err != nil {
		return nil, storeError("list the snapshot store", err)
	}
	list := make([]Holding, 0, len(entries))
	for _, e := range entries { // sorted by name, which is by age
		m, err := s.readManifest(e.Name())
		if err != nil {
			continue // it went meanwhile, or Damaged names it
		}
		h := Holding{Manifest: m, Placement: s.Tier(m.ID), Used: m.CreatedAt, Removed: s.removed(m.ID)}
		leases := filepath.Join(s.dir, dirLeases, m.ID)
		if info, err := os.Stat(leases); err == nil && info.ModTime().After(h.Used) {
			h.Used = info.ModTime()
		}
		h.Leased = s.leased(m.ID)
		list = append(list, h)
	}
	return list, nil
}

// Damaged names the snapshots whose manifests cannot be read, and why.
func (s *Store) Damaged() map[string]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reload(s.loaded); err != nil {
		s.log.Error("the snapshots cannot be listed", "error", err)
	}
	damaged := make(map[string]error, len(s.damaged))
	for id, err := range s.damaged {
		damaged[id] = err
	}
	return damaged
}
