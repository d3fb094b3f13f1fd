//go:build !linux

package snapshot

import (
	"context"
	"crypto/ed25519"
	"io"

	"github.com/faas-platform/faas"
)

// errLinuxOnly is what a store says where it cannot keep layers.
var errLinuxOnly = faas.Unavailable("snapshots are kept on Linux only: their layers are an overlay file system's", "run the server on Linux")

// Store is empty here: there are no snapshots.
type Store struct{}

// Draft is never made here.
type Draft struct{ Manifest Manifest }

// Lease is never had here.
type Lease struct {
	Manifest *Manifest
	Layers   []string
	Memory   string
}

// Open returns a store without snapshots.
func Open(string, Options) (*Store, error) { return &Store{}, nil }

// Close does nothing.
func (*Store) Close() error { return nil }

// Begin fails.
func (*Store) Begin(Manifest) (*Draft, error) { return nil, errLinuxOnly }

// BeginOn fails.
func (*Store) BeginOn(Manifest, string) (*Draft, error) { return nil, errLinuxOnly }

// FS is empty.
func (*Draft) FS() string { return "" }

// Memory is empty.
func (*Draft) Memory() string { return "" }

// SigningKey fails.
func (*Store) SigningKey() (ed25519.PrivateKey, error) { return nil, errLinuxOnly }

// Export fails.
func (*Store) Export(context.Context, io.Writer, string, string, ExportOptions) error {
	return errLinuxOnly
}

// Import fails.
func (*Store) Import(context.Context, io.Reader, ImportOptions) (*Manifest, error) {
	return nil, errLinuxOnly
}

// Tidy does nothing.
func (*Store) Tidy() {}

// Covers does nothing.
func (*Draft) Covers(int) {}

// Commit fails.
func (*Draft) Commit(context.Context) (*Manifest, error) { return nil, errLinuxOnly }

// Abort does nothing.
func (*Draft) Abort() error { return nil }

// Get finds nothing.
func (*Store) Get(_, id string) (*Manifest, error) {
	return nil, faas.Errorf(faas.KindNotFound, "there is no snapshot %.64s", id)
}

// List is empty.
func (*Store) List(string, func(*Manifest) bool) []*Manifest { return nil }

// Hidden is empty.
func (*Store) Hidden() []*Manifest { return nil }

// Annotate finds nothing.
func (s *Store) Annotate(project, id string, _ func(*Annotations)) (*Manifest, error) {
	return s.Get(project, id)
}

// Remove finds nothing.
func (s *Store) Remove(project, id string, _ bool) ([]string, error) {
	_, err := s.Get(project, id)
	return nil, err
}

// Drop does nothing.
func (*Store) Drop(string) error { return nil }

// Acquire finds nothing.
func (s *Store) Acquire(project, id, _ string) (*Lease, error) {
	_, err := s.Get(project, id)
	return nil, err
}

// Release does nothing.
func (*Lease) Release() error { return nil }

// ReleaseHolder does nothing.
func (*Store) ReleaseHolder(string) error { return nil }

// Sweep does nothing.
func (*Store) Sweep(func(string) bool) error { return nil }

// Warm finds nothing.
func (s *Store) Warm(_ context.Context, project, id string) error {
	_, err := s.Get(project, id)
	return err
}

// VerifyOwn finds nothing.
func (*Store) VerifyOwn(context.Context, string) ([]Problem, error) { return nil, errLinuxOnly }

// Archive fails.
func (*Store) Archive(context.Context, string) (int64, error) { return 0, errLinuxOnly }

// Evict fails.
func (*Store) Evict(string) (int64, error) { return 0, errLinuxOnly }

// CollectCold fails.
func (*Store) CollectCold(context.Context) (int64, error) { return 0, errLinuxOnly }

// Compact fails.
func (*Store) Compact(context.Context, string, string) (bool, error) { return false, errLinuxOnly }

// Holdings is empty.
func (*Store) Holdings() ([]Holding, error) { return nil, nil }

// Damaged is empty.
func (*Store) Damaged() map[string]error { return nil }

// Tier says that nothing is anywhere.
func (*Store) Tier(string) Placement { return Placement{} }

// Verify finds nothing.
func (s *Store) Verify(_ context.Context, project, id string) ([]Problem, error) {
	_, err := s.Get(project, id)
	return nil, err
}

// CopyLayer fails.
func CopyLayer(context.Context, string, string) error { return errLinuxOnly }

// Diff fails.
func Diff(context.Context, []string, []string) ([]Change, error) { return nil, errLinuxOnly }

// Merge fails.
func Merge(context.Context, []string, [][]string, Strategy, string) ([]Conflict, error) {
	return nil, errLinuxOnly
}
