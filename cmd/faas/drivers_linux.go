package main

import (
	"log/slog"
	"path/filepath"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/microvm"
	"github.com/faas-platform/faas/driver/oci"
	"github.com/faas-platform/faas/internal/config"
	"github.com/faas-platform/faas/network"
)

// native are the drivers that need this very machine's Linux kernel. They
// share their images.
var native = []opener{
	{faas.RuntimeGVisor, func(cfg *config.Loaded, log *slog.Logger) (driver.Driver, error) {
		images, err := openImages(cfg, log)
		if err != nil {
			return nil, err
		}
		opts := oci.GVisorOptions{Dir: filepath.Join(cfg.Data.Dir, "gvisor"), Images: images, Platform: cfg.GVisor.Platform, Logger: log}
		opts.Network, opts.NetworkError = network.New(networkOptions(cfg, faas.RuntimeGVisor, log))
		return oci.NewGVisor(opts)
	}},
	{faas.RuntimeNative, func(cfg *config.Loaded, log *slog.Logger) (driver.Driver, error) {
		images, err := openImages(cfg, log)
		if err != nil {
			return nil, err
		}
		opts := oci.Options{Dir: filepath.Join(cfg.Data.Dir, "native"), Images: images, Launcher: cfg.Native.Launcher, Logger: log}
		opts.Network, opts.NetworkError = network.New(networkOptions(cfg, faas.RuntimeNative, log))
		return oci.NewNative(opts)
	}},
	{faas.RuntimeQEMU, func(cfg *config.Loaded, log *slog.Logger) (driver.Driver, error) {
		images, err := openImages(cfg, log)
		if err != nil {
			return nil, err
		}
		shift, err := idShift()
		if err != nil {
			return nil, err
		}
		return microvm.NewQEMU(microvm.Options{Dir: filepath.Join(cfg.Data.Dir, "qemu"), Images: images, Shift: shift,
			Kernel: cfg.MicroVM.Kernel, Accel: cfg.MicroVM.Accel, Logger: log})
	}},
}

// idShift is the host id of root in the sandboxes' user namespaces, which
// images are stored for.
func idShift() (int, error) { return oci.IDShift() }
