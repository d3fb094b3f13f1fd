package main

import (
	"context"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// absent stands for a runtime that this build has no driver for, so that
// whoever lists the runtimes is told of all of them.
type absent struct{ runtime faas.Runtime }

// Name implements driver.Driver.
func (a absent) Name() faas.Runtime { return a.runtime }

// Probe implements driver.Driver.
func (a absent) Probe(ctx context.Context) faas.Capabilities {
	started := time.Now()
	c := faas.Capabilities{Runtime: a.runtime, ProbedAt: started.UTC()}
	c.Reason, c.Remedy = a.why(ctx)
	for _, f := range faas.Features() {
		c.Features = append(c.Features, faas.Capability{Feature: f, Reason: c.Reason, Remedy: c.Remedy})
	}
	c.ProbeMS = float64(time.Since(started).Microseconds()) / 1000
	return c
}

// why says what is missing besides a driver.
func (a absent) why(ctx context.Context) (reason, remedy string) {
	switch a.runtime {
	case faas.RuntimeFirecracker, faas.RuntimeQEMU:
		return noDriver + "; " + virtualisation(ctx), noDriverRemedy
	default:
		return needsLinux, needsLinuxRemedy
	}
}

// What is said of runtimes that are named and not there yet.
const (
	noDriver       = "there is no driver for it in this build"
	noDriverRemedy = "use another runtime"
)

// What is said of runtimes that isolate with the machine's own kernel, where
// that is not Linux.
const (
	needsLinux       = "it isolates with Linux's own means, and this system has another kernel"
	needsLinuxRemedy = "use the docker runtime here, or run faas on a Linux machine"
)

func (a absent) unavailable() error {
	reason, remedy := a.why(context.Background())
	return faas.Unavailable(reason, remedy)
}

// ResolveImage implements driver.Driver.
func (a absent) ResolveImage(context.Context, string, driver.ImageProgress) (driver.Image, error) {
	return driver.Image{}, a.unavailable()
}

// Create implements driver.Driver.
func (a absent) Create(context.Context, faas.Spec) (driver.Sandbox, error) {
	return nil, a.unavailable()
}

// Recover implements driver.Driver.
func (a absent) Recover(context.Context, driver.Handle) (driver.Sandbox, error) {
	return nil, a.unavailable()
}

// Sweep implements driver.Driver: what cannot be made leaves nothing.
func (a absent) Sweep(context.Context, func(string) bool) ([]string, error) { return nil, nil }

// Close implements driver.Driver.
func (a absent) Close() error { return nil }
