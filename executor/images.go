package executor

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

const (
	// imageAge is how long what a driver said of an image is taken as true. A
	// second keeps the driver off the path of busy images and a new import
	// is seen by the next command that a person types.
	imageAge  = time.Second
	maxImages = 1024
)

// images remembers what the drivers know of images. An image is resolved by
// one request at a time; while an old answer is renewed the others use it.
type images struct {
	drivers map[faas.Runtime]driver.Driver

	mu      sync.Mutex
	entries map[imageKey]*imageEntry
}

type imageKey struct {
	runtime faas.Runtime
	ref     string
}

type imageEntry struct {
	image    driver.Image
	known    bool
	at       time.Time
	err      error         // of the last attempt
	inflight chan struct{} // closed when the attempt under way ends; nil: none
}

func newImages(drivers map[faas.Runtime]driver.Driver) *images {
	return &images{drivers: drivers, entries: make(map[imageKey]*imageEntry)}
}

// resolve returns what a runtime knows of an image, which is at hand then.
func (c *images) resolve(ctx context.Context, runtime faas.Runtime, ref string) (driver.Image, error) {
	key := imageKey{runtime, ref}
	for {
		c.mu.Lock()
		entry := c.entry(key)
		switch {
		case entry.known && (time.Since(entry.at) < imageAge || entry.inflight != nil):
			image := entry.image
			c.mu.Unlock()
			return image, nil
		case entry.inflight == nil:
			entry.inflight = make(chan struct{})
			c.mu.Unlock()
			return c.renew(ctx, key, entry)
		}
		inflight := entry.inflight
		c.mu.Unlock()
		select {
		case <-inflight:
		case <-ctx.Done():
			return driver.Image{}, stopped(ctx, "resolve image")
		}
		c.mu.Lock()
		err := entry.err
		c.mu.Unlock()
		// An attempt that ended with its own request says nothing about ours.
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			return driver.Image{}, err
		}
	}
}

// entry returns the entry of a key; the caller holds mu.
func (c *images) entry(key imageKey) *imageEntry {
	entry := c.entries[key]
	if entry != nil {
		return entry
	}
	for old, other := range c.entries {
		if len(c.entries) < maxImages {
			break
		}
		if other.inflight == nil {
			delete(c.entries, old)
		}
	}
	entry = &imageEntry{}
	c.entries[key] = entry
	return entry
}

func (c *images) renew(ctx context.Context, key imageKey, entry *imageEntry) (driver.Image, error) {
	image, err := c.drivers[key.runtime].ResolveImage(ctx, key.ref, nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	entry.image, entry.err, entry.known, entry.at = image, err, err == nil, time.Now()
	close(entry.inflight)
	entry.inflight = nil
	if err != nil && c.entries[key] == entry {
		delete(c.entries, key)
	}
	return image, err
}

// forget makes the next resolve ask the driver.
func (c *images) forget(runtime faas.Runtime, ref string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if entry := c.entries[imageKey{runtime, ref}]; entry != nil {
		entry.at = time.Time{}
	}
}
