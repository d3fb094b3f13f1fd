package meta

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/faas-platform/faas"
)

const branchColumns = "id, project, name, head, created_at, updated_at"

// CreateBranch records a new branch. A name that is taken is faas.ErrConflict.
func (s *Store) CreateBranch(ctx context.Context, b faas.Branch) error {
	err := inTransaction(ctx, s.durable, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, insertProject, b.Project, time.Now().UnixMicro()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO branches ("+branchColumns+") VALUES (?, ?, ?, ?, ?, ?)",
			b.ID, b.Project, b.Name, b.Head, b.CreatedAt.UnixMicro(), b.UpdatedAt.UnixMicro())
		return err
	})
	return writeError("record branch "+b.Name, "branch_name", "a branch", b.Name, err)
}

// Branch returns a project's branch by its id or its name, or
// faas.ErrNotFound.
func (s *Store) Branch(ctx context.Context, project, ref string) (*faas.Branch, error) {
	row := s.db.QueryRowContext(ctx, "SELECT "+branchColumns+" FROM branches WHERE project = ? AND (id = ? OR name = ?) ORDER BY id = ? DESC LIMIT 1",
		project, ref, ref, ref)
	b, err := scanBranch(row)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, noBranch(ref)
	case err != nil:
		return nil, storeError("read branch "+cutText(ref, 64), err)
	}
	return &b, nil
}

func noBranch(ref string) *faas.Error {
	return &faas.Error{Kind: faas.KindNotFound, Op: "find branch", Detail: "there is no branch " + cutText(ref, 64)}
}

// Branches lists a project's branches by name. With head only those whose head
// that snapshot is.
func (s *Store) Branches(ctx context.Context, project, head string) ([]faas.Branch, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT "+branchColumns+" FROM branches WHERE project = ? AND (? = '' OR head = ?) ORDER BY name",
		project, head, head)
	if err != nil {
		return nil, storeError("list branches", err)
	}
	defer rows.Close()
	var list []faas.Branch
	for rows.Next() {
		b, err := scanBranch(rows)
		if err != nil {
			return nil, storeError("list branches", err)
		}
		list = append(list, b)
	}
	if err := rows.Err(); err != nil {
		return nil, storeError("list branches", err)
	}
	return list, nil
}

// MoveBranch sets a branch's head to another snapshot if it still is what the
// caller knows; otherwise faas.ErrConflict.
func (s *Store) MoveBranch(ctx context.Context, project, id, from, to string) error {
	done, err := s.durable.ExecContext(ctx, "UPDATE branches SET head = ?, updated_at = ? WHERE project = ? AND id = ? AND head = ?",
		to, time.Now().UnixMicro(), project, id, from)
	if err != nil {
		return storeError("move branch "+id, err)
	}
	return oneRow(done, "move branch "+id, &faas.Error{Kind: faas.KindConflict, Op: "move branch",
		Detail: "branch " + cutText(id, 64) + " has moved on or was removed meanwhile"})
}

// DeleteBranch removes a branch; its snapshots stay.
func (s *Store) DeleteBranch(ctx context.Context, project, id string) error {
	done, err := s.durable.ExecContext(ctx, "DELETE FROM branches WHERE project = ? AND id = ?", project, id)
	if err != nil {
		return storeError("remove branch "+id, err)
	}
	return oneRow(done, "remove branch "+id, noBranch(id))
}

func scanBranch(row interface{ Scan(...any) error }) (faas.Branch, error) {
	var (
		b                faas.Branch
		created, updated int64
	)
	err := row.Scan(&b.ID, &b.Project, &b.Name, &b.Head, &created, &updated)
	b.CreatedAt, b.UpdatedAt = time.UnixMicro(created).UTC(), time.UnixMicro(updated).UTC()
	return b, err
}
