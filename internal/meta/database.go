package meta

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/faas-platform/faas"
)

// databaseFile is the name of the database in a data directory.
const databaseFile = "meta.db"

// migrations brings a database from version i to i+1. They are only ever
// appended: a released migration never changes.
var migrations = []string{
	`CREATE TABLE projects (
		name       TEXT PRIMARY KEY,
		created_at INTEGER NOT NULL
	) WITHOUT ROWID;
	INSERT INTO projects (name, created_at) VALUES ('default', CAST(unixepoch('subsec') * 1000000 AS INTEGER));
	CREATE TABLE executions (
		id          TEXT PRIMARY KEY,
		project     TEXT NOT NULL REFERENCES projects (name),
		status      TEXT NOT NULL,
		owner       TEXT NOT NULL,
		size        INTEGER NOT NULL,
		created_at  INTEGER NOT NULL,
		finished_at INTEGER,
		command     TEXT NOT NULL,
		image       TEXT NOT NULL,
		runtime     TEXT NOT NULL,
		mode        TEXT NOT NULL,
		error       TEXT NOT NULL,
		result      TEXT
	);
	CREATE INDEX executions_by_project ON executions (project, id);
	CREATE INDEX executions_running ON executions (owner) WHERE status = 'running';
	CREATE INDEX executions_size ON executions (id, size);
	CREATE TABLE settings (
		name  TEXT PRIMARY KEY,
		value TEXT NOT NULL
	) WITHOUT ROWID;`,
	`CREATE TABLE instances (
		id         TEXT PRIMARY KEY,
		project    TEXT NOT NULL REFERENCES projects (name),
		name       TEXT NOT NULL,
		status     TEXT NOT NULL,
		owner      TEXT NOT NULL,
		sandbox_id TEXT NOT NULL,
		labels     TEXT NOT NULL,
		record     TEXT NOT NULL,
		private    TEXT NOT NULL
	);
	CREATE INDEX instances_by_project ON instances (project, id);
	CREATE UNIQUE INDEX instances_by_name ON instances (project, name) WHERE name <> '';
	CREATE TABLE branches (
		id         TEXT PRIMARY KEY,
		project    TEXT NOT NULL REFERENCES projects (name),
		name       TEXT NOT NULL,
		head       TEXT NOT NULL,
		created_at INTEGER NOT NULL,
		updated_at INTEGER NOT NULL,
		UNIQUE (project, name)
	);
	CREATE INDEX branches_by_head ON branches (head);
	CREATE TABLE results (
		key        TEXT PRIMARY KEY,
		project    TEXT NOT NULL REFERENCES projects (name),
		size       INTEGER NOT NULL,
		created_at INTEGER NOT NULL,
		expires_at INTEGER NOT NULL,
		result     TEXT NOT NULL
	);
	CREATE INDEX results_by_age ON results (created_at, size);`,
	`CREATE TABLE api_keys (
		id           TEXT PRIMARY KEY,
		hash         TEXT NOT NULL UNIQUE,
		project      TEXT NOT NULL REFERENCES projects (name),
		last_used_at INTEGER,
		record       TEXT NOT NULL
	);
	CREATE INDEX api_keys_by_project ON api_keys (project, id);
	CREATE TABLE audit (
		seq     INTEGER PRIMARY KEY AUTOINCREMENT,
		id      TEXT NOT NULL UNIQUE,
		project TEXT NOT NULL,
		at      INTEGER NOT NULL,
		key_id  TEXT NOT NULL,
		action  TEXT NOT NULL,
		object  TEXT NOT NULL,
		record  TEXT NOT NULL
	);
	CREATE INDEX audit_by_project ON audit (project, seq);
	CREATE TABLE usage (
		project        TEXT NOT NULL,
		key_id         TEXT NOT NULL,
		hour           INTEGER NOT NULL,
		executions     INTEGER NOT NULL,
		cpu_ms         INTEGER NOT NULL,
		memory_mb_ms   INTEGER NOT NULL,
		snapshot_bytes INTEGER NOT NULL,
		PRIMARY KEY (project, key_id, hour)
	) WITHOUT ROWID;
	CREATE TABLE idempotent (
		project     TEXT NOT NULL,
		key         TEXT NOT NULL,
		fingerprint TEXT NOT NULL,
		expires_at  INTEGER NOT NULL,
		size        INTEGER NOT NULL,
		answer      BLOB NOT NULL,
		PRIMARY KEY (project, key)
	) WITHOUT ROWID;
	CREATE INDEX idempotent_by_expiry ON idempotent (expires_at, size);
	CREATE TABLE image_names (
		project    TEXT NOT NULL,
		name       TEXT NOT NULL,
		digest     TEXT NOT NULL,
		created_at INTEGER NOT NULL,
		PRIMARY KEY (project, name)
	) WITHOUT ROWID;`,
	`ALTER TABLE executions ADD COLUMN instance TEXT NOT NULL DEFAULT '';
	CREATE INDEX executions_by_instance ON executions (instance, id) WHERE instance <> '';`,
	`CREATE TABLE ssh_keys (
		id             TEXT PRIMARY KEY,
		project        TEXT NOT NULL REFERENCES projects (name),
		kind           TEXT NOT NULL,
		fingerprint    TEXT NOT NULL,
		record         TEXT NOT NULL,
		expires_at     INTEGER,
		last_used_at   INTEGER,
		last_used_from TEXT NOT NULL
	);
	CREATE INDEX ssh_keys_by_project ON ssh_keys (project, id);
	CREATE UNIQUE INDEX ssh_keys_by_fingerprint ON ssh_keys (fingerprint, project) WHERE kind = 'key';
	CREATE INDEX ssh_keys_by_expiry ON ssh_keys (expires_at) WHERE kind = 'certificate';`,
	`CREATE TABLE ports (
		id          TEXT PRIMARY KEY,
		project     TEXT NOT NULL REFERENCES projects (name),
		instance_id TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
		port        INTEGER NOT NULL,
		protocol    TEXT NOT NULL,
		access      TEXT NOT NULL,
		subdomain   TEXT NOT NULL,
		host_port   INTEGER NOT NULL,
		created_at  INTEGER NOT NULL
	);
	CREATE INDEX ports_by_instance ON ports (instance_id);
	CREATE UNIQUE INDEX ports_by_subdomain ON ports (subdomain) WHERE subdomain <> '';`,
}

// How often the database is synced: with the log's checkpoints, or with every
// commit, which is for what is acknowledged as durable.
const (
	syncNormal = "NORMAL"
	syncFull   = "FULL"
)

// connect opens the database file without looking into it.
func connect(path, synchronous string, connections int) (*sql.DB, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, storeError("open the database", err)
	}
	query := url.Values{
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(" + synchronous + ")", "foreign_keys(1)"},
		"_txlock": {"immediate"},
	}
	dsn := url.URL{Scheme: "file", Path: filepath.ToSlash(absolute), RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, storeError("open the database", err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// makePrivate sees to it that the database file and those beside it are the
// user's only: they hold commands and their output, and the directory above
// lets others pass. SQLite gives the others the mode of the first.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Chmod(path+suffix, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// openDatabase opens the database file, which it makes when missing, and
// brings it to this program's version.
func openDatabase(ctx context.Context, path string) (*sql.DB, error) {
	if err := makePrivate(path); err != nil {
		return nil, storeError("make the database private", err)
	}
	db, err := connect(path, syncNormal, 4)
	if err != nil {
		return nil, err
	}
	if err := whileBusy(ctx, func() error { return migrate(ctx, db, path) }); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

const (
	busyPatience = 10 * time.Second
	busyPause    = 20 * time.Millisecond
)

// whileBusy tries again what other processes stand in the way of. SQLite does
// not wait by itself, whatever its time-out, where waiting could be a
// deadlock: when several processes bring a new database into WAL mode, or
// recover one, at the same moment.
func whileBusy(ctx context.Context, f func() error) error {
	deadline := time.Now().Add(busyPatience)
	for {
		err := f()
		var refused *sqlite.Error
		if err == nil || !errors.As(err, &refused) || refused.Code()&0xff != sqlite3.SQLITE_BUSY || time.Now().After(deadline) {
			return err
		}
		pause := time.NewTimer(busyPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// migrate applies the migrations that the database lacks, each in one
// transaction with the version that it leads to.
func migrate(ctx context.Context, db *sql.DB, path string) error {
	for {
		version, err := schemaVersion(ctx, db)
		if err != nil {
			return storeError("read the version of "+path, err)
		}
		switch {
		case version == len(migrations):
			return nil
		case version > len(migrations):
			return &faas.Error{
				Kind:   faas.KindFailedPrecondition,
				Op:     "open the database",
				Detail: fmt.Sprintf("%s has schema version %d, this program knows versions up to %d", path, version, len(migrations)),
				Remedy: "use the newer program that wrote it, or another data directory",
			}
		}
		if err := migrateFrom(ctx, db, version); err != nil {
			return storeError(fmt.Sprintf("migrate %s to version %d", path, version+1), err)
		}
	}
}

type rowQuerier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func schemaVersion(ctx context.Context, db rowQuerier) (version int, err error) {
	err = db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	return version, err
}

// migrateFrom applies one migration, unless another process did so first.
func migrateFrom(ctx context.Context, db *sql.DB, version int) error {
	return inTransaction(ctx, db, func(tx *sql.Tx) error {
		now, err := schemaVersion(ctx, tx)
		if err != nil || now != version {
			return err
		}
		if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version+1))
		return err
	})
}

// inTransaction runs f in a transaction that holds the database's write lock.
func inTransaction(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		tx.Rollback() //nolint:errcheck // the first error is the one that says why
		return err
	}
	return tx.Commit()
}

// checkpoint makes what was committed before it durable against the death of
// the machine. Afterwards a journal that holds the same may go.
func checkpoint(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
		return storeError("checkpoint the database", err)
	}
	return nil
}

// Setting returns a stored setting; ok is false when it was never set.
func (s *Store) Setting(ctx context.Context, name string) (value string, ok bool, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT value FROM settings WHERE name = ?", name).Scan(&value)
	switch err {
	case nil:
		return value, true, nil
	case sql.ErrNoRows:
		return "", false, nil
	default:
		return "", false, storeError("read the setting "+name, err)
	}
}

// SetSetting stores a setting; it is in the database when SetSetting returns.
func (s *Store) SetSetting(ctx context.Context, name, value string) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO settings (name, value) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	if err != nil {
		return storeError("store the setting "+name, err)
	}
	return nil
}
