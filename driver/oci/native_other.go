//go:build !linux

package oci

import (
	"context"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// Native is the driver of the native runtime, which needs Linux.
type Native struct{}

var _ driver.Driver = (*Native)(nil)

// NewNative returns a driver whose Probe says that there is none here.
func NewNative(Options) (*Native, error) { return &Native{}, nil }

// IDShift is 0 where there are no user namespaces.
func IDShift() (int, error) { return 0, nil }

// Name is faas.RuntimeNative.
func (*Native) Name() faas.Runtime { return faas.RuntimeNative }

// Probe says that this system cannot.
func (*Native) Probe(context.Context) faas.Capabilities {
	c := faas.Capabilities{Runtime: faas.RuntimeNative, Reason: linuxOnly, Remedy: linuxOnlyRemedy, ProbedAt: time.Now().UTC()}
	for _, f := range faas.Features() {
		c.Features = append(c.Features, faas.Capability{Feature: f, Reason: linuxOnly, Remedy: linuxOnlyRemedy})
	}
	return c
}

func unavailable(op string) error {
	return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: op, Detail: linuxOnly, Remedy: linuxOnlyRemedy}
}

// ResolveImage fails.
func (*Native) ResolveImage(context.Context, string, driver.ImageProgress) (driver.Image, error) {
	return driver.Image{}, unavailable("resolve image")
}

// Create fails.
func (*Native) Create(context.Context, faas.Spec) (driver.Sandbox, error) {
	return nil, unavailable("create sandbox")
}

// Recover finds nothing.
func (*Native) Recover(_ context.Context, h driver.Handle) (driver.Sandbox, error) {
	return nil, &faas.Error{Kind: faas.KindNotFound, Op: "recover sandbox", Detail: h.ID}
}

// Sweep has nothing to remove.
func (*Native) Sweep(context.Context, func(string) bool) ([]string, error) { return nil, nil }

// Close does nothing.
func (*Native) Close() error { return nil }
