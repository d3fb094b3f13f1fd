package meta

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/audit"
)

// Bounds of the audit log; the oldest events go first.
const (
	auditAge   = 365 * 24 * time.Hour
	auditCount = 1_000_000
	auditPage  = 1000
)

// AppendAudit implements audit.Store.
func (a *Accounts) AppendAudit(ctx context.Context, e audit.Event) error {
	record, err := json.Marshal(e)
	if err != nil {
		return faas.Errorf(faas.KindInternal, "encode an audit event: %w", err)
	}
	_, err = a.db.ExecContext(ctx, "INSERT INTO audit (id, project, at, key_id, action, object, record) VALUES (?, ?, ?, ?, ?, ?, ?)",
		e.ID, e.Project, e.At.UnixMicro(), e.KeyID, e.Action, e.Object, string(record))
	if err != nil {
		return storeError("write to the audit log", err)
	}
	return nil
}

// AuditEvents implements audit.Store.
func (a *Accounts) AuditEvents(ctx context.Context, filter audit.Filter) ([]audit.Event, string, error) {
	if filter.Cursor != "" && !faas.ValidID(faas.PrefixAudit, filter.Cursor) {
		return nil, "", faas.InvalidField("cursor", "not a cursor of this list")
	}
	limit := filter.Limit
	if limit <= 0 || limit > auditPage {
		limit = auditPage
	}
	var query strings.Builder
	var args []any
	query.WriteString("SELECT record FROM audit WHERE 1")
	where := func(condition string, given bool, value any) {
		if given {
			query.WriteString(" AND " + condition)
			args = append(args, value)
		}
	}
	where("project = ?", filter.Project != "", filter.Project)
	where("key_id = ?", filter.KeyID != "", filter.KeyID)
	where("action = ?", filter.Action != "", filter.Action)
	where("object = ?", filter.Object != "", filter.Object)
	where("at >= ?", !filter.Since.IsZero(), filter.Since.UnixMicro())
	where("at < ?", !filter.Until.IsZero(), filter.Until.UnixMicro())
	where("seq < (SELECT seq FROM audit WHERE id = ?)", filter.Cursor != "", filter.Cursor)
	query.WriteString(" ORDER BY seq DESC LIMIT ?")
	rows, err := a.db.QueryContext(ctx, query.String(), append(args, limit+1)...)
	if err != nil {
		return nil, "", storeError("read the audit log", err)
	}
	defer rows.Close()
	list := []audit.Event{}
	for rows.Next() {
		var record string
		var e audit.Event
		err := rows.Scan(&record)
		if err == nil {
			err = json.Unmarshal([]byte(record), &e)
		}
		if err != nil {
			return nil, "", storeError("read the audit log", err)
		}
		list = append(list, e)
	}
	if err := rows.Err(); err != nil {
		return nil, "", storeError("read the audit log", err)
	}
	if len(list) > limit {
		return list[:limit], list[limit-1].ID, nil
	}
	return list, "", nil
}

// pruneAudit removes what exceeds the log's bounds.
func pruneAudit(ctx context.Context, db *sql.DB, now time.Time) error {
	_, err := db.ExecContext(ctx, `DELETE FROM audit WHERE at < ? OR seq <= ifnull((SELECT seq FROM audit ORDER BY seq DESC LIMIT 1 OFFSET ?), 0)`,
		now.Add(-auditAge).UnixMicro(), auditCount)
	if err != nil {
		return storeError("remove old audit events", err)
	}
	return nil
}
