package main

import (
	"log/slog"
	"path/filepath"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/oci"
	"github.com/faas-platform/faas/internal/config"
)

// native are the drivers that need this very machine's Linux kernel.
var native = []opener{{faas.RuntimeNative, func(cfg *config.Loaded, log *slog.Logger) (driver.Driver, error) {
	images, err := openImages(cfg, log)
	if err != nil {
		return nil, err
	}
	return oci.NewNative(oci.Options{Dir: filepath.Join(cfg.Data.Dir, "native"), Images: images, Logger: log})
}}}

// idShift is the host id of root in the sandboxes' user namespaces, which
// images are stored for.
func idShift() (int, error) { return oci.IDShift() }
