//go:build !linux

package pack

import (
	"context"
	"io"

	"github.com/faas-platform/faas"
)

// Options adjusts Layer.
type Options struct {
	Overlay            bool
	UIDShift, GIDShift int
}

// Layer fails: overlay layers are Linux's.
func Layer(context.Context, string, io.Writer, Options) error {
	return faas.Unavailable("layers are packed on Linux only", "run faas on a Linux machine")
}
