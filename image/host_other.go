//go:build !linux

package image

import (
	"context"

	"github.com/faas-platform/faas"
)

func (s *Store) hostImage(context.Context) (*hostState, error) {
	return nil, faas.Unavailable("the host image needs Linux", "use an OCI image")
}

func (s *Store) currentHost() string { return "" }
