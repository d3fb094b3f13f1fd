//go:build !linux

package image

import (
	"archive/tar"
	"io"

	"github.com/faas-platform/faas"
)

type extractor struct{ rec layerRecord }

func newExtractor(string, ownership, Limits) (*extractor, error) {
	return nil, faas.Unavailable("unpacking images needs Linux", "run the daemon on Linux, or use the docker runtime")
}

func (e *extractor) entry(*tar.Header, io.Reader) error { return nil }
func (e *extractor) finish() error                      { return nil }
func (e *extractor) close()                             {}

func syncFS(string) error { return nil }
