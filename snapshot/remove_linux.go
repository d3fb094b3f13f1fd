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
	release, err := s.exclusive()
	if err != nil {
		return nil, err
	}
	defer release()
	if _, err := s.get(project, id); err != nil {
		return nil, err
	}
	if err := s.reload(s.loaded); err != nil { // others' children count
		return nil, storeError("remove snapshot "+id, err)
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
	release, err := s.exclusive()
	if err != nil {
		return err
	}
	defer release()
	m, err := s.readManifest(id)
	if err != nil || !m.Hidden || s.removed(id) {
		return ignoreMissing(err)
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
	return s.reap(layers...)
}

// reap takes the files of those removed snapshots out of sight that nobody
// uses. The caller holds the store; what is taken goes when it lets go.
func (s *Store) reap(ids ...string) error {
	var idle []string
	for _, id := range ids {
		if s.removed(id) && !s.leased(id) {
			idle = append(idle, id)
		}
	}
	if len(idle) == 0 {
		return nil
	}
	if err := s.reload(s.loaded); err != nil {
		return err
	}
	if len(s.damaged) > 0 {
		// One of those may lie on it: nobody can tell.
		s.log.Warn("removed snapshots keep their files while a manifest cannot be read", "snapshots", len(idle))
		return nil
	}
	needed := s.layersInUse()
	var errs []error
	for _, id := range idle {
		if !needed[id] {
			errs = append(errs, s.takeAway(id))
		}
	}
	return errors.Join(errs...)
}

// layersInUse names the snapshots whose files are among the layers of one that
// is seen.
func (s *Store) layersInUse() map[string]bool {
	used := map[string]bool{}
	for _, m := range s.byID {
		for _, layer := range m.Layers {
			used[layer] = true
		}
	}
	return used
}

func (s *Store) takeAway(id string) error {
	m, err := s.readManifest(id)
	if err != nil {
		m = nil
	}
	trash := filepath.Join(s.dir, dirTrash, id)
	if err := os.Rename(s.path(id), trash); err != nil {
		return ignoreMissing(err)
	}
	s.doomed = append(s.doomed, reaped{trash, m})
	return ignoreMissing(os.Remove(filepath.Join(s.dir, dirLeases, id)))
}
