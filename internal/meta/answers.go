package meta

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/faas-platform/faas/internal/idempotency"
)

// answerOverhead is what a remembered answer counts for besides its body.
const answerOverhead = 512

// BeginAnswer implements idempotency.Store.
func (a *Accounts) BeginAnswer(ctx context.Context, project, key, fingerprint string, expires time.Time) (*idempotency.Answer, error) {
	var earlier *idempotency.Answer
	err := inTransaction(ctx, a.db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM idempotent WHERE project = ? AND key = ? AND expires_at <= ?", project, key, time.Now().UnixMicro()); err != nil {
			return err
		}
		var known idempotency.Answer
		var stored []byte
		err := tx.QueryRowContext(ctx, "SELECT fingerprint, answer FROM idempotent WHERE project = ? AND key = ?", project, key).Scan(&known.Fingerprint, &stored)
		if err == nil {
			earlier = &known
			return json.Unmarshal(stored, earlier)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO idempotent (project, key, fingerprint, expires_at, size, answer) VALUES (?, ?, ?, ?, ?, '{}')",
			project, key, fingerprint, expires.UnixMicro(), answerOverhead)
		return err
	})
	if err != nil {
		return nil, storeError("note an Idempotency-Key", err)
	}
	return earlier, nil
}

// FinishAnswer implements idempotency.Store.
func (a *Accounts) FinishAnswer(ctx context.Context, project, key string, answer idempotency.Answer) error {
	encoded, err := json.Marshal(answer)
	if err == nil {
		_, err = a.db.ExecContext(ctx, "UPDATE idempotent SET answer = ?, size = ? WHERE project = ? AND key = ?", encoded, len(encoded)+answerOverhead, project, key)
	}
	if err != nil {
		return storeError("remember an answer", err)
	}
	return nil
}

// DropAnswer implements idempotency.Store.
func (a *Accounts) DropAnswer(ctx context.Context, project, key string) error {
	if _, err := a.db.ExecContext(ctx, "DELETE FROM idempotent WHERE project = ? AND key = ?", project, key); err != nil {
		return storeError("forget an Idempotency-Key", err)
	}
	return nil
}

// pruneAnswers removes what has expired and, oldest first, what exceeds a
// number of bytes.
func pruneAnswers(ctx context.Context, db *sql.DB, bytes int64, now time.Time) error {
	_, err := db.ExecContext(ctx, "DELETE FROM idempotent WHERE expires_at <= ?", now.UnixMicro())
	if err == nil {
		_, err = db.ExecContext(ctx, `DELETE FROM idempotent WHERE (project, key) IN (SELECT project, key FROM
			(SELECT project, key, sum(size) OVER (ORDER BY expires_at DESC, project, key) AS total FROM idempotent) WHERE total > ?)`, bytes)
	}
	if err != nil {
		return storeError("remove old answers", err)
	}
	return nil
}
