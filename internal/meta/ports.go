package meta

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/faas-platform/faas"
)

const portColumns = "id, project, instance_id, port, protocol, access, subdomain, host_port, created_at"

// CreatePort records an exposed port; it goes with its instance's record. A
// subdomain that is taken is faas.ErrConflict.
func (s *Store) CreatePort(ctx context.Context, p faas.Port) error {
	_, err := s.durable.ExecContext(ctx, "INSERT INTO ports ("+portColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		p.ID, p.Project, p.InstanceID, p.Port, p.Protocol, p.Access, p.Subdomain, p.HostPort, p.CreatedAt.UnixMicro())
	return writeError("record port "+p.ID, "subdomain", "a port", p.Subdomain, err)
}

// DeletePort removes the record of a port.
func (s *Store) DeletePort(ctx context.Context, id string) error {
	if _, err := s.durable.ExecContext(ctx, "DELETE FROM ports WHERE id = ?", id); err != nil {
		return storeError("remove the record of "+id, err)
	}
	return nil
}

// Ports lists a project's ports, oldest first; with instanceID only those of
// that instance.
func (s *Store) Ports(ctx context.Context, project, instanceID string) ([]faas.Port, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT "+portColumns+" FROM ports WHERE project = ? AND (? = '' OR instance_id = ?) ORDER BY id",
		project, instanceID, instanceID)
	if err != nil {
		return nil, storeError("list ports", err)
	}
	defer rows.Close()
	var list []faas.Port
	for rows.Next() {
		p, err := scanPort(rows)
		if err != nil {
			return nil, storeError("list ports", err)
		}
		list = append(list, p)
	}
	if err := rows.Err(); err != nil {
		return nil, storeError("list ports", err)
	}
	return list, nil
}

// Port returns a project's port, or faas.ErrNotFound.
func (s *Store) Port(ctx context.Context, project, id string) (*faas.Port, error) {
	return s.onePort(ctx, id, "id = ? AND project = ?", id, project)
}

// PortOf returns the port that a subdomain names, whichever project's, or
// faas.ErrNotFound.
func (s *Store) PortOf(ctx context.Context, subdomain string) (*faas.Port, error) {
	return s.onePort(ctx, subdomain, "subdomain = ? AND subdomain <> ''", subdomain)
}

// PublicPort returns the public port of that number of an instance, whichever
// project's, or faas.ErrNotFound.
func (s *Store) PublicPort(ctx context.Context, instanceID string, port int) (*faas.Port, error) {
	return s.onePort(ctx, instanceID, "instance_id = ? AND port = ? AND access = ? AND protocol <> ?",
		instanceID, port, faas.PortPublic, faas.PortTCP)
}

func (s *Store) onePort(ctx context.Context, name, condition string, args ...any) (*faas.Port, error) {
	p, err := scanPort(s.db.QueryRowContext(ctx, "SELECT "+portColumns+" FROM ports WHERE "+condition+" LIMIT 1", args...))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, &faas.Error{Kind: faas.KindNotFound, Op: "find port", Detail: "there is no exposed port " + cutText(name, 64)}
	case err != nil:
		return nil, storeError("read port "+cutText(name, 64), err)
	}
	return &p, nil
}

func scanPort(row interface{ Scan(...any) error }) (faas.Port, error) {
	var p faas.Port
	var created int64
	err := row.Scan(&p.ID, &p.Project, &p.InstanceID, &p.Port, &p.Protocol, &p.Access, &p.Subdomain, &p.HostPort, &created)
	p.CreatedAt = time.UnixMicro(created).UTC()
	return p, err
}
