package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/snapshot/chunk"
)

// Names below the store's directory.
const (
	dirSnapshots = "snapshots" // one directory each: manifest.json, fs/, memory/
	dirStaging   = "staging"   // drafts, below a directory per owner
	dirOwners    = "owners"    // a locked file per live process
	dirLeases    = "leases"    // SNAPSHOT/HOLDER
	dirTrash     = "trash"     // renamed here, then removed at leisure
	fileManifest = "manifest.json"
	fileRemoved  = "removed" // beside the manifest: nobody sees the snapshot any more
	fileLock     = "lock"    // held for every change, see exclusive
	fileIdentity = "id"      // of this store, among those that share a cold tier
	partFS       = "fs"
	partMemory   = "memory"
)

// Store keeps snapshots in a directory.
type Store struct {
	dir   string
	log   *slog.Logger
	owner *os.File     // locked while this process lives
	name  string       // the owner's
	cold  *chunk.Store // nil: there is no cold tier
	// naming names pieces as the cold tier would, and keeps nothing.
	naming *chunk.Store
	opts   Options

	mu     sync.RWMutex
	byID   map[string]*Manifest // committed and not removed
	stamps map[string]stamp     // of their manifests when they were read
	loaded time.Time            // the directory's when byID was read
	// damaged are the snapshots whose manifests cannot be read.
	damaged map[string]error
	doomed  []reaped // out of sight, to be removed once the lock is free

	movesMu sync.Mutex
	moves   map[string]Move
}

// Open opens or makes a store and removes what dead processes left aside.
func Open(dir string, opts Options) (*Store, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []string{dirSnapshots, dirStaging, dirOwners, dirLeases, dirTrash} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("open snapshot store: %w", err)
		}
	}
	s := &Store{dir: dir, log: opts.Logger, opts: opts, name: faas.NewID("own"), byID: map[string]*Manifest{}, moves: map[string]Move{}}
	owner, err := lockOwner(filepath.Join(dir, dirOwners, s.name))
	if err != nil {
		return nil, fmt.Errorf("open snapshot store: %w", err)
	}
	s.owner = owner
	if err := errors.Join(s.sweepStaging(), s.sweepTrash(), s.openCold(), s.Reload()); err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshot store: %w", err), s.Close())
	}
	return s, nil
}

// Close gives up the ownership of unfinished drafts.
func (s *Store) Close() error {
	return errors.Join(os.Remove(s.owner.Name()), s.owner.Close())
}

func lockOwner(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ownerAlive says whether the process that made the lock file still runs.
func (s *Store) ownerAlive(name string) bool {
	if name == s.name {
		return true
	}
	f, err := os.Open(filepath.Join(s.dir, dirOwners, name))
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// sweepStaging removes the drafts of owners that are dead, then their locks.
func (s *Store) sweepStaging() error {
	var errs []error
	owners, err := os.ReadDir(filepath.Join(s.dir, dirStaging))
	errs = append(errs, err)
	for _, o := range owners {
		if !s.ownerAlive(o.Name()) {
			s.log.Info("removing what a dead process left half made", "owner", o.Name())
			// Out of sight first: what the dead process started may write there still.
			trash := filepath.Join(s.dir, dirTrash, o.Name()+"-"+faas.NewID("dead"))
			errs = append(errs, ignoreMissing(os.Rename(filepath.Join(s.dir, dirStaging, o.Name()), trash)))
		}
	}
	locks, err := os.ReadDir(filepath.Join(s.dir, dirOwners))
	errs = append(errs, err)
	for _, l := range locks {
		if !s.ownerAlive(l.Name()) {
			errs = append(errs, ignoreMissing(os.Remove(filepath.Join(s.dir, dirOwners, l.Name()))))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) sweepTrash() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, dirTrash))
	for _, e := range entries {
		if err := removeAll(filepath.Join(s.dir, dirTrash, e.Name())); err != nil {
			s.log.Warn("what is out of sight could not be removed yet", "name", e.Name(), "error", err)
		}
	}
	return err
}

// Tidy removes again what was taken out of sight and could not be removed: a
// program that outlived its daemon wrote into it.
func (s *Store) Tidy() {
	if err := s.sweepTrash(); err != nil {
		s.log.Warn("what is out of sight could not be listed", "error", err)
	}
}

// refresh reads the manifests again when another process has added or removed
// some.
func (s *Store) refresh() {
	st, err := os.Stat(filepath.Join(s.dir, dirSnapshots))
	s.mu.RLock()
	same := err == nil && st.ModTime().Equal(s.loaded)
	s.mu.RUnlock()
	if same {
		return
	}
	if err := s.Reload(); err != nil {
		s.log.Error("the snapshots cannot be listed; those known before are shown", "error", err)
	}
}

// Reload reads every manifest again. Another process that shares the store
// may have added or removed some.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, err := os.Stat(filepath.Join(s.dir, dirSnapshots))
	if err != nil {
		return err
	}
	return s.reload(dir.ModTime())
}

// reload reads the manifests that have changed; the caller holds mu.
func (s *Store) reload(now time.Time) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, dirSnapshots))
	if err != nil {
		return err
	}
	found, stamps, damaged := make(map[string]*Manifest, len(entries)), make(map[string]stamp, len(entries)), map[string]error{}
	for _, e := range entries {
		id := e.Name()
		if !faas.ValidID(faas.PrefixSnapshot, id) {
			continue
		}
		at, err := s.stampOf(id)
		if errors.Is(err, fs.ErrNotExist) && !s.exists(id) {
			continue // it went meanwhile
		}
		m := s.byID[id]
		if err == nil && (m == nil || s.stamps[id] != at) {
			m, err = s.readManifest(id)
		}
		if err != nil {
			if s.damaged[id] == nil {
				s.log.Error("a snapshot's manifest cannot be read; the snapshot is left as it is", "snapshot", id, "error", err)
			}
			damaged[id] = err
			continue
		}
		if !s.removed(id) {
			found[id], stamps[id] = m, at
		}
	}
	s.byID, s.stamps, s.damaged, s.loaded = found, stamps, damaged, now
	return nil
}

func (s *Store) removed(id string) bool {
	_, err := os.Stat(filepath.Join(s.path(id), fileRemoved))
	return err == nil
}

func (s *Store) readManifest(id string) (*Manifest, error) {
	b, err := os.ReadFile(filepath.Join(s.path(id), fileManifest))
	if err != nil {
		return nil, err
	}
	m := new(Manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, err
	}
	if m.Version != formatVersion {
		return nil, fmt.Errorf("manifest version %d is newer than this program knows (%d)", m.Version, formatVersion)
	}
	if m.ID != id {
		return nil, fmt.Errorf("manifest is that of %s", m.ID)
	}
	return m, nil
}

func (s *Store) path(id string) string { return filepath.Join(s.dir, dirSnapshots, id) }

// Draft is a snapshot in the making. Exactly one of Commit and Abort ends it.
type Draft struct {
	Manifest Manifest
	store    *Store
	dir      string
}

// Begin starts a snapshot whose layer lies on its parent's.
func (s *Store) Begin(m Manifest) (*Draft, error) {
	if m.ParentID != "" {
		if _, err := s.Get(m.Project, m.ParentID); err != nil {
			return nil, err
		}
	}
	return s.BeginOn(m, m.ParentID)
}

// BeginOn starts a snapshot whose layer lies on those of base, or on the image
// when base is empty. The manifest's id, time and layers are filled in. A base
// that was removed serves for as long as its files are there.
func (s *Store) BeginOn(m Manifest, base string) (*Draft, error) {
	m.ID, m.Version, m.CreatedAt = faas.NewID(faas.PrefixSnapshot), formatVersion, time.Now().UTC()
	m.Layers = []string{m.ID}
	if base != "" {
		below, err := s.readManifest(base)
		if errors.Is(err, fs.ErrNotExist) || err == nil && below.Project != m.Project {
			err = noSnapshot(base)
		}
		if err != nil {
			return nil, storeError("begin snapshot", err)
		}
		m.Layers = append(m.Layers, below.Layers...)
	}
	d := &Draft{Manifest: m, store: s, dir: filepath.Join(s.dir, dirStaging, s.name, m.ID)}
	for _, part := range []string{partFS, partMemory} {
		if err := os.MkdirAll(filepath.Join(d.dir, part), 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("begin snapshot: %w", err), d.Abort())
		}
	}
	return d, nil
}

// FS is the directory that takes the overlay layer.
func (d *Draft) FS() string { return filepath.Join(d.dir, partFS) }

// Memory is the directory that takes the runtime's memory and process files.
func (d *Draft) Memory() string { return filepath.Join(d.dir, partMemory) }

// Commit makes the snapshot durable and visible. When it fails nothing of the
// snapshot remains.
func (d *Draft) Commit(ctx context.Context) (*Manifest, error) {
	m, err := d.commit(ctx)
	if err != nil {
		return nil, errors.Join(storeError("commit snapshot "+d.Manifest.ID, err), d.Abort())
	}
	return m, nil
}

// finish makes all of the draft durable where it is, its manifest included.
func (d *Draft) finish(ctx context.Context) error {
	size, err := syncTree(ctx, d.dir)
	if err != nil {
		return err
	}
	d.Manifest.SizeBytes = size
	if d.Manifest.MemoryBytes, err = treeSize(d.Memory()); err != nil {
		return err
	}
	return writeDurably(filepath.Join(d.dir, fileManifest), d.Manifest)
}

// Covers says that the draft's own layer repeats all that the topmost n of
// those below it say, which are left out then.
func (d *Draft) Covers(n int) {
	if n > 0 {
		d.Manifest.Layers = append(d.Manifest.Layers[:1:1], d.Manifest.Layers[min(1+n, len(d.Manifest.Layers)):]...)
	}
}

func (d *Draft) commit(ctx context.Context) (*Manifest, error) {
	if err := d.finish(ctx); err != nil {
		return nil, err
	}
	m := d.Manifest
	// Held across the rename, so that a parent cannot be removed between the
	// look at it and the child's appearance.
	s := d.store
	release, err := s.exclusive()
	if err != nil {
		return nil, err
	}
	defer release()
	if m.ParentID != "" {
		if _, err := s.get(m.Project, m.ParentID); err != nil {
			return nil, faas.Errorf(faas.KindConflict, "its parent %s was removed meanwhile", m.ParentID)
		}
	}
	for _, layer := range m.Layers[1:] {
		if !s.exists(layer) {
			return nil, faas.Errorf(faas.KindConflict, "the layer %s that it lies on was removed meanwhile", layer)
		}
	}
	if err := s.place(d.dir, m.ID); err != nil {
		return nil, err
	}
	committed, err := s.get(m.Project, m.ID)
	return clone(committed), err
}

// place renames a finished directory to where snapshots are seen; the caller
// holds the store.
func (s *Store) place(dir, id string) error {
	if err := os.Rename(dir, s.path(id)); err != nil {
		return err
	}
	if err := syncDir(filepath.Join(s.dir, dirSnapshots)); err != nil {
		return errors.Join(err, s.discard(id))
	}
	return nil
}

// Abort removes a draft.
func (d *Draft) Abort() error { return removeAll(d.dir) }

// Get returns a project's snapshot.
func (s *Store) Get(project, id string) (*Manifest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.get(project, id)
	if err != nil {
		return nil, err
	}
	return clone(m), nil
}

// get finds a snapshot as it is now: another process may have made, changed
// or removed it. The caller holds mu.
func (s *Store) get(project, id string) (*Manifest, error) {
	if !faas.ValidID(faas.PrefixSnapshot, id) {
		return nil, noSnapshot(id)
	}
	at, err := s.stampOf(id)
	if errors.Is(err, fs.ErrNotExist) || err == nil && s.removed(id) {
		delete(s.byID, id)
		return nil, noSnapshot(id)
	}
	m := s.byID[id]
	if err == nil && (m == nil || s.stamps[id] != at) {
		m, err = s.readManifest(id)
	}
	if err != nil {
		if m = s.byID[id]; m == nil || m.Project != project {
			return nil, noSnapshot(id)
		}
		return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Op: "snapshot " + id, Detail: "its manifest cannot be read", Err: err}
	}
	if m.Project != project {
		return nil, noSnapshot(id)
	}
	s.byID[id], s.stamps[id] = m, at
	return m, nil
}

func noSnapshot(id string) error {
	if len(id) > 64 {
		id = id[:64] + "…"
	}
	return faas.Errorf(faas.KindNotFound, "there is no snapshot %s", id)
}

// List returns a project's snapshots that match, oldest first; a nil match
// takes all. Hidden ones are not in it.
func (s *Store) List(project string, match func(*Manifest) bool) []*Manifest {
	return s.list(func(m *Manifest) bool {
		return !m.Hidden && m.Project == project && (match == nil || match(m))
	})
}

// Hidden returns the hidden snapshots of every project, oldest first.
func (s *Store) Hidden() []*Manifest { return s.list(func(m *Manifest) bool { return m.Hidden }) }

func (s *Store) list(match func(*Manifest) bool) []*Manifest {
	s.refresh()
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []*Manifest
	for _, m := range s.byID {
		if match(m) {
			list = append(list, clone(m))
		}
	}
	slices.SortFunc(list, func(a, b *Manifest) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// Annotate changes what may change on a snapshot.
func (s *Store) Annotate(project, id string, change func(*Annotations)) (*Manifest, error) {
	release, err := s.exclusive()
	if err != nil {
		return nil, err
	}
	defer release()
	m, err := s.get(project, id)
	if err != nil {
		return nil, err
	}
	changed := clone(m)
	change(&changed.Annotations)
	if err := writeDurably(filepath.Join(s.path(id), fileManifest), changed); err != nil {
		return nil, storeError("annotate snapshot "+id, err)
	}
	return clone(changed), nil
}

func clone(m *Manifest) *Manifest {
	c := *m
	c.Layers = slices.Clone(m.Layers)
	if m.Labels != nil {
		c.Labels = make(map[string]string, len(m.Labels))
		for k, v := range m.Labels {
			c.Labels[k] = v
		}
	}
	return &c
}

// storeError gives a full disk its own kind: the user can do something.
func storeError(op string, err error) error {
	var e *faas.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", op, err)
	case errors.As(err, &e):
		// What it was about is part of what the user is told.
		told := *e
		if told.Op = op; e.Op != "" {
			told.Op += ": " + e.Op
		}
		return &told
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return &faas.Error{Kind: faas.KindResourceExhausted, Op: op, Detail: "the disk is full", Remedy: "remove snapshots or give the data directory more room", Err: err}
	}
	return &faas.Error{Kind: faas.KindInternal, Op: op, Err: err}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
