package oci

import (
	"context"

	"github.com/faas-platform/faas/driver"
)

var _ driver.Layered = (*Native)(nil)

// ImageLayers leases an image for who compares or merges what sandboxes made
// of it.
func (n *Native) ImageLayers(ctx context.Context, ref string) (layers []string, release func(), err error) {
	root, err := n.images.Acquire(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	return root.Layers, func() {
		if err := root.Release(); err != nil {
			n.log.Warn("an image is still leased until the end of this process", "image", ref, "error", err)
		}
	}, nil
}
