package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/oci"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/image"
)

// imageName is what the common root file system is called in every store.
const imageName = "bench"

// native is the driver by itself: no daemon, no pool, no HTTP.
type native struct {
	driver *oci.Native
	dir    string
}

// openNative opens a driver with one launcher on a directory of its own, with
// the common image in its store.
func (b *bench) openNative(ctx context.Context, name, launcher string) (*native, error) {
	dir := filepath.Join(b.dir, name)
	shift, err := oci.IDShift()
	if err != nil {
		return nil, err
	}
	store, err := image.Open(filepath.Join(dir, "images"), image.Options{UIDShift: shift, GIDShift: shift})
	if err != nil {
		return nil, err
	}
	if _, err := store.ImportPath(ctx, b.rootfsTar, imageName); err != nil {
		return nil, err
	}
	opened, err := oci.NewNative(oci.Options{Dir: filepath.Join(dir, "native"), Images: store, Launcher: launcher})
	if err != nil {
		return nil, err
	}
	return &native{driver: opened, dir: filepath.Join(dir, "native")}, nil
}

// spec is what every sandbox of the benchmarks is asked to be.
func spec() faas.Spec {
	return faas.Spec{
		ID: faas.NewID(faas.PrefixSandbox), Project: faas.DefaultProject, Image: imageName,
		Resources: faas.Resources{CPUCores: 1, MemoryMB: 512, DiskMB: 256, PIDs: 256},
		Network:   faas.NetworkPolicy{Mode: faas.NetworkNone},
	}
}

// create makes a sandbox and runs `true` in it.
func (n *native) create(ctx context.Context) (driver.Sandbox, error) {
	made, err := n.driver.Create(ctx, spec())
	if err != nil {
		return nil, err
	}
	channel := made.Channel()
	client := guest.NewClient(made.Dial, guest.Options{Secret: channel.Secret, Multiplex: channel.Multiplex})
	defer client.Close()
	exit, err := client.Run(ctx, guest.Command{Args: []string{"true"}}, nil, io.Discard, io.Discard)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("true ended with %d", exit.Code)
	}
	if err != nil {
		return nil, errors.Join(err, made.Destroy(ctx))
	}
	return made, nil
}
