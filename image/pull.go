package image

import (
	"context"
	"io"

	"github.com/faas-platform/faas"
)

// Pull makes ref available and returns it.
func (s *Store) Pull(ctx context.Context, ref string, opts PullOptions) (*Image, error) {
	if ref == faas.HostImage {
		return s.hostInfo(ctx)
	}
	return nil, faas.Unavailable("pulling is not in this build yet", "use the host image")
}

// Import reads an image from r (rootfs tar, OCI layout tar or docker-save tar) under a name.
func (s *Store) Import(ctx context.Context, r io.Reader, name string) (*Image, error) {
	return nil, faas.Unavailable("importing is not in this build yet", "use the host image")
}

// ImportPath is Import from a file, or from a directory that is an OCI layout.
func (s *Store) ImportPath(ctx context.Context, path, name string) (*Image, error) {
	return nil, faas.Unavailable("importing is not in this build yet", "use the host image")
}

// Remove takes a name (or, by digest, an image with all its names) out of the
// store and frees what nothing needs any more. It returns the bytes freed.
func (s *Store) Remove(ctx context.Context, ref string) (int64, error) {
	return 0, faas.Unavailable("removing is not in this build yet", "")
}
