package meta

import (
	"context"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/faas-platform/faas"
)

// replayBatch is how many events of an adopted journal go into one
// transaction.
const replayBatch = 500

// adoptAll takes over the journals in dir whose owners are dead: their events
// go into the database, their unfinished executions become lost, their files
// are removed. A journal that lives or that someone else adopts is left alone.
func adoptAll(ctx context.Context, db *sql.DB, dir, self string, log *slog.Logger) (Recovered, error) {
	var total Recovered
	owners, err := listOwners(dir)
	if err != nil {
		return total, storeError("list the journals", err)
	}
	for owner := range owners {
		if owner == self {
			continue
		}
		found, err := adopt(ctx, db, dir, owner)
		if err != nil {
			return total, err
		}
		total.add(found)
	}
	lost, err := loseUnowned(ctx, db, dir)
	if err != nil {
		return total, err
	}
	total.Lost += lost
	if total != (Recovered{}) {
		log.Info("adopted the records of dead processes", "journals", total.Journals,
			"events", total.Events, "damaged_lines", total.Damaged, "lost_executions", total.Lost)
	}
	return total, nil
}

func (r *Recovered) add(o Recovered) {
	r.Journals += o.Journals
	r.Events += o.Events
	r.Damaged += o.Damaged
	r.Lost += o.Lost
}

// listOwners returns the owners with files in dir and the numbers of their
// segments, in order.
func listOwners(dir string) (map[string][]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	owners := make(map[string][]int)
	for _, entry := range entries {
		if owner, found := strings.CutSuffix(entry.Name(), lockSuffix); found && faas.ValidID(ownerPrefix, owner) {
			owners[owner] = append(owners[owner], nil...)
		} else if owner, number, ok := parseSegmentName(entry.Name()); ok {
			owners[owner] = append(owners[owner], number)
		}
	}
	for _, segments := range owners {
		slices.Sort(segments)
	}
	return owners, nil
}

// adopt takes over one owner's journal if that owner is dead.
func adopt(ctx context.Context, db *sql.DB, dir, owner string) (Recovered, error) {
	lock, err := acquireOwner(dir, owner)
	if err != nil {
		return Recovered{}, storeError("lock a dead process's journal", err)
	}
	if lock == nil {
		return Recovered{}, nil
	}
	found, segments, err := replayOwner(ctx, db, dir, owner)
	if err != nil {
		lock.Close() // the journal stays for the next attempt
		return found, err
	}
	for _, number := range segments {
		os.Remove(filepath.Join(dir, segmentName(owner, number)))
	}
	releaseOwner(lock)
	return found, nil
}

// replayOwner brings a dead owner's journal into the database, where it is
// durable when replayOwner returns, and returns the segments that it read. The
// caller holds the owner's lock: only now is the list of segments final.
func replayOwner(ctx context.Context, db *sql.DB, dir, owner string) (found Recovered, segments []int, err error) {
	owners, err := listOwners(dir)
	if err != nil {
		return found, nil, storeError("list the journals", err)
	}
	segments = owners[owner]
	for _, number := range segments {
		events, damaged, err := replay(ctx, db, owner, filepath.Join(dir, segmentName(owner, number)))
		if err != nil {
			return found, segments, err
		}
		found.Events += events
		found.Damaged += damaged
	}
	if found.Lost, err = loseRunning(ctx, db, owner, time.Now()); err != nil {
		return found, segments, err
	}
	if len(segments) > 0 {
		found.Journals = 1
		err = checkpoint(ctx, db)
	}
	return found, segments, err
}

// replay brings the events of one segment into the database. A segment that
// is gone was already there.
func replay(ctx context.Context, db *sql.DB, owner, path string) (events, damaged int, err error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, storeError("read a dead process's journal", err)
	}
	defer f.Close()
	var batch []pendingEvent
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := applyEvents(ctx, db, owner, batch)
		events += len(batch)
		batch = batch[:0]
		return err
	}
	damaged, err = readEvents(f, func(ev event) error {
		batch = append(batch, pendingEvent{op: ev.Op, record: ev.Record})
		if len(batch) >= replayBatch {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return events, damaged, storeError("replay a dead process's journal", err)
	}
	return events, damaged, nil
}

// loseUnowned marks the running executions as lost whose owner has no journal
// any more. A living owner's lock file was there before its first execution.
func loseUnowned(ctx context.Context, db *sql.DB, dir string) (int, error) {
	owners, err := runningOwners(ctx, db)
	if err != nil {
		return 0, err
	}
	total := 0
	for _, owner := range owners {
		if _, err := os.Stat(filepath.Join(dir, owner+lockSuffix)); err == nil || !os.IsNotExist(err) {
			continue
		}
		lost, err := loseRunning(ctx, db, owner, time.Now())
		if err != nil {
			return total, err
		}
		total += lost
	}
	return total, nil
}
