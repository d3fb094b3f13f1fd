package siblings

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/docker"
	"github.com/faas-platform/faas/driver/drivertest"
	"github.com/faas-platform/faas/driver/oci"
	"github.com/faas-platform/faas/executor"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/network"
)

// runtimes are those that save and restore, each with how it is opened.
var runtimes = []struct {
	name faas.Runtime
	open func(t *testing.T, dir string, secrets *secrets) (driver.Driver, error)
}{
	{faas.RuntimeNative, func(t *testing.T, dir string, secrets *secrets) (driver.Driver, error) {
		opts := oci.Options{Dir: filepath.Join(dir, "native"), Images: images(t, dir)}
		opts.Network, opts.NetworkError = network.New(network.Options{Installation: "siblings-native" + strings.ReplaceAll(dir, "/", "-")})
		d, err := oci.NewNative(opts)
		return nativeWithSecrets{d, secrets}, err
	}},
	{faas.RuntimeGVisor, func(t *testing.T, dir string, secrets *secrets) (driver.Driver, error) {
		opts := oci.GVisorOptions{Dir: filepath.Join(dir, "gvisor"), Images: images(t, dir)}
		opts.Network, opts.NetworkError = network.New(network.Options{Installation: "siblings-gvisor" + strings.ReplaceAll(dir, "/", "-")})
		d, err := oci.NewGVisor(opts)
		return gvisorWithSecrets{d, secrets}, err
	}},
	{faas.RuntimeDocker, func(t *testing.T, dir string, secrets *secrets) (driver.Driver, error) {
		d, err := docker.New(docker.Options{Dir: filepath.Join(dir, "docker")})
		if err != nil {
			return nil, err
		}
		return dockerWithSecrets{d, secrets}, nil
	}},
}

func images(t *testing.T, dir string) *image.Store {
	t.Helper()
	shift, err := oci.IDShift()
	if err != nil {
		t.Fatal(err)
	}
	store, err := image.Open(filepath.Join(dir, "images"), image.Options{UIDShift: shift, GIDShift: shift})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// secrets are those of the channels to the restored sandboxes, by their ids.
type secrets struct {
	mu sync.Mutex
	of map[string]string
}

func (s *secrets) keep(made driver.Sandbox, err error) (driver.Sandbox, error) {
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.of[made.ID()] = string(made.Channel().Secret)
	}
	return made, err
}

// all lists the secrets.
func (s *secrets) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.of))
}

// Drivers that keep the secrets of what they make, and are themselves in
// everything else.
type (
	nativeWithSecrets struct {
		*oci.Native
		kept *secrets
	}
	gvisorWithSecrets struct {
		*oci.GVisor
		kept *secrets
	}
	dockerWithSecrets struct {
		*docker.Driver
		kept *secrets
	}
)

type prepare = func(context.Context, driver.Sandbox) error

func (d nativeWithSecrets) Restore(ctx context.Context, from driver.State, spec faas.Spec, p prepare) (driver.Sandbox, error) {
	return d.kept.keep(d.Native.Restore(ctx, from, spec, p))
}

func (d gvisorWithSecrets) Restore(ctx context.Context, from driver.State, spec faas.Spec, p prepare) (driver.Sandbox, error) {
	return d.kept.keep(d.GVisor.Restore(ctx, from, spec, p))
}

func (d dockerWithSecrets) Restore(ctx context.Context, from driver.State, spec faas.Spec, p prepare) (driver.Sandbox, error) {
	return d.kept.keep(d.Driver.Restore(ctx, from, spec, p))
}

// world is an executor with one runtime.
type world struct {
	*executor.Executor
	t       *testing.T
	caps    faas.Capabilities
	secrets *secrets
	dir     string
	driver  driver.Driver
	made    []string // instances
}

// open opens an executor on a runtime that can save and restore; the test is
// skipped where it cannot.
func open(t *testing.T, name faas.Runtime) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP siblings: saving and restoring needs root")
	}
	dir, err := os.MkdirTemp("", "faas-") // sockets want a short path
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, dir: dir, secrets: &secrets{of: map[string]string{}}}
	w.start(name)
	t.Cleanup(func() {
		if purger, ok := w.driver.(interface{ Purge(context.Context) error }); ok {
			defer purger.Purge(context.Background()) //nolint:errcheck // where there is no engine there is nothing
		}
		w.deleteAll()
		if err := w.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	w.caps = w.Runtimes(t.Context(), false)[0]
	if !w.caps.Available {
		drivertest.NotHere(t, w.caps)
	}
	if fs := w.caps.Feature(faas.FeatureSnapshotFS); !fs.Available {
		t.Skipf("SKIP %s siblings: %s", name, fs.Reason)
	}
	return w
}

// start starts the executor on the world's directory.
func (w *world) start(name faas.Runtime) {
	w.t.Helper()
	for _, r := range runtimes {
		if r.name != name {
			continue
		}
		var err error
		if w.driver, err = r.open(w.t, w.dir, w.secrets); err != nil {
			w.t.Fatal(err)
		}
	}
	var err error
	w.Executor, err = executor.New(w.t.Context(), executor.Options{DataDir: filepath.Join(w.dir, "data"), Drivers: []driver.Driver{w.driver}})
	if err != nil {
		w.t.Fatal(errors.Join(err, w.driver.Close()))
	}
}

// restart ends the executor and starts another, as a daemon that is started
// again does.
func (w *world) restart() {
	w.t.Helper()
	name := w.driver.Name()
	if err := w.Close(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.start(name)
}
