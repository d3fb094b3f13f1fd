package main

import (
	"log/slog"
	"path/filepath"

	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/internal/config"
)

// openImages opens the image store that the drivers of this installation
// share. Opening costs no more than looking into its directory.
func openImages(cfg *config.Loaded, log *slog.Logger) (*image.Store, error) {
	shift, err := idShift()
	if err != nil {
		return nil, err
	}
	return image.Open(filepath.Join(cfg.Data.Dir, "images"), image.Options{UIDShift: shift, GIDShift: shift, Insecure: cfg.Images.InsecureRegistries, Logger: log})
}
