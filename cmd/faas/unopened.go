package main

import (
	"context"
	"errors"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// unopened stands for a driver that could not be opened, so that the others
// work and doctor tells the reason.
type unopened struct {
	runtime faas.Runtime
	err     error
}

// Name implements driver.Driver.
func (u unopened) Name() faas.Runtime { return u.runtime }

// Probe implements driver.Driver.
func (u unopened) Probe(context.Context) faas.Capabilities {
	c := faas.Capabilities{Runtime: u.runtime, Reason: u.err.Error(), Features: []faas.Capability{}, ProbedAt: time.Now().UTC()}
	var e *faas.Error
	if errors.As(u.err, &e) {
		c.Remedy = e.Remedy
	}
	return c
}

func (u unopened) unavailable() error { return faas.Unavailable(u.err.Error(), "") }

// ResolveImage implements driver.Driver.
func (u unopened) ResolveImage(context.Context, string, driver.ImageProgress) (driver.Image, error) {
	return driver.Image{}, u.unavailable()
}

// Create implements driver.Driver.
func (u unopened) Create(context.Context, faas.Spec) (driver.Sandbox, error) {
	return nil, u.unavailable()
}

// Recover implements driver.Driver.
func (u unopened) Recover(context.Context, driver.Handle) (driver.Sandbox, error) {
	return nil, u.unavailable()
}

// Sweep implements driver.Driver.
func (u unopened) Sweep(context.Context, func(string) bool) ([]string, error) {
	return nil, u.unavailable()
}

// Close implements driver.Driver.
func (u unopened) Close() error { return nil }
