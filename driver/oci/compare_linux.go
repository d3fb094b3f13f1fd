package oci

import (
	"context"
	"log/slog"

	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/image"
)

var (
	_ driver.Layered = (*Native)(nil)
	_ driver.Layered = (*GVisor)(nil)
)

// ImageLayers leases an image for who compares or merges what sandboxes made
// of it.
func (n *Native) ImageLayers(ctx context.Context, ref string) (layers []string, release func(), err error) {
	return leaseLayers(ctx, n.images, n.log, ref)
}

// ImageLayers leases an image for who compares or merges what sandboxes made
// of it.
func (g *GVisor) ImageLayers(ctx context.Context, ref string) (layers []string, release func(), err error) {
	return leaseLayers(ctx, g.images, g.log, ref)
}

func leaseLayers(ctx context.Context, images *image.Store, log *slog.Logger, ref string) (layers []string, release func(), err error) {
	root, err := images.Acquire(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	return root.Layers, func() {
		if err := root.Release(); err != nil {
			log.Warn("an image is still leased until the end of this process", "image", ref, "error", err)
		}
	}, nil
}
