package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/faas-platform/faas"
)

// FileStore is a Store in one JSON file, read once and replaced atomically at
// every change. One process owns it.
type FileStore struct {
	path   string
	mu     sync.RWMutex
	keys   []Key
	byHash map[Hash]int // index in keys
}

// fileFormat is the version of the file's layout.
const fileFormat = 1

type keyFile struct {
	Format int   `json:"format"`
	Keys   []Key `json:"keys"`
}

// OpenFileStore opens the store at path, which need not exist.
func OpenFileStore(path string) (*FileStore, error) {
	s := &FileStore{path: path}
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		content = []byte(`{"format":1}`)
	case err != nil:
		return nil, fmt.Errorf("open key store: %w", err)
	}
	var file keyFile
	if err := json.Unmarshal(content, &file); err != nil {
		return nil, faas.Errorf(faas.KindInternal, "open key store: %s is damaged: %w", path, err)
	}
	if file.Format != fileFormat {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "open key store: %s has format %d, this version knows %d", path, file.Format, fileFormat)
	}
	s.set(file.Keys)
	return s, nil
}

func (s *FileStore) set(keys []Key) {
	s.keys, s.byHash = keys, make(map[Hash]int, len(keys))
	for i, key := range keys {
		s.byHash[key.Hash] = i
	}
}

// KeyByHash implements Store.
func (s *FileStore) KeyByHash(_ context.Context, hash Hash) (Key, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, ok := s.byHash[hash]
	if !ok {
		return Key{}, faas.Errorf(faas.KindNotFound, "no such key")
	}
	return s.keys[i], nil
}

// Keys implements Store.
func (s *FileStore) Keys(context.Context) ([]Key, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.keys), nil
}

// PutKey implements Store.
func (s *FileStore) PutKey(_ context.Context, key Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.keys, func(k Key) bool { return k.ID == key.ID || k.Hash == key.Hash }) {
		return faas.Errorf(faas.KindConflict, "key %s is there already", key.ID)
	}
	return s.replace(append(slices.Clone(s.keys), key))
}

// DeleteKey implements Store.
func (s *FileStore) DeleteKey(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.keys, func(k Key) bool { return k.ID == id })
	if i < 0 {
		return faas.Errorf(faas.KindNotFound, "there is no key %s", id)
	}
	return s.replace(slices.Delete(slices.Clone(s.keys), i, i+1))
}

// replace writes the new list aside and renames it into place.
func (s *FileStore) replace(keys []Key) error {
	content, err := json.MarshalIndent(keyFile{Format: fileFormat, Keys: keys}, "", "  ")
	if err != nil {
		return fmt.Errorf("write key store: %w", err)
	}
	dir := filepath.Dir(s.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write key store: %w", err)
	}
	tmp, err := os.CreateTemp(dir, ".keys-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write key store: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write key store: %w", err)
	}
	if err := os.Rename(tmp.Name(), s.path); err != nil {
		return fmt.Errorf("write key store: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("write key store: %w", err)
	}
	s.set(keys)
	return nil
}
