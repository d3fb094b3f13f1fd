//go:build !linux

package network

import (
	"context"

	"github.com/faas-platform/faas"
)

// Network connects sandboxes. On this operating system it can connect none.
type Network struct{}

// New fails: network namespaces exist on Linux only.
func New(Options) (*Network, error) { return nil, unsupported() }

// Probe says that it cannot work here.
func (*Network) Probe(context.Context) error { return unsupported() }

// Attach fails.
func (*Network) Attach(context.Context, string, int, faas.NetworkPolicy) (*Attachment, error) {
	return nil, unsupported()
}

// Detach fails.
func (*Network) Detach(context.Context, *Attachment) error { return unsupported() }

// Sweep finds nothing.
func (*Network) Sweep(context.Context, func(string) bool) ([]string, error) { return nil, nil }

// Close does nothing.
func (*Network) Close() error { return nil }

func unsupported() error {
	return faas.Unavailable("sandbox networks need Linux's network namespaces", "use the docker runtime for sandboxes with a network")
}
