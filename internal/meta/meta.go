// Package meta keeps the platform's records: projects, executions, instances,
// branches, cached results and settings, in SQLite, with an append-only
// journal before it.
//
// # Durability
//
// What is acknowledged as durable (instances, branches) is synced to disk when
// a call returns. Executions are many and short, and do not wait for the
// database. Begin and End each append one line to a
// journal file with one write(2) before they return; from then on the event
// is in the kernel's page cache and survives the death of the process, though
// not necessarily that of the machine. One goroutine per Store carries events
// on into SQLite in batches and removes journal segments whose events are
// there.
//
// # Several processes
//
// Any number of processes may open one directory at once. Each has a journal
// of its own and holds a lock on a file beside it for as long as it lives.
// Whoever opens the directory, and every open Store once a minute, adopts the
// journals whose owner is dead: their events go into SQLite, and executions
// that began and did not end become lost.
package meta

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/idempotency"
)

// Options configures a Store. The zero value is usable.
type Options struct {
	Retention Retention
	Logger    *slog.Logger // nil: discard
}

// Retention bounds the record of executions that have ended. What exceeds any
// of the bounds goes, oldest first; running executions stay.
type Retention struct {
	Age   time.Duration // 0: 30 days
	Count int           // 0: 100,000
	Bytes int64         // of kept results, output included; 0: 512 MiB
	// ResultBytes bounds the cached results together; 0: 512 MiB.
	ResultBytes int64
}

// Bounds of one record. What exceeds them is cut, and marked as cut.
const (
	MaxOutput  = 64 << 10 // bytes of each output stream
	MaxCommand = 64 << 10 // bytes of all arguments together
	maxError   = 4 << 10
)

// maintenanceInterval is how often dead journals are adopted and old records
// removed while a Store is open.
const maintenanceInterval = time.Minute

// Store is the open metadata of one data directory.
type Store struct {
	db        *sql.DB
	durable   *sql.DB // the same database, every commit synced
	journal   *journal
	writer    *writer
	log       *slog.Logger
	retention Retention
	recovered Recovered
	looking   sync.Mutex // of OwnerAlive

	stop      context.CancelFunc // ends maintenance
	tasks     sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// Recovered counts what Open found of dead processes.
type Recovered struct {
	Journals int // adopted
	Events   int // replayed from them
	Damaged  int // lines that could not be read: torn by the death of their writer
	Lost     int // executions that began and never ended
}

// Open opens the metadata below dir, which it makes when missing, and adopts
// what dead processes left. A database written by a newer version is refused
// with faas.ErrFailedPrecondition.
func Open(ctx context.Context, dir string, opts Options) (*Store, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	journals := filepath.Join(dir, "journal")
	if err := os.MkdirAll(journals, 0o700); err != nil {
		return nil, storeError("make the journal directory", err)
	}
	db, err := openDatabase(ctx, filepath.Join(dir, databaseFile))
	if err != nil {
		return nil, err
	}
	durable, err := connect(filepath.Join(dir, databaseFile), syncFull, 1)
	if err != nil {
		db.Close()
		return nil, err
	}
	s := &Store{db: db, durable: durable, log: opts.Logger, retention: opts.Retention.withDefaults()}
	if s.journal, err = openJournal(journals); err != nil {
		s.closeDatabase() //nolint:errcheck // the first error counts
		return nil, err
	}
	err = whileBusy(ctx, func() (err error) {
		found, err := adoptAll(ctx, db, journals, s.journal.owner, s.log)
		s.recovered.add(found)
		return err
	})
	if err != nil {
		s.journal.discard()
		s.closeDatabase() //nolint:errcheck // the first error counts
		return nil, err
	}
	s.writer = newWriter(db, s.journal, s.log)
	tasks, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.tasks.Go(s.writer.run)
	s.tasks.Go(func() { s.maintain(tasks) })
	return s, nil
}

func (r Retention) withDefaults() Retention {
	if r.Age <= 0 {
		r.Age = 30 * 24 * time.Hour
	}
	if r.Count <= 0 {
		r.Count = 100_000
	}
	if r.Bytes <= 0 {
		r.Bytes = 512 << 20
	}
	if r.ResultBytes <= 0 {
		r.ResultBytes = 512 << 20
	}
	return r
}

// Recovered returns what Open found.
func (s *Store) Recovered() Recovered { return s.recovered }

// Begin records that an execution runs. It returns once the event would
// survive the death of this process, and fails with faas.ErrUnavailable when
// it cannot be written: the command must not be started then.
func (s *Store) Begin(ctx context.Context, exec faas.Execution) error {
	if err := s.writer.admit(ctx); err != nil {
		return err
	}
	line, rec, err := encodeEvent(opBegin, exec)
	if err != nil {
		return err
	}
	seg, err := s.journal.append(line)
	if err != nil {
		return storeError("journal the start of "+exec.ID, err)
	}
	s.writer.enqueue(pendingEvent{op: opBegin, record: rec, segment: seg, size: len(line)})
	return nil
}

// End records how an execution ended. An error says that the outcome is not
// yet safe from the death of this process; it still goes to the database.
func (s *Store) End(exec faas.Execution) error {
	line, rec, err := encodeEvent(opEnd, exec)
	if err != nil {
		return err
	}
	seg, err := s.journal.append(line)
	if err != nil {
		err = storeError("journal the end of "+exec.ID, err)
	}
	s.writer.enqueue(pendingEvent{op: opEnd, record: rec, segment: seg, size: len(line)})
	return err
}

// Sync returns when everything recorded before the call is in the database.
func (s *Store) Sync(ctx context.Context) error { return s.writer.sync(ctx) }

// maintain adopts dead journals and applies retention until ctx ends.
func (s *Store) maintain(ctx context.Context) {
	ticker := time.NewTicker(maintenanceInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, err := adoptAll(ctx, s.db, s.journal.dir, s.journal.owner, s.log); err != nil && ctx.Err() == nil {
			s.log.Warn("adopting journals of dead processes failed", "error", err)
		}
		if err := prune(ctx, s.db, s.retention, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Warn("removing old executions failed", "error", err)
		}
		if err := pruneResults(ctx, s.db, s.retention.ResultBytes, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Warn("removing old cached results failed", "error", err)
		}
		if err := errors.Join(pruneAudit(ctx, s.db, time.Now()), pruneUsage(ctx, s.db, time.Now()), pruneAnswers(ctx, s.db, idempotency.MaxTotal, time.Now())); err != nil && ctx.Err() == nil {
			s.log.Warn("removing old audit events, usage and answers failed", "error", err)
		}
	}
}

// Close brings what is pending into the database, until ctx ends, and
// releases the directory. What could not be written stays in the journal for
// the next process that opens the directory.
func (s *Store) Close(ctx context.Context) error {
	s.closeOnce.Do(func() {
		s.stop()
		flushed := s.writer.close(ctx)
		s.tasks.Wait()
		if flushed == nil {
			s.journal.discard()
		} else {
			s.journal.release()
		}
		err := s.closeDatabase()
		if flushed != nil {
			s.closeErr = flushed
		} else if err != nil {
			s.closeErr = storeError("close the database", err)
		}
	})
	return s.closeErr
}

func (s *Store) closeDatabase() error { return errors.Join(s.durable.Close(), s.db.Close()) }

// storeError wraps a failure of the disk or the database.
func storeError(op string, err error) error {
	return &faas.Error{Kind: faas.KindUnavailable, Op: op, Detail: "the data directory cannot be used",
		Remedy: "check its free space and permissions", Err: err}
}
