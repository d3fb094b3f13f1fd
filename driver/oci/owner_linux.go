package oci

import "github.com/faas-platform/faas/driver"

var (
	_ driver.Shifted = (*Native)(nil)
	_ driver.Shifted = (*GVisor)(nil)
)

// FileOwner implements driver.Shifted.
func (n *Native) FileOwner() uint32 { return uint32(n.shift) } //nolint:gosec // an id

// FileOwner implements driver.Shifted.
func (g *GVisor) FileOwner() uint32 { return uint32(g.shift) } //nolint:gosec // an id
