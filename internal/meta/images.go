package meta

import (
	"context"
	"time"
)

// ImageName is a name under which a project uses an image.
type ImageName struct {
	Project string
	Name    string
	Digest  string
}

// GrantImage lets a project use an image under a name.
func (a *Accounts) GrantImage(ctx context.Context, project, name, digest string) error {
	_, err := a.durable.ExecContext(ctx, `INSERT INTO image_names (project, name, digest, created_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (project, name) DO UPDATE SET digest = excluded.digest`, project, name, digest, time.Now().UnixMicro())
	if err != nil {
		return storeError("note the name of an image", err)
	}
	return nil
}

// RevokeImage takes a name from a project and says whether it had it.
func (a *Accounts) RevokeImage(ctx context.Context, project, name string) (bool, error) {
	done, err := a.durable.ExecContext(ctx, "DELETE FROM image_names WHERE project = ? AND name = ?", project, name)
	if err != nil {
		return false, storeError("remove the name of an image", err)
	}
	n, err := done.RowsAffected()
	return n > 0, err
}

// ImageNames lists the names of every project.
func (a *Accounts) ImageNames(ctx context.Context) ([]ImageName, error) {
	rows, err := a.db.QueryContext(ctx, "SELECT project, name, digest FROM image_names ORDER BY project, name")
	if err != nil {
		return nil, storeError("read the names of images", err)
	}
	defer rows.Close()
	var list []ImageName
	for rows.Next() {
		var n ImageName
		if err := rows.Scan(&n.Project, &n.Name, &n.Digest); err != nil {
			return nil, storeError("read the names of images", err)
		}
		list = append(list, n)
	}
	if err := rows.Err(); err != nil {
		return nil, storeError("read the names of images", err)
	}
	return list, nil
}
