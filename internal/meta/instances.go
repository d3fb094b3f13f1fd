package meta

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/faas-platform/faas"
)

// Instance is the record of an instance.
type Instance struct {
	faas.Instance
	Owner     string          // the process that looks after it; see Store.Owner
	SandboxID string          // of its present sandbox; empty: none
	Private   json.RawMessage // what only the executor reads
}

// Owner names this process in the records that it looks after.
func (s *Store) Owner() string { return s.journal.owner }

// OwnerAlive says whether the process of that name still has this directory
// open.
func (s *Store) OwnerAlive(owner string) bool {
	if owner == s.journal.owner {
		return true
	}
	if !faas.ValidID(ownerPrefix, owner) {
		return false
	}
	// The look takes the lock itself for a moment: two at once would each take
	// the other for the owner.
	s.looking.Lock()
	defer s.looking.Unlock()
	f, err := os.OpenFile(filepath.Join(s.journal.dir, owner+lockSuffix), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	locked, err := tryLock(f)
	return err != nil || !locked
}

const insertProject = "INSERT INTO projects (name, created_at) VALUES (?, ?) ON CONFLICT (name) DO NOTHING"

const instanceColumns = "id, project, name, status, owner, sandbox_id, labels, record, private"

// CreateInstance records a new instance, owned by this process. A name that is
// taken is faas.ErrConflict.
func (s *Store) CreateInstance(ctx context.Context, x Instance) error {
	args, err := instanceArgs(x)
	if err != nil {
		return err
	}
	args[4] = s.Owner()
	err = inTransaction(ctx, s.durable, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, insertProject, x.Project, time.Now().UnixMicro()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO instances ("+instanceColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", args...)
		return err
	})
	return writeError("record instance "+x.ID, "name", "an instance", x.Name, err)
}

// UpdateInstance replaces the record of an instance that this process owns; it
// is durable when UpdateInstance returns. faas.ErrNotFound says that it is
// gone or another's.
func (s *Store) UpdateInstance(ctx context.Context, x Instance) error {
	args, err := instanceArgs(x)
	if err != nil {
		return err
	}
	done, err := s.durable.ExecContext(ctx, `UPDATE instances SET name = ?, status = ?, sandbox_id = ?,
		labels = ?, record = ?, private = ? WHERE id = ? AND owner = ?`,
		args[2], args[3], args[5], args[6], args[7], args[8], x.ID, s.Owner())
	if err != nil {
		return writeError("record instance "+x.ID, "name", "an instance", x.Name, err)
	}
	return oneRow(done, "record instance "+x.ID, noInstance(x.ID))
}

// DeleteInstance removes the record of an instance that this process owns.
func (s *Store) DeleteInstance(ctx context.Context, id string) error {
	_, err := s.durable.ExecContext(ctx, "DELETE FROM instances WHERE id = ? AND owner = ?", id, s.Owner())
	if err != nil {
		return storeError("remove the record of "+id, err)
	}
	return nil
}

// ClaimInstance makes this process the owner of an instance in the place of
// one that is dead, and says whether it did.
func (s *Store) ClaimInstance(ctx context.Context, x Instance) (bool, error) {
	if s.OwnerAlive(x.Owner) {
		return false, nil
	}
	done, err := s.durable.ExecContext(ctx, "UPDATE instances SET owner = ? WHERE id = ? AND owner = ?", s.Owner(), x.ID, x.Owner)
	if err != nil {
		return false, storeError("take over instance "+x.ID, err)
	}
	n, err := done.RowsAffected()
	return n == 1, err
}

// Instance returns a project's instance, or faas.ErrNotFound.
func (s *Store) Instance(ctx context.Context, project, id string) (*Instance, error) {
	if !faas.ValidID(faas.PrefixInstance, id) {
		return nil, noInstance(id)
	}
	row := s.db.QueryRowContext(ctx, "SELECT "+instanceColumns+" FROM instances WHERE id = ? AND project = ?", id, project)
	x, err := scanInstance(row)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, noInstance(id)
	case err != nil:
		return nil, storeError("read "+id, err)
	}
	return &x, nil
}

// AllInstances returns the instances of every project, oldest first.
func (s *Store) AllInstances(ctx context.Context) ([]Instance, error) {
	return s.queryInstances(ctx, "SELECT "+instanceColumns+" FROM instances ORDER BY id")
}

// Instances lists a project's instances, newest first, and the cursor of the
// next page, "" at the end. The filter's limit is in force as it is.
func (s *Store) Instances(ctx context.Context, project string, filter faas.InstanceFilter) ([]Instance, string, error) {
	if filter.Cursor != "" && !faas.ValidID(faas.PrefixInstance, filter.Cursor) {
		return nil, "", faas.InvalidField("cursor", "not a cursor of this list")
	}
	var query strings.Builder
	query.WriteString("SELECT " + instanceColumns + " FROM instances WHERE project = ?")
	args := []any{project}
	where := func(condition string, values ...any) {
		query.WriteString(" AND " + condition)
		args = append(args, values...)
	}
	if filter.Status != "" {
		where("status = ?", string(filter.Status))
	}
	if filter.Name != "" {
		where("name = ?", filter.Name)
	}
	for key, value := range filter.Labels {
		where("EXISTS (SELECT 1 FROM json_each(labels) AS l WHERE l.key = ? AND l.value = ?)", key, value)
	}
	if filter.Cursor != "" {
		where("id < ?", filter.Cursor)
	}
	query.WriteString(" ORDER BY id DESC LIMIT ?")
	list, err := s.queryInstances(ctx, query.String(), append(args, filter.Limit+1)...)
	if err != nil || len(list) <= filter.Limit {
		return list, "", err
	}
	return list[:filter.Limit], list[filter.Limit-1].ID, nil
}

func (s *Store) queryInstances(ctx context.Context, query string, args ...any) ([]Instance, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, storeError("list instances", err)
	}
	defer rows.Close()
	var list []Instance
	for rows.Next() {
		x, err := scanInstance(rows)
		if err != nil {
			return nil, storeError("list instances", err)
		}
		list = append(list, x)
	}
	if err := rows.Err(); err != nil {
		return nil, storeError("list instances", err)
	}
	return list, nil
}

func instanceArgs(x Instance) ([]any, error) {
	labels := x.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	encodedLabels, err := json.Marshal(labels)
	if err != nil {
		return nil, faas.Errorf(faas.KindInternal, "encode the labels of %s: %w", x.ID, err)
	}
	record, err := json.Marshal(x.Instance)
	if err != nil {
		return nil, faas.Errorf(faas.KindInternal, "encode the record of %s: %w", x.ID, err)
	}
	return []any{x.ID, x.Project, x.Name, string(x.Status), x.Owner, x.SandboxID, string(encodedLabels), string(record), string(x.Private)}, nil
}

func scanInstance(row interface{ Scan(...any) error }) (Instance, error) {
	var (
		x                                 Instance
		id, project, name, status, labels string
		record, private                   string
	)
	if err := row.Scan(&id, &project, &name, &status, &x.Owner, &x.SandboxID, &labels, &record, &private); err != nil {
		return x, err
	}
	x.Private = json.RawMessage(private)
	return x, json.Unmarshal([]byte(record), &x.Instance)
}

func noInstance(id string) *faas.Error {
	return &faas.Error{Kind: faas.KindNotFound, Op: "find instance", Detail: "there is no instance " + cutText(id, 64)}
}

// oneRow returns missing when a statement changed nothing.
func oneRow(done sql.Result, op string, missing error) error {
	n, err := done.RowsAffected()
	if err != nil {
		return storeError(op, err)
	}
	if n == 0 {
		return missing
	}
	return nil
}

// writeError tells a name that is taken from a database that fails.
func writeError(op, field, what, name string, err error) error {
	if err == nil {
		return nil
	}
	var refused *sqlite.Error
	if errors.As(err, &refused) && refused.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return &faas.Error{Kind: faas.KindConflict, Op: op, Field: field,
			Detail: "the project has " + what + " named " + cutText(name, 64) + " already", Remedy: "choose another name"}
	}
	return storeError(op, err)
}
