package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/snapshot/chunk"
)

const (
	fileCold   = "cold.json"  // beside the manifest: where the cold copy is
	fileGuard  = "cold.guard" // locked shared by writers of pieces, exclusively by their sweep
	indexBlobs = "index/"
)

// coldCopy says where a snapshot's cold copy is.
type coldCopy struct {
	Index       string    `json:"index"`        // name of the blob
	StoredBytes int64     `json:"stored_bytes"` // that no earlier snapshot had stored
	At          time.Time `json:"at"`
}

// coldStore returns the cold tier, or why there is none.
func (s *Store) coldStore() (*chunk.Store, error) {
	if s.cold == nil {
		return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Detail: "the snapshot store has no cold tier", Remedy: "configure one"}
	}
	return s.cold, nil
}

// guard locks the pieces: shared for who writes or reads them, exclusive for
// who removes those that nothing names. It holds between processes too.
func (s *Store) guard(ctx context.Context, how int) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, fileGuard), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(pause):
		}
	}
}

// Archive writes a snapshot's cold copy: chunked, compressed, verified when it
// is read. It is off everybody's path; the snapshot stays hot.
func (s *Store) Archive(ctx context.Context, project, id string) (int64, error) {
	m, release, err := s.holdOwn(project, id)
	if err != nil {
		return 0, storeError("archive snapshot "+id, err)
	}
	stored, err := s.archive(ctx, m)
	if err = errors.Join(err, release()); err != nil {
		return 0, storeError("archive snapshot "+id, err)
	}
	return stored, nil
}

// holdOwn leases a snapshot's own files for this process; the layers below it
// may be evicted.
func (s *Store) holdOwn(project, id string) (_ *Manifest, release func() error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.get(project, id)
	if err != nil {
		return nil, nil, err
	}
	holder := faas.NewID(s.name)
	if err := s.lease(id, holder); err != nil {
		return nil, nil, err
	}
	return clone(m), func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.endLease(id, holder)
	}, nil
}

func (s *Store) archive(ctx context.Context, m *Manifest) (int64, error) {
	if c, err := s.readCold(m.ID); err == nil {
		return c.StoredBytes, nil
	}
	store, err := s.coldStore()
	if err != nil {
		return 0, err
	}
	release, err := s.guard(ctx, unix.LOCK_SH)
	if err != nil {
		return 0, err
	}
	defer release()
	x, stored, err := s.index(ctx, store, m)
	if err != nil {
		return 0, err
	}
	b, err := json.Marshal(x)
	if err != nil {
		return 0, err
	}
	if len(b) > chunk.MaxBlob {
		return 0, faas.Errorf(faas.KindResourceExhausted, "its list of files is too long for the cold tier")
	}
	name := indexBlobs + m.ID
	size, err := store.PutBlob(ctx, name, b)
	if err != nil {
		return 0, err
	}
	c := coldCopy{Index: name, StoredBytes: stored + size, At: time.Now().UTC()}
	return c.StoredBytes, writeDurably(filepath.Join(s.path(m.ID), fileCold), c)
}

// index stores the pieces of a snapshot's own parts and lists them.
func (s *Store) index(ctx context.Context, store *chunk.Store, m *Manifest) (*index, int64, error) {
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, 0, err
	}
	x := &index{Version: formatVersion, Manifest: manifest}
	var total int64
	for _, name := range []string{partFS, partMemory} {
		entries, stored, err := pack(ctx, store, filepath.Join(s.path(m.ID), name))
		if err != nil {
			return nil, 0, err
		}
		total += stored
		x.Parts = append(x.Parts, part{name, entries})
	}
	return x, total, nil
}

func (s *Store) readCold(id string) (coldCopy, error) {
	var c coldCopy
	b, err := os.ReadFile(filepath.Join(s.path(id), fileCold))
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	return c, err
}

func (s *Store) readIndex(ctx context.Context, id string) (*index, error) {
	store, err := s.coldStore()
	if err != nil {
		return nil, err
	}
	c, err := s.readCold(id)
	if err != nil {
		return nil, err
	}
	b, err := store.GetBlob(ctx, c.Index)
	if errors.Is(err, faas.ErrNotFound) {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "the list of its files is missing from the cold tier")
	}
	if err != nil {
		return nil, err
	}
	x := new(index)
	if err := json.Unmarshal(b, x); err != nil || x.Version != formatVersion {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "the list of its files cannot be read: version %d: %w", x.Version, err)
	}
	return x, nil
}

// Evict drops the hot files of an archived snapshot that nobody uses, and
// says how many bytes that freed. The next Acquire brings them back.
func (s *Store) Evict(project, id string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.get(project, id)
	if err != nil {
		return 0, err
	}
	if _, err := s.readCold(id); err != nil {
		return 0, faas.Errorf(faas.KindFailedPrecondition, "snapshot %s has no cold copy", id)
	}
	if s.leased(id) {
		return 0, faas.Errorf(faas.KindConflict, "snapshot %s is in use", id)
	}
	// One rename takes each part out of sight, so a reader finds it whole or
	// not at all.
	for _, name := range []string{partMemory, partFS} {
		trash := filepath.Join(s.dir, dirTrash, id+"-"+name+"-"+faas.NewID("hot"))
		if err := ignoreMissing(os.Rename(filepath.Join(s.path(id), name), trash)); err != nil {
			return 0, storeError("evict snapshot "+id, err)
		}
		if err := removeAll(trash); err != nil {
			return 0, storeError("evict snapshot "+id, err)
		}
	}
	return m.SizeBytes, nil
}

func (s *Store) hot(id string) bool {
	for _, name := range []string{partFS, partMemory} {
		if _, err := os.Stat(filepath.Join(s.path(id), name)); err != nil {
			return false
		}
	}
	return true
}

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
			return storeError(fmt.Sprintf("bring back snapshot %s", layer), err)
		}
	}
	return nil
}

// thaw unpacks aside and renames the parts into place. Two at once do the work
// twice and keep one result.
func (s *Store) thaw(ctx context.Context, id string) error {
	x, err := s.readIndex(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return faas.Errorf(faas.KindFailedPrecondition, "its files are missing and it has no cold copy")
	}
	if err != nil {
		return err
	}
	release, err := s.guard(ctx, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer release()
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
		if err := unpack(ctx, s.cold, p.Entries, dir); err != nil {
			return err
		}
	}
	if _, err := syncTree(ctx, staging); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range []string{partFS, partMemory} {
		err := os.Rename(filepath.Join(staging, name), filepath.Join(s.path(id), name))
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	return syncDir(s.path(id))
}

// Verify reads everything that a snapshot of its own holds and compares it
// with the digests taken when it was archived. A snapshot without a cold copy
// gets one first: from then on its bytes can be compared.
func (s *Store) Verify(ctx context.Context, project, id string) ([]Problem, error) {
	m, err := s.Get(project, id)
	if err != nil {
		return nil, err
	}
	if s.hot(id) {
		if _, err := s.Archive(ctx, project, id); err != nil {
			return nil, err
		}
	}
	x, err := s.readIndex(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return []Problem{{id, "hot", "", "its files are missing and it has no cold copy"}}, nil
	}
	if errors.Is(err, faas.ErrFailedPrecondition) {
		return []Problem{{id, "cold", "", err.Error()}}, nil
	}
	if err != nil {
		return nil, err
	}
	problems, err := s.verifyCold(ctx, m, x)
	if err != nil || !s.hot(id) {
		return problems, err
	}
	more, err := s.verifyHot(ctx, m, x)
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
			problems = append(problems, Problem{m.ID, "cold", e.Path, err.Error()})
			return nil
		}
		return err
	})
	return problems, err
}

// verifyHot lists the hot files again and compares with the index.
func (s *Store) verifyHot(ctx context.Context, m *Manifest, x *index) ([]Problem, error) {
	var problems []Problem
	naming := s.cold.Over(chunk.Discard{})
	for _, p := range x.Parts {
		have, _, err := pack(ctx, naming, filepath.Join(s.path(m.ID), p.Name))
		if err != nil {
			return nil, err
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
				problems = append(problems, Problem{m.ID, "hot", want.Path, "it is missing"})
			case !sameEntry(got, want):
				problems = append(problems, Problem{m.ID, "hot", want.Path, "it is not what was saved"})
			}
		}
		for path := range byPath {
			problems = append(problems, Problem{m.ID, "hot", path, "it was not saved"})
		}
	}
	return problems, nil
}

// sameEntry compares what a restore would see. Access patterns may have split
// a file's data into other extents; its bytes decide.
func sameEntry(a, b entry) bool {
	if a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || a.Size != b.Size || a.Target != b.Target || a.Link != b.Link || a.Device != b.Device {
		return false
	}
	if len(a.Extents) != len(b.Extents) {
		return false
	}
	for i := range a.Extents {
		if a.Extents[i].Offset != b.Extents[i].Offset || len(a.Extents[i].Pieces) != len(b.Extents[i].Pieces) {
			return false
		}
		for j := range a.Extents[i].Pieces {
			if a.Extents[i].Pieces[j] != b.Extents[i].Pieces[j] {
				return false
			}
		}
	}
	return true
}

// CollectCold removes from the cold tier the indices of snapshots that are
// gone and the pieces that no remaining one names, and returns the bytes
// freed.
func (s *Store) CollectCold(ctx context.Context) (int64, error) {
	store, err := s.coldStore()
	if err != nil {
		return 0, err
	}
	release, err := s.guard(ctx, unix.LOCK_EX)
	if err != nil {
		return 0, err
	}
	defer release()
	entries, err := os.ReadDir(filepath.Join(s.dir, dirSnapshots))
	if err != nil {
		return 0, err
	}
	needed, live := map[chunk.Ref]bool{}, map[string]bool{}
	for _, e := range entries {
		c, err := s.readCold(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		live[c.Index] = true
		x, err := s.readIndex(ctx, e.Name())
		if err != nil {
			// Nothing is removed while one index is unreadable: its pieces
			// may be all that is left of a snapshot.
			return 0, fmt.Errorf("collect cold tier: snapshot %s: %w", e.Name(), err)
		}
		if err := x.pieces(func(_ *entry, p piece) error { needed[p.Ref] = true; return nil }); err != nil {
			return 0, err
		}
	}
	freed, err := store.SweepBlobs(ctx, indexBlobs, func(name string) bool { return live[name] })
	if err != nil {
		return freed, err
	}
	more, err := store.Sweep(ctx, func(r chunk.Ref) bool { return needed[r] })
	return freed + more, err
}
