package meta

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/auth"
)

// Accounts keeps what belongs to the callers of a data directory: API keys,
// the audit log, usage, remembered answers and the names of images. It is the
// same database that a Store opens, without its journal, so that the front
// doors need not reach through the executor.
type Accounts struct {
	db      *sql.DB
	durable *sql.DB // the same database, every commit synced
}

// OpenAccounts opens the accounts below dir, which it makes when missing. A
// database written by a newer version is refused with
// faas.ErrFailedPrecondition.
func OpenAccounts(ctx context.Context, dir string) (*Accounts, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, storeError("make the data directory", err)
	}
	path := filepath.Join(dir, databaseFile)
	db, err := openDatabase(ctx, path)
	if err != nil {
		return nil, err
	}
	durable, err := connect(path, syncFull, 1)
	if err != nil {
		db.Close()
		return nil, err
	}
	return &Accounts{db: db, durable: durable}, nil
}

// Close closes the database.
func (a *Accounts) Close() error { return errors.Join(a.durable.Close(), a.db.Close()) }

const keyColumns = "hash, last_used_at, record"

// KeyByHash implements auth.Store.
func (a *Accounts) KeyByHash(ctx context.Context, hash auth.Hash) (auth.Key, error) {
	return scanKey(a.db.QueryRowContext(ctx, "SELECT "+keyColumns+" FROM api_keys WHERE hash = ?", string(hash)))
}

// Key implements auth.Store.
func (a *Accounts) Key(ctx context.Context, id string) (auth.Key, error) {
	return scanKey(a.db.QueryRowContext(ctx, "SELECT "+keyColumns+" FROM api_keys WHERE id = ?", id))
}

// Keys implements auth.Store.
func (a *Accounts) Keys(ctx context.Context, project string) ([]auth.Key, error) {
	rows, err := a.db.QueryContext(ctx, "SELECT "+keyColumns+" FROM api_keys WHERE ? IN ('', project) ORDER BY id", project)
	if err != nil {
		return nil, storeError("list API keys", err)
	}
	defer rows.Close()
	list := []auth.Key{}
	for rows.Next() {
		key, err := scanKey(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, key)
	}
	if err := rows.Err(); err != nil {
		return nil, storeError("list API keys", err)
	}
	return list, nil
}

func scanKey(row interface{ Scan(...any) error }) (auth.Key, error) {
	var (
		key      auth.Key
		lastUsed sql.NullInt64
		record   string
	)
	err := row.Scan(&key.Hash, &lastUsed, &record)
	if errors.Is(err, sql.ErrNoRows) {
		return key, &faas.Error{Kind: faas.KindNotFound, Op: "find API key", Detail: "there is no such API key"}
	}
	if err == nil {
		err = json.Unmarshal([]byte(record), &key)
	}
	if err != nil {
		return key, storeError("read an API key", err)
	}
	if lastUsed.Valid {
		at := time.UnixMicro(lastUsed.Int64).UTC()
		key.LastUsedAt = &at
	}
	return key, nil
}

// PutKey implements auth.Store.
func (a *Accounts) PutKey(ctx context.Context, key auth.Key) error {
	record, err := json.Marshal(key)
	if err != nil {
		return faas.Errorf(faas.KindInternal, "encode API key %s: %w", key.ID, err)
	}
	err = inTransaction(ctx, a.durable, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, insertProject, key.Project, time.Now().UnixMicro()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO api_keys (id, hash, project, record) VALUES (?, ?, ?, ?)",
			key.ID, string(key.Hash), key.Project, string(record))
		return err
	})
	var refused *sqlite.Error
	if errors.As(err, &refused) && (refused.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || refused.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY) {
		return faas.Errorf(faas.KindConflict, "API key %s is there already", key.ID)
	}
	if err != nil {
		return storeError("store an API key", err)
	}
	return nil
}

// DeleteKey implements auth.Store.
func (a *Accounts) DeleteKey(ctx context.Context, id string) error {
	done, err := a.durable.ExecContext(ctx, "DELETE FROM api_keys WHERE id = ?", id)
	if err != nil {
		return storeError("remove an API key", err)
	}
	return oneRow(done, "remove an API key", &faas.Error{Kind: faas.KindNotFound, Op: "find API key", Detail: "there is no such API key"})
}

// TouchKey implements auth.Store.
func (a *Accounts) TouchKey(ctx context.Context, id string, at time.Time) error {
	_, err := a.db.ExecContext(ctx, "UPDATE api_keys SET last_used_at = ? WHERE id = ?", at.UnixMicro(), id)
	if err != nil {
		return storeError("note the use of an API key", err)
	}
	return nil
}
