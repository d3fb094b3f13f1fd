package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/faas-platform/faas"
)

// Remove removes a snapshot, with all that descend from it when cascade is
// set; without, it refuses with KindConflict while there are any. It returns
// the ids that it removed. Files in use stay until their leases end.
func (s *Store) Remove(project, id string, cascade bool) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.get(project, id); err != nil {
		return nil, err
	}
	family := s.descendants(id)
	if len(family) > 0 && !cascade {
		return nil, &faas.Error{
			Kind: faas.KindConflict, Op: "remove snapshot " + id,
			Detail: fmt.Sprintf("%d snapshots descend from it: %s", len(family), strings.Join(family[:min(len(family), 5)], ", ")),
			Remedy: "remove those first, or ask for cascade",
		}
	}
	// Children first: whatever a crash leaves is a whole tree.
	removed := append([]string{id}, family...)
	slices.Reverse(removed)
	for i, victim := range removed {
		if err := s.discard(victim); err != nil {
			return removed[:i], storeError("remove snapshot "+victim, err)
		}
	}
	return removed, nil
}

// Drop removes a hidden snapshot, whatever descends from it.
func (s *Store) Drop(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.byID[id]
	if m == nil || !m.Hidden {
		return nil
	}
	if err := s.discard(id); err != nil {
		return storeError("remove snapshot "+id, err)
	}
	return nil
}

// descendants lists what descends from a snapshot, parents before children.
func (s *Store) descendants(id string) []string {
	children := map[string][]string{}
	for _, m := range s.byID {
		if m.ParentID != "" && !m.Hidden {
			children[m.ParentID] = append(children[m.ParentID], m.ID)
		}
	}
	var list []string
	for queue := []string{id}; len(queue) > 0; queue = queue[1:] {
		next := children[queue[0]]
		slices.Sort(next)
		list = append(list, next...)
		queue = append(queue, next...)
	}
	return list
}

// discard takes a snapshot out of sight for good and, unless someone needs
// them, its files with it, and those below that only it still needed.
func (s *Store) discard(id string) error {
	layers := []string{id}
	if m, err := s.readManifest(id); err == nil {
		layers = m.Layers
	}
	if err := writeDurably(filepath.Join(s.path(id), fileRemoved), time.Now().UTC()); err != nil {
		return err
	}
	delete(s.byID, id)
	var errs []error
	for _, layer := range layers {
		errs = append(errs, s.reap(layer))
	}
	return errors.Join(errs...)
}

// needed says whether a snapshot's files are among another's layers.
func (s *Store) needed(id string) bool {
	for _, m := range s.byID {
		if m.ID != id && slices.Contains(m.Layers, id) {
			return true
		}
	}
	return false
}

// reap removes the files of a removed snapshot that nobody uses.
func (s *Store) reap(id string) error {
	if !s.removed(id) || s.leased(id) || s.needed(id) {
		return nil
	}
	trash := filepath.Join(s.dir, dirTrash, id)
	if err := os.Rename(s.path(id), trash); err != nil {
		return ignoreMissing(err)
	}
	return errors.Join(ignoreMissing(os.Remove(filepath.Join(s.dir, dirLeases, id))), removeAll(trash))
}
