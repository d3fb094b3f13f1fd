package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/faas-platform/faas"
)

// Lease keeps a snapshot's files, and those of the layers below it, in place
// for one holder. It is a file, so it outlives the process: a sandbox that
// runs through a restart of the daemon keeps its lower layers.
type Lease struct {
	Manifest *Manifest
	// Layers are the overlay layers above the image, topmost first.
	Layers []string
	// Memory holds the runtime's files; empty in an fs snapshot.
	Memory string

	store  *Store
	holder string
}

// Acquire leases a snapshot for a holder, a sandbox's id. Acquiring it twice
// for one holder is one lease.
func (s *Store) Acquire(project, id, holder string) (*Lease, error) {
	end, err := s.exclusive() // against Remove: a snapshot seen here is leased before it can go
	if err != nil {
		return nil, err
	}
	defer end()
	m, err := s.get(project, id)
	if err != nil {
		return nil, err
	}
	if m.Kind == faas.SnapshotFull && !s.has(id, partMemory) {
		return nil, missingPart(id)
	}
	l := &Lease{Manifest: clone(m), Memory: filepath.Join(s.path(id), partMemory), store: s, holder: holder}
	for _, layer := range m.Layers {
		if err := s.lease(layer, holder); err != nil {
			return nil, errors.Join(storeError("use snapshot "+id, err), l.release())
		}
		l.Layers = append(l.Layers, filepath.Join(s.path(layer), partFS))
	}
	return l, nil
}

func (s *Store) lease(id, holder string) error {
	if !s.has(id, partFS) {
		return missingPart(id)
	}
	dir := filepath.Join(s.dir, dirLeases, id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, holder), []byte(s.name), 0o600)
}

func (s *Store) has(id, part string) bool {
	_, err := os.Stat(filepath.Join(s.path(id), part))
	return err == nil
}

func missingPart(id string) error {
	return faas.Errorf(faas.KindFailedPrecondition, "the files of snapshot %s are not here", id)
}

// claimed says whether a process that lives took a lease.
func (s *Store) claimed(id, holder string) bool {
	owner, err := os.ReadFile(filepath.Join(s.dir, dirLeases, id, holder))
	return err == nil && len(owner) > 0 && s.ownerAlive(string(owner))
}

// Release ends the lease. It may be called more than once.
func (l *Lease) Release() error {
	end, err := l.store.exclusive()
	if err != nil {
		return err
	}
	defer end()
	return l.release()
}

func (l *Lease) release() error {
	var errs []error
	for _, layer := range l.Manifest.Layers {
		errs = append(errs, l.store.endLease(layer, l.holder))
	}
	return errors.Join(errs...)
}

// ReleaseHolder ends every lease of a holder, those of earlier processes
// included.
func (s *Store) ReleaseHolder(holder string) error {
	end, err := s.exclusive()
	if err != nil {
		return err
	}
	defer end()
	found, err := filepath.Glob(filepath.Join(s.dir, dirLeases, "*", holder))
	errs := []error{err}
	for _, path := range found {
		errs = append(errs, s.endLease(filepath.Base(filepath.Dir(path)), holder))
	}
	return errors.Join(errs...)
}

func (s *Store) endLease(id, holder string) error {
	err := ignoreMissing(os.Remove(filepath.Join(s.dir, dirLeases, id, holder)))
	if err != nil {
		return fmt.Errorf("end lease on %s: %w", id, err)
	}
	return s.reap(id)
}

func (s *Store) leased(id string) bool {
	entries, err := os.ReadDir(filepath.Join(s.dir, dirLeases, id))
	return err == nil && len(entries) > 0
}

// Sweep ends the leases of holders that keep does not name and that no living
// process has, and removes what is not needed then: what a crash
// between two steps of a removal left.
func (s *Store) Sweep(keep func(holder string) bool) error {
	s.Tidy()
	end, err := s.exclusive()
	if err != nil {
		return err
	}
	defer end()
	leased, err := os.ReadDir(filepath.Join(s.dir, dirLeases))
	errs := []error{err}
	for _, snap := range leased {
		holders, err := os.ReadDir(filepath.Join(s.dir, dirLeases, snap.Name()))
		errs = append(errs, err)
		for _, h := range holders {
			if !keep(h.Name()) && !s.claimed(snap.Name(), h.Name()) {
				errs = append(errs, s.endLease(snap.Name(), h.Name()))
			}
		}
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, dirSnapshots))
	ids := make([]string, 0, len(entries))
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return errors.Join(append(errs, err, s.reap(ids...))...)
}
