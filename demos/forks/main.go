// Command forks shows what a fork of a running program is worth:
//
//	go run ./demos/forks        (as root on Linux, with python3 and CRIU)
//
// A Python program with a dictionary of 100 MB and an open file counts; ten
// forks of it and the original go on, each from the same number. A web server
// that took its time to fill a cache is forked; every fork answers from the warm
// cache, behind a port of its own.
//
// It exits with 1 when one of that does not hold.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/oci"
	"github.com/faas-platform/faas/executor"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/image"
)

const copies = 10

//go:embed counter.py
var counter []byte

//go:embed server.py
var server []byte

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "forks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	d, err := open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.countOn(ctx); err != nil {
		return err
	}
	return d.serveOn(ctx)
}

// demo is an installation of its own.
type demo struct {
	*executor.Executor
	dir  string
	made []string // instances
}

// open opens the library on the native runtime. gVisor would do as well: its
// forks share no memory.
func open(ctx context.Context) (*demo, error) {
	dir, err := os.MkdirTemp("", "forks-")
	if err != nil {
		return nil, err
	}
	d := &demo{dir: dir}
	shift, err := oci.IDShift()
	if err != nil {
		return nil, err
	}
	images, err := image.Open(filepath.Join(dir, "images"), image.Options{UIDShift: shift, GIDShift: shift})
	if err != nil {
		return nil, err
	}
	native, err := oci.NewNative(oci.Options{Dir: filepath.Join(dir, "native"), Images: images})
	if err != nil {
		return nil, err
	}
	d.Executor, err = executor.New(ctx, executor.Options{DataDir: filepath.Join(dir, "data"), Drivers: []driver.Driver{native}})
	if err != nil {
		return nil, err
	}
	if full := d.Runtimes(ctx, false)[0].Feature(faas.FeatureSnapshotFull); !full.Available {
		return nil, errors.Join(fmt.Errorf("memory cannot be saved here: %s: %s", full.Reason, full.Remedy), d.close())
	}
	return d, nil
}

func (d *demo) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for _, id := range d.made {
		errs = append(errs, d.DeleteInstance(ctx, "", id))
	}
	return errors.Join(append(errs, d.Close(ctx), os.RemoveAll(d.dir))...)
}

// start runs a Python program in a new instance until it says that it is ready.
func (d *demo) start(ctx context.Context, program []byte) (string, error) {
	x, err := d.CreateInstance(ctx, faas.InstanceRequest{Resources: faas.Resources{CPUCores: 1, MemoryMB: 512, DiskMB: 64, PIDs: 64}})
	if err != nil {
		return "", err
	}
	d.made = append(d.made, x.ID)
	err = d.Guest(ctx, "", x.ID, func(c *guest.Client) error {
		_, err := c.WriteFile(ctx, "/tmp/program.py", bytes.NewReader(program), guest.WriteOptions{})
		return err
	})
	if err != nil {
		return "", err
	}
	_, err = d.sh(ctx, x.ID, `setsid python3 /tmp/program.py </dev/null >/tmp/log 2>&1 &
		while [ ! -e /tmp/ready ]; do kill -0 $! || { cat /tmp/log >&2; exit 1; }; sleep 0.05; done`)
	return x.ID, err
}

func (d *demo) sh(ctx context.Context, id, script string) (string, error) {
	got, err := d.ExecInstance(ctx, "", id, faas.Request{Command: []string{"sh", "-c", script}, Timeout: time.Minute})
	if err != nil {
		return "", err
	}
	if got.ExitCode != 0 {
		return "", fmt.Errorf("in %s: exit code %d: %s", id, got.ExitCode, got.Stderr)
	}
	return strings.TrimSpace(string(got.Stdout)), nil
}

// fork makes ten copies and returns them.
func (d *demo) fork(ctx context.Context, from string) ([]string, error) {
	begun := time.Now()
	forks, err := d.Fork(ctx, faas.ForkRequest{From: from, Count: copies})
	if err != nil {
		return nil, err
	}
	took := time.Since(begun)
	var ids []string
	for _, f := range forks {
		if f.Err != nil {
			return nil, f.Err
		}
		ids = append(ids, f.Instance.ID)
	}
	d.made = append(d.made, ids...)
	fmt.Printf("%d forks in %v\n", len(ids), took.Round(time.Millisecond))
	return ids, nil
}
