//go:build !linux

package docker

import (
	"context"
	"io"

	"github.com/moby/moby/api/types/container"

	"github.com/faas-platform/faas"
)

// canWriteLayers says whether this process can write files with the owners
// that they have inside: never, without Linux's layers.
func canWriteLayers() bool { return false }

func errNoLayers() error {
	return faas.Unavailable("the layers of snapshots are read and written on Linux only", "run the gateway on Linux")
}

func copyUpper(context.Context, string, []container.MountPoint, string) error { return errNoLayers() }
func unpackLayer(context.Context, string, io.Reader) error                    { return errNoLayers() }
func fingerprint(context.Context, []string) (string, error)                   { return "", errNoLayers() }
func packLayer(context.Context, string, io.Writer) error                      { return errNoLayers() }
