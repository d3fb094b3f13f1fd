package meta

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/faas-platform/faas"
)

// A begin never overwrites what is there: a replayed journal may hold the
// begin of an execution whose end came into the database before.
const insertBegin = `INSERT INTO executions
	(id, project, status, owner, size, created_at, finished_at, command, image, runtime, mode, error, result, instance)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`

const upsertEnd = `INSERT INTO executions
	(id, project, status, owner, size, created_at, finished_at, command, image, runtime, mode, error, result, instance)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT (id) DO UPDATE SET status = excluded.status, size = excluded.size,
		finished_at = excluded.finished_at, runtime = excluded.runtime,
		error = excluded.error, result = excluded.result
	WHERE executions.project = excluded.project AND executions.status IN ('running', 'lost')`

const selectExecution = `SELECT id, project, status, command, image, runtime, mode,
	created_at, finished_at, result, error, instance FROM executions `

// applyEvents brings events into the database in one transaction. An
// execution that began and ended within the batch is written once.
func applyEvents(ctx context.Context, db *sql.DB, owner string, events []pendingEvent) error {
	ended := make(map[string]bool, len(events))
	for _, ev := range events {
		if ev.op == opEnd {
			ended[ev.record.ID] = true
		}
	}
	return inTransaction(ctx, db, func(tx *sql.Tx) error {
		statements, err := prepareEvents(ctx, tx)
		if err != nil {
			return err
		}
		defer statements.close()
		for _, ev := range events {
			if ev.op == opBegin && ended[ev.record.ID] {
				continue
			}
			if err := statements.apply(ctx, owner, ev); err != nil {
				return err
			}
		}
		return nil
	})
}

// eventStatements are the prepared statements of one transaction.
type eventStatements struct {
	project, begin, end *sql.Stmt
	projects            map[string]bool // known to be there
}

func prepareEvents(ctx context.Context, tx *sql.Tx) (*eventStatements, error) {
	s := &eventStatements{projects: map[string]bool{faas.DefaultProject: true}}
	for _, p := range []struct {
		statement **sql.Stmt
		text      string
	}{
		{&s.project, "INSERT INTO projects (name, created_at) VALUES (?, ?) ON CONFLICT (name) DO NOTHING"},
		{&s.begin, insertBegin},
		{&s.end, upsertEnd},
	} {
		prepared, err := tx.PrepareContext(ctx, p.text)
		if err != nil {
			s.close()
			return nil, err
		}
		*p.statement = prepared
	}
	return s, nil
}

func (s *eventStatements) close() {
	for _, statement := range []*sql.Stmt{s.project, s.begin, s.end} {
		if statement != nil {
			statement.Close()
		}
	}
}

func (s *eventStatements) apply(ctx context.Context, owner string, ev pendingEvent) error {
	r := ev.record
	if !s.projects[r.Project] {
		if _, err := s.project.ExecContext(ctx, r.Project, r.CreatedAt); err != nil {
			return err
		}
		s.projects[r.Project] = true
	}
	command, err := json.Marshal(r.Command)
	if err != nil {
		return err
	}
	statement := s.begin
	if ev.op == opEnd {
		statement = s.end
	}
	finished := sql.NullInt64{Int64: r.FinishedAt, Valid: r.FinishedAt != 0}
	result := sql.NullString{String: string(r.Result), Valid: len(r.Result) > 0}
	_, err = statement.ExecContext(ctx, r.ID, r.Project, r.Status, owner, len(r.Result)+len(command),
		r.CreatedAt, finished, string(command), r.Image, r.Runtime, r.Mode, r.Error, result, r.Instance)
	return err
}

// loseRunning marks the running executions of an owner as lost.
func loseRunning(ctx context.Context, db *sql.DB, owner string, now time.Time) (int, error) {
	done, err := db.ExecContext(ctx, `UPDATE executions SET status = ?, finished_at = ?, error = ?
		WHERE owner = ? AND status = 'running'`, string(faas.ExecutionLost), now.UnixMicro(),
		"the process that ran it died before it ended: its command may have had effects, its result is not known", owner)
	if err != nil {
		return 0, storeError("mark lost executions", err)
	}
	n, err := done.RowsAffected()
	if err != nil {
		return 0, storeError("mark lost executions", err)
	}
	return int(n), nil
}

// runningOwners lists the owners that have running executions.
func runningOwners(ctx context.Context, db *sql.DB) ([]string, error) {
	rows, err := db.QueryContext(ctx, "SELECT DISTINCT owner FROM executions WHERE status = 'running'")
	if err != nil {
		return nil, storeError("list running executions", err)
	}
	defer rows.Close()
	var owners []string
	for rows.Next() {
		var owner string
		if err := rows.Scan(&owner); err != nil {
			return nil, storeError("list running executions", err)
		}
		owners = append(owners, owner)
	}
	if err := rows.Err(); err != nil {
		return nil, storeError("list running executions", err)
	}
	return owners, nil
}

// Execution returns the record of one execution of a project, or
// faas.ErrNotFound.
func (s *Store) Execution(ctx context.Context, project, id string) (*faas.Execution, error) {
	if !faas.ValidID(faas.PrefixExecution, id) {
		return nil, notFound(id)
	}
	if err := s.Sync(ctx); err != nil {
		return nil, err
	}
	row := s.db.QueryRowContext(ctx, selectExecution+"WHERE id = ? AND project = ?", id, project)
	exec, err := scanExecution(row)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, notFound(id)
	case err != nil:
		return nil, storeError("read "+id, err)
	}
	return &exec, nil
}

func notFound(id string) error {
	return &faas.Error{Kind: faas.KindNotFound, Op: "find execution", Detail: "there is no execution " + cutText(id, 64)}
}

// Executions lists a project's executions, newest first, and the cursor of
// the next page, "" at the end. limit is the most to return.
func (s *Store) Executions(ctx context.Context, project string, limit int, cursor string) ([]faas.Execution, string, error) {
	return s.executionsIn(ctx, project, "", limit, cursor)
}

// InstanceExecutions lists the executions that ran in an instance, as
// Executions does.
func (s *Store) InstanceExecutions(ctx context.Context, project, instance string, limit int, cursor string) ([]faas.Execution, string, error) {
	return s.executionsIn(ctx, project, instance, limit, cursor)
}

func (s *Store) executionsIn(ctx context.Context, project, instance string, limit int, cursor string) ([]faas.Execution, string, error) {
	if cursor != "" && !faas.ValidID(faas.PrefixExecution, cursor) {
		return nil, "", faas.InvalidField("cursor", "not a cursor of this list")
	}
	if err := s.Sync(ctx); err != nil {
		return nil, "", err
	}
	query, args := selectExecution+"WHERE project = ?", []any{project}
	if instance != "" {
		query, args = query+" AND instance = ?", append(args, instance)
	}
	if cursor != "" {
		query, args = query+" AND id < ?", append(args, cursor)
	}
	rows, err := s.db.QueryContext(ctx, query+" ORDER BY id DESC LIMIT ?", append(args, limit+1)...)
	if err != nil {
		return nil, "", storeError("list executions", err)
	}
	defer rows.Close()
	list := make([]faas.Execution, 0, min(limit, 64))
	for rows.Next() {
		if len(list) == limit {
			return list, list[limit-1].ID, nil
		}
		exec, err := scanExecution(rows)
		if err != nil {
			return nil, "", storeError("list executions", err)
		}
		list = append(list, exec)
	}
	if err := rows.Err(); err != nil {
		return nil, "", storeError("list executions", err)
	}
	return list, "", nil
}

func scanExecution(row interface{ Scan(...any) error }) (faas.Execution, error) {
	var (
		r        record
		command  string
		finished sql.NullInt64
		result   sql.NullString
	)
	err := row.Scan(&r.ID, &r.Project, &r.Status, &command, &r.Image, &r.Runtime, &r.Mode,
		&r.CreatedAt, &finished, &result, &r.Error, &r.Instance)
	if err != nil {
		return faas.Execution{}, err
	}
	if err := json.Unmarshal([]byte(command), &r.Command); err != nil {
		return faas.Execution{}, err
	}
	r.FinishedAt, r.Result = finished.Int64, json.RawMessage(result.String)
	return r.execution()
}

// pruneChunk bounds one deletion, so that writers do not wait long for it.
const pruneChunk = 1000

// prune removes the ended executions that exceed the retention.
func prune(ctx context.Context, db *sql.DB, keep Retention, now time.Time) error {
	bounds := []struct {
		query string
		arg   any
	}{
		{`SELECT max(id) FROM executions WHERE created_at < ?`, now.Add(-keep.Age).UnixMicro()},
		{`SELECT id FROM executions ORDER BY id DESC LIMIT 1 OFFSET ?`, keep.Count},
		{`SELECT id FROM (SELECT id, sum(size) OVER (ORDER BY id DESC) AS total FROM executions INDEXED BY executions_size)
			WHERE total > ? ORDER BY id DESC LIMIT 1`, keep.Bytes},
	}
	for _, bound := range bounds {
		var last sql.NullString
		err := db.QueryRowContext(ctx, bound.query, bound.arg).Scan(&last)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return storeError("find old executions", err)
		}
		if last.Valid {
			if err := deleteUpTo(ctx, db, last.String); err != nil {
				return err
			}
		}
	}
	return nil
}

// deleteUpTo removes the ended executions whose ids are at most last.
func deleteUpTo(ctx context.Context, db *sql.DB, last string) error {
	for {
		done, err := db.ExecContext(ctx, `DELETE FROM executions WHERE id IN
			(SELECT id FROM executions WHERE id <= ? AND status <> 'running' ORDER BY id LIMIT ?)`, last, pruneChunk)
		if err != nil {
			return storeError("remove old executions", err)
		}
		if n, err := done.RowsAffected(); err != nil || n < pruneChunk {
			return err
		}
	}
}
