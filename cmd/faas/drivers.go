package main

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/docker"
	"github.com/faas-platform/faas/internal/config"
)

// opener makes one driver. It opens nothing that costs time: what a driver
// needs of the machine, its probe or first use finds out.
type opener struct {
	runtime faas.Runtime
	open    func(cfg *config.Loaded, log *slog.Logger) (driver.Driver, error)
}

// portable are the drivers of every system that this program runs on.
var portable = []opener{{faas.RuntimeDocker, func(cfg *config.Loaded, log *slog.Logger) (driver.Driver, error) {
	return docker.New(docker.Options{
		Dir: filepath.Join(cfg.Data.Dir, "docker"), Network: networkOptions(cfg, faas.RuntimeDocker, log), Logger: log,
	})
}}}

// drivers opens those that can serve a request for a runtime: all that the
// policy allows for auto, else the one that is named. One that cannot be opened
// is there as unavailable, with the reason.
func drivers(cfg *config.Loaded, log *slog.Logger, wanted faas.Runtime) []driver.Driver {
	var opened []driver.Driver
	for _, o := range openers() {
		if wanted != "" && wanted != faas.RuntimeAuto && wanted != o.runtime {
			continue
		}
		if len(cfg.Policy.Allowed) > 0 && !slices.Contains(cfg.Policy.Allowed, string(o.runtime)) {
			continue
		}
		d, err := o.open(cfg, log.With("runtime", o.runtime))
		if err != nil {
			d = unopened{o.runtime, err}
		}
		opened = append(opened, d)
	}
	return opened
}

// openers lists every runtime, those without a driver in this build too.
func openers() []opener {
	all := slices.Concat(native, portable)
	for _, name := range faas.Runtimes() {
		if !slices.ContainsFunc(all, func(o opener) bool { return o.runtime == name }) {
			all = append(all, opener{name, func(*config.Loaded, *slog.Logger) (driver.Driver, error) { return absent{name}, nil }})
		}
	}
	return all
}

func closeDrivers(opened []driver.Driver) error {
	var errs []error
	for _, d := range opened {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}
