package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/faas-platform/faas"
)

// fileFormat is the version of the layout of keys.json.
const fileFormat = 1

// fileKey is a key as keys.json held it.
type fileKey struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Project   string    `json:"project"`
	Role      string    `json:"role"`
	Hash      Hash      `json:"hash"`
	CreatedAt time.Time `json:"created_at"`
}

// MigrateFile brings the keys of keys.json, where earlier versions kept them,
// into a store and removes the file. Without one there is nothing to do.
func MigrateFile(ctx context.Context, store Store, path string) error {
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("migrate the key file: %w", err)
	}
	var file struct {
		Format int       `json:"format"`
		Keys   []fileKey `json:"keys"`
	}
	if err := json.Unmarshal(content, &file); err != nil {
		return faas.Errorf(faas.KindInternal, "migrate the key file: %s is damaged: %w", path, err)
	}
	if file.Format != fileFormat {
		return faas.Errorf(faas.KindFailedPrecondition, "migrate the key file: %s has format %d, this version knows %d", path, file.Format, fileFormat)
	}
	for _, old := range file.Keys {
		err := store.PutKey(ctx, old.key())
		if err != nil && faas.KindOf(err) != faas.KindConflict { // a conflict: an earlier start came this far
			return err
		}
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("migrate the key file: %w", err)
	}
	return nil
}

// key gives the roles their names of today.
func (f fileKey) key() Key {
	role := Role(f.Role)
	switch f.Role {
	case "viewer":
		role = RoleReadOnly
	case "member":
		role = RoleUser
	}
	return Key{ID: f.ID, Name: f.Name, Project: f.Project, Role: role, Hash: f.Hash, CreatedAt: f.CreatedAt}
}
