package meta

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/faas-platform/faas"
)

const sshKeyColumns = "record, expires_at, last_used_at, last_used_from"

// CreateSSHKey records a new SSH key. A public key that the project has
// already is faas.ErrConflict.
func (a *Accounts) CreateSSHKey(ctx context.Context, k faas.SSHKey) error {
	record, err := json.Marshal(k)
	if err != nil {
		return faas.Errorf(faas.KindInternal, "encode the record of %s: %w", k.ID, err)
	}
	err = inTransaction(ctx, a.durable, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, insertProject, k.Project, time.Now().UnixMicro()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO ssh_keys (id, project, kind, fingerprint, record, expires_at, last_used_from)
			VALUES (?, ?, ?, ?, ?, ?, '')`, k.ID, k.Project, string(k.Kind), k.Fingerprint, string(record), micros(k.ExpiresAt))
		return err
	})
	return writeError("record SSH key "+k.ID, "public_key", "an SSH key", k.Fingerprint, err)
}

// UpdateSSHKey replaces the record of a key and its expiry.
func (a *Accounts) UpdateSSHKey(ctx context.Context, k faas.SSHKey) error {
	record, err := json.Marshal(k)
	if err != nil {
		return faas.Errorf(faas.KindInternal, "encode the record of %s: %w", k.ID, err)
	}
	done, err := a.durable.ExecContext(ctx, "UPDATE ssh_keys SET record = ?, expires_at = ? WHERE id = ? AND project = ?",
		string(record), micros(k.ExpiresAt), k.ID, k.Project)
	if err != nil {
		return storeError("record SSH key "+k.ID, err)
	}
	return oneRow(done, "record SSH key "+k.ID, noSSHKey(k.ID))
}

// TouchSSHKey notes the last use of a key. It is not synced to disk.
func (a *Accounts) TouchSSHKey(ctx context.Context, id string, at time.Time, from string) error {
	_, err := a.db.ExecContext(ctx, "UPDATE ssh_keys SET last_used_at = ?, last_used_from = ? WHERE id = ?", at.UnixMicro(), from, id)
	if err != nil {
		return storeError("note the use of "+id, err)
	}
	return nil
}

// DeleteSSHKey removes a project's key.
func (a *Accounts) DeleteSSHKey(ctx context.Context, project, id string) error {
	done, err := a.durable.ExecContext(ctx, "DELETE FROM ssh_keys WHERE project = ? AND id = ?", project, id)
	if err != nil {
		return storeError("remove SSH key "+id, err)
	}
	return oneRow(done, "remove SSH key "+id, noSSHKey(id))
}

// PruneSSHCertificates removes the certificates that ended before a time.
func (a *Accounts) PruneSSHCertificates(ctx context.Context, before time.Time) error {
	_, err := a.db.ExecContext(ctx, "DELETE FROM ssh_keys WHERE kind = ? AND expires_at < ?", string(faas.SSHKeyCertificate), before.UnixMicro())
	if err != nil {
		return storeError("remove old SSH certificates", err)
	}
	return nil
}

// SSHKey returns a key by its id, whatever its project, or faas.ErrNotFound.
func (a *Accounts) SSHKey(ctx context.Context, id string) (faas.SSHKey, error) {
	if !faas.ValidID(faas.PrefixSSHKey, id) {
		return faas.SSHKey{}, noSSHKey(id)
	}
	k, err := scanSSHKey(a.db.QueryRowContext(ctx, "SELECT "+sshKeyColumns+" FROM ssh_keys WHERE id = ?", id))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return k, noSSHKey(id)
	case err != nil:
		return k, storeError("read "+id, err)
	}
	return k, nil
}

// SSHKeysByFingerprint returns the plain keys of every project with that
// fingerprint, oldest first.
func (a *Accounts) SSHKeysByFingerprint(ctx context.Context, fingerprint string) ([]faas.SSHKey, error) {
	return a.querySSHKeys(ctx, "SELECT "+sshKeyColumns+" FROM ssh_keys WHERE fingerprint = ? AND kind = ? ORDER BY id",
		fingerprint, string(faas.SSHKeyPlain))
}

// SSHKeys lists a project's keys, newest first, and the cursor of the next
// page, "" at the end. The filter's limit is in force as it is.
func (a *Accounts) SSHKeys(ctx context.Context, project string, filter faas.SSHKeyFilter) ([]faas.SSHKey, string, error) {
	if filter.Cursor != "" && !faas.ValidID(faas.PrefixSSHKey, filter.Cursor) {
		return nil, "", faas.InvalidField("cursor", "not a cursor of this list")
	}
	var query strings.Builder
	query.WriteString("SELECT " + sshKeyColumns + " FROM ssh_keys WHERE project = ?")
	args := []any{project}
	where := func(condition string, values ...any) {
		query.WriteString(" AND " + condition)
		args = append(args, values...)
	}
	if filter.Kind != "" {
		where("kind = ?", string(filter.Kind))
	}
	if filter.InstanceID != "" {
		where("(json_array_length(record, '$.instance_ids') = 0 OR EXISTS (SELECT 1 FROM json_each(record, '$.instance_ids') AS i WHERE i.value = ?))", filter.InstanceID)
	}
	if filter.Cursor != "" {
		where("id < ?", filter.Cursor)
	}
	query.WriteString(" ORDER BY id DESC LIMIT ?")
	list, err := a.querySSHKeys(ctx, query.String(), append(args, filter.Limit+1)...)
	if err != nil || len(list) <= filter.Limit {
		return list, "", err
	}
	return list[:filter.Limit], list[filter.Limit-1].ID, nil
}

func (a *Accounts) querySSHKeys(ctx context.Context, query string, args ...any) ([]faas.SSHKey, error) {
	rows, err := a.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, storeError("list SSH keys", err)
	}
	defer rows.Close()
	var list []faas.SSHKey
	for rows.Next() {
		k, err := scanSSHKey(rows)
		if err != nil {
			return nil, storeError("list SSH keys", err)
		}
		list = append(list, k)
	}
	if err := rows.Err(); err != nil {
		return nil, storeError("list SSH keys", err)
	}
	return list, nil
}

func scanSSHKey(row interface{ Scan(...any) error }) (faas.SSHKey, error) {
	var (
		k                 faas.SSHKey
		record            string
		expires, lastUsed sql.NullInt64
	)
	if err := row.Scan(&record, &expires, &lastUsed, &k.LastUsedFrom); err != nil {
		return k, err
	}
	from := k.LastUsedFrom
	if err := json.Unmarshal([]byte(record), &k); err != nil {
		return k, err
	}
	k.LastUsedFrom, k.ExpiresAt, k.LastUsedAt = from, timeOf(expires), timeOf(lastUsed)
	return k, nil
}

func micros(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.UnixMicro()
}

func timeOf(n sql.NullInt64) *time.Time {
	if !n.Valid {
		return nil
	}
	t := time.UnixMicro(n.Int64).UTC()
	return &t
}

func noSSHKey(id string) *faas.Error {
	return &faas.Error{Kind: faas.KindNotFound, Op: "find SSH key", Detail: "there is no SSH key " + cutText(id, 64)}
}
