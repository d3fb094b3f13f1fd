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
	fileCold    = "cold.json"    // beside the manifest: where the cold copy is
	fileDigests = "digests.json" // beside it where there is no cold tier: what the files held
	fileGuard   = "cold.guard"   // locked shared by writers of pieces, exclusively by their sweep
	indexBlobs  = "index/"
)

// coldCopy says where a snapshot's cold copy is.
type coldCopy struct {
	Index       string    `json:"index"`        // name of the blob
	StoredBytes int64     `json:"stored_bytes"` // that no earlier snapshot had stored
	At          time.Time `json:"at"`
}

// openCold gives this store its own place in the cold tier: several may share
// a bucket, and none may collect what is another's.
func (s *Store) openCold() error {
	release, err := s.exclusive()
	if err != nil {
		return err
	}
	defer release()
	path := filepath.Join(s.dir, fileIdentity)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = json.Marshal(faas.NewID(prefixStore))
		if err == nil {
			err = writeDurably(path, json.RawMessage(b))
		}
	}
	var id string
	if err == nil {
		err = json.Unmarshal(b, &id)
	}
	if err != nil || !faas.ValidID(prefixStore, id) {
		return fmt.Errorf("the store's own name in %s: %q: %w", path, id, err)
	}
	if s.opts.Cold != nil {
		s.cold = s.opts.Cold.Under(id + "/")
		s.naming = s.cold.Over(chunk.Discard{})
		return nil
	}
	s.naming, err = chunk.Open(chunk.Discard{}, nil)
	return err
}

// prefixStore begins the names of stores.
const prefixStore = "store"

// coldStore returns the cold tier, or why there is none.
func (s *Store) coldStore() (*chunk.Store, error) {
	if s.cold == nil {
		return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Detail: "the snapshot store has no cold tier", Remedy: "configure snapshots.cold"}
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
// is read. It is off everybody's path; the snapshot stays hot. It returns how
// many bytes no earlier snapshot had stored. Where there is no cold tier the
// digests of the files are written down, and 0 is returned.
func (s *Store) Archive(ctx context.Context, id string) (int64, error) {
	m, release, err := s.holdOwn(id)
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
func (s *Store) holdOwn(id string) (_ *Manifest, release func() error, err error) {
	end, err := s.exclusive()
	if err != nil {
		return nil, nil, err
	}
	defer end()
	m, err := s.readManifest(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, noSnapshot(id)
	}
	if err != nil {
		return nil, nil, err
	}
	if m.Kind == faas.SnapshotFull && !s.has(id, partMemory) {
		return nil, nil, missingPart(id)
	}
	holder := faas.NewID(s.name)
	if err := s.lease(id, holder); err != nil {
		return nil, nil, err
	}
	return m, func() error {
		end, err := s.exclusive()
		if err != nil {
			return err
		}
		defer end()
		return s.endLease(id, holder)
	}, nil
}

func (s *Store) archive(ctx context.Context, m *Manifest) (int64, error) {
	if c, err := s.readCold(m.ID); err == nil && (c.Index != "" || s.cold == nil) {
		return c.StoredBytes, nil
	}
	done := s.moving(m.ID, PhaseArchive, m.SizeBytes)
	defer done(0, true)
	if s.cold == nil {
		x, _, err := s.index(ctx, s.naming, m, done)
		if err == nil {
			err = writeDurably(filepath.Join(s.path(m.ID), fileDigests), x)
		}
		if err == nil {
			err = writeDurably(filepath.Join(s.path(m.ID), fileCold), coldCopy{At: time.Now().UTC()})
		}
		return 0, err
	}
	release, err := s.guard(ctx, unix.LOCK_SH)
	if err != nil {
		return 0, err
	}
	defer release()
	x, stored, err := s.index(ctx, s.cold, m, done)
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
	size, err := s.cold.PutBlob(ctx, name, b)
	if err != nil {
		return 0, err
	}
	c := coldCopy{Index: name, StoredBytes: stored + size, At: time.Now().UTC()}
	return c.StoredBytes, writeDurably(filepath.Join(s.path(m.ID), fileCold), c)
}

// index stores the pieces of a snapshot's own parts and lists them.
func (s *Store) index(ctx context.Context, store *chunk.Store, m *Manifest, done progress) (*index, int64, error) {
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, 0, err
	}
	x := &index{Version: formatVersion, Manifest: manifest}
	var total int64
	for _, name := range []string{partFS, partMemory} {
		entries, stored, err := pack(ctx, store, filepath.Join(s.path(m.ID), name), done)
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

// readIndex returns the list of a snapshot's files: that of its cold copy, or
// the one that was written down here. fs.ErrNotExist: there is none yet.
func (s *Store) readIndex(ctx context.Context, id string) (*index, error) {
	c, err := s.readCold(id)
	if err != nil {
		return nil, err
	}
	var b []byte
	if c.Index == "" {
		b, err = os.ReadFile(filepath.Join(s.path(id), fileDigests))
	} else {
		store, coldErr := s.coldStore()
		if coldErr != nil {
			return nil, coldErr
		}
		b, err = store.GetBlob(ctx, c.Index)
	}
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
