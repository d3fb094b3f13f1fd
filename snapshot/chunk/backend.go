package chunk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/faas-platform/faas"
)

// Backend keeps named blobs. Names are lower-case letters, digits, hyphens and
// slashes. All methods may be called concurrently.
type Backend interface {
	// Put stores a blob durably: whole or not at all. Storing a name again
	// with the same content is no error.
	Put(ctx context.Context, name string, content []byte) error
	// Get returns a blob, faas.ErrNotFound when there is none.
	Get(ctx context.Context, name string) ([]byte, error)
	// Has says whether there is a blob.
	Has(ctx context.Context, name string) (bool, error)
	// Delete removes a blob. It is no error when there is none.
	Delete(ctx context.Context, name string) error
	// List calls f for every name with a prefix, in any order.
	List(ctx context.Context, prefix string, f func(name string, size int64) error) error
}

// Dir is a Backend in a directory.
type Dir string

func (d Dir) path(name string) string { return filepath.Join(string(d), filepath.FromSlash(name)) }

// Put writes aside, syncs and renames.
func (d Dir) Put(_ context.Context, name string, content []byte) error {
	path := d.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Get reads a blob.
func (d Dir) Get(_ context.Context, name string) ([]byte, error) {
	b, err := os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, faas.Errorf(faas.KindNotFound, "blob %s is missing", name)
	}
	return b, err
}

// Has looks for a blob.
func (d Dir) Has(_ context.Context, name string) (bool, error) {
	_, err := os.Stat(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Delete removes a blob.
func (d Dir) Delete(_ context.Context, name string) error {
	err := os.Remove(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// List walks the directory.
func (d Dir) List(ctx context.Context, prefix string, f func(string, int64) error) error {
	err := filepath.WalkDir(string(d), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile, or nothing was ever stored
		}
		if err != nil || entry.IsDir() {
			return errors.Join(err, ctx.Err())
		}
		rel, err := filepath.Rel(string(d), path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if !strings.HasPrefix(name, prefix) || strings.HasPrefix(entry.Name(), ".new-") {
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return f(name, info.Size())
	})
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	return nil
}
