package meta

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/faas-platform/faas/internal/usage"
)

// usageAge is how long usage is kept.
const usageAge = 3 * 365 * 24 * time.Hour

// AddUsage implements usage.Store.
func (a *Accounts) AddUsage(ctx context.Context, records []usage.Record) error {
	err := inTransaction(ctx, a.db, func(tx *sql.Tx) error {
		for _, r := range records {
			_, err := tx.ExecContext(ctx, `INSERT INTO usage (project, key_id, hour, executions, cpu_ms, memory_mb_ms, snapshot_bytes) VALUES (?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (project, key_id, hour) DO UPDATE SET executions = executions + excluded.executions, cpu_ms = cpu_ms + excluded.cpu_ms,
				memory_mb_ms = memory_mb_ms + excluded.memory_mb_ms, snapshot_bytes = snapshot_bytes + excluded.snapshot_bytes`,
				r.Project, r.KeyID, r.Hour.Unix(), r.Executions, r.CPUMS, r.MemoryMBMS, r.SnapshotBytes)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return storeError("write usage", err)
	}
	return nil
}

// Usage implements usage.Store.
func (a *Accounts) Usage(ctx context.Context, filter usage.Filter) ([]usage.Record, error) {
	var query strings.Builder
	var args []any
	query.WriteString("SELECT project, key_id, hour, executions, cpu_ms, memory_mb_ms, snapshot_bytes FROM usage WHERE 1")
	where := func(condition string, given bool, value any) {
		if given {
			query.WriteString(" AND " + condition)
			args = append(args, value)
		}
	}
	where("project = ?", filter.Project != "", filter.Project)
	where("key_id = ?", filter.KeyID != "", filter.KeyID)
	where("hour >= ?", !filter.Since.IsZero(), filter.Since.UTC().Truncate(time.Hour).Unix())
	where("hour < ?", !filter.Until.IsZero(), filter.Until.Unix())
	query.WriteString(" ORDER BY hour, project, key_id")
	rows, err := a.db.QueryContext(ctx, query.String(), args...)
	if err != nil {
		return nil, storeError("read usage", err)
	}
	defer rows.Close()
	list := []usage.Record{}
	for rows.Next() {
		var r usage.Record
		var hour int64
		if err := rows.Scan(&r.Project, &r.KeyID, &hour, &r.Executions, &r.CPUMS, &r.MemoryMBMS, &r.SnapshotBytes); err != nil {
			return nil, storeError("read usage", err)
		}
		r.Hour = time.Unix(hour, 0).UTC()
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, storeError("read usage", err)
	}
	return list, nil
}

// pruneUsage removes what is older than usage is kept.
func pruneUsage(ctx context.Context, db *sql.DB, now time.Time) error {
	if _, err := db.ExecContext(ctx, "DELETE FROM usage WHERE hour < ?", now.Add(-usageAge).Unix()); err != nil {
		return storeError("remove old usage", err)
	}
	return nil
}
