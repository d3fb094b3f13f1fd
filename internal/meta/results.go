package meta

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/faas-platform/faas"
)

// CachedResult is a result that stands for every identical request of its
// project until it expires.
type CachedResult struct {
	Key       string // holds the project and all that can change the result
	Project   string
	CreatedAt time.Time
	ExpiresAt time.Time
	Result    faas.Result // with its output
}

// Size is what the result counts for in bytes.
func (c *CachedResult) Size() int64 {
	return int64(len(c.Result.Stdout)+len(c.Result.Stderr)) + 512
}

// PutResults stores cached results, replacing those of the same keys.
func (s *Store) PutResults(ctx context.Context, list []CachedResult) error {
	err := inTransaction(ctx, s.db, func(tx *sql.Tx) error {
		for i := range list {
			c := &list[i]
			encoded, err := json.Marshal(storedResult{Result: c.Result, Stdout: c.Result.Stdout, Stderr: c.Result.Stderr})
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, insertProject, c.Project, time.Now().UnixMicro()); err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO results (key, project, size, created_at, expires_at, result) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (key) DO UPDATE SET size = excluded.size, created_at = excluded.created_at,
				expires_at = excluded.expires_at, result = excluded.result`,
				c.Key, c.Project, c.Size(), c.CreatedAt.UnixMicro(), c.ExpiresAt.UnixMicro(), string(encoded))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return storeError("store cached results", err)
	}
	return nil
}

// Result returns the cached result of a key that has not expired, nil when
// there is none.
func (s *Store) Result(ctx context.Context, key string, now time.Time) (*CachedResult, error) {
	var (
		c                = CachedResult{Key: key}
		created, expires int64
		encoded          string
		stored           storedResult
	)
	row := s.db.QueryRowContext(ctx, "SELECT project, created_at, expires_at, result FROM results WHERE key = ? AND expires_at > ?", key, now.UnixMicro())
	err := row.Scan(&c.Project, &created, &expires, &encoded)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(encoded), &stored)
	}
	if err != nil {
		return nil, storeError("read a cached result", err)
	}
	c.CreatedAt, c.ExpiresAt = time.UnixMicro(created).UTC(), time.UnixMicro(expires).UTC()
	c.Result = stored.Result
	c.Result.Stdout, c.Result.Stderr = stored.Stdout, stored.Stderr
	return &c, nil
}

// pruneResults removes the cached results that have expired and, oldest
// first, those that exceed a number of bytes.
func pruneResults(ctx context.Context, db *sql.DB, bytes int64, now time.Time) error {
	_, err := db.ExecContext(ctx, "DELETE FROM results WHERE expires_at <= ?", now.UnixMicro())
	if err == nil {
		_, err = db.ExecContext(ctx, `DELETE FROM results WHERE key IN (SELECT key FROM
			(SELECT key, sum(size) OVER (ORDER BY created_at DESC, key) AS total FROM results) WHERE total > ?)`, bytes)
	}
	if err != nil {
		return storeError("remove old cached results", err)
	}
	return nil
}
