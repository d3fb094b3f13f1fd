package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/snapshot/chunk"
)

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
		if errors.Is(err, fs.ErrNotExist) || err == nil && c.Index == "" {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("collect cold tier: snapshot %s: %w", e.Name(), err)
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
