//go:build !linux

package oci

import (
	"context"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// GVisor is the driver of the gvisor runtime, which needs Linux.
type GVisor struct{}

var _ driver.Driver = (*GVisor)(nil)

// NewGVisor returns a driver whose Probe says that there is none here.
func NewGVisor(GVisorOptions) (*GVisor, error) { return &GVisor{}, nil }

// Name is faas.RuntimeGVisor.
func (*GVisor) Name() faas.Runtime { return faas.RuntimeGVisor }

// Probe says that this system cannot.
func (*GVisor) Probe(context.Context) faas.Capabilities {
	c := faas.Capabilities{Runtime: faas.RuntimeGVisor, Reason: gvisorLinuxOnly, Remedy: linuxOnlyRemedy, ProbedAt: time.Now().UTC()}
	for _, f := range faas.Features() {
		c.Features = append(c.Features, faas.Capability{Feature: f, Reason: gvisorLinuxOnly, Remedy: linuxOnlyRemedy})
	}
	return c
}

func gvisorUnavailable(op string) error {
	return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: op, Detail: gvisorLinuxOnly, Remedy: linuxOnlyRemedy}
}

// ResolveImage fails.
func (*GVisor) ResolveImage(context.Context, string, driver.ImageProgress) (driver.Image, error) {
	return driver.Image{}, gvisorUnavailable("resolve image")
}

// Create fails.
func (*GVisor) Create(context.Context, faas.Spec) (driver.Sandbox, error) {
	return nil, gvisorUnavailable("create sandbox")
}

// Recover finds nothing.
func (*GVisor) Recover(_ context.Context, h driver.Handle) (driver.Sandbox, error) {
	return nil, &faas.Error{Kind: faas.KindNotFound, Op: "recover sandbox", Detail: h.ID}
}

// Sweep has nothing to remove.
func (*GVisor) Sweep(context.Context, func(string) bool) ([]string, error) { return nil, nil }

// Close does nothing.
func (*GVisor) Close() error { return nil }
