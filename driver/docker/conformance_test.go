package docker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest"
	"github.com/faas-platform/faas/image/imagetest"
)

// TestConformance runs the suite on the engine of the environment, by the way
// past the engine where there is one, with the host image where there is one.
func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T, dir string) driver.Driver { return openAt(t, dir, false) },
		drivertest.WithLeftovers(containersOf))
}

// TestConformanceRemote runs it by the way that works with every engine, with
// an image that the engine pulls.
func TestConformanceRemote(t *testing.T) {
	needEngine(t)
	ref := os.Getenv(envImage)
	if ref == "" { // not a process that the suite started
		ref = pushed(t)
		t.Setenv(envImage, ref)
		d := openAt(t, t.TempDir(), true)
		defer d.Close() //nolint:errcheck // checked by the suite's own
		if _, err := d.ResolveImage(t.Context(), ref, nil); err != nil {
			t.Fatal(err)
		}
	}
	drivertest.Run(t, func(t *testing.T, dir string) driver.Driver { return openAt(t, dir, true) },
		drivertest.WithLeftovers(containersOf), drivertest.WithImage(ref),
		drivertest.WithoutCheck("hostile/kills-everything", "root inside can stop the shim, and so its own sandbox's channel; see the package comment"))
}

// envImage hands the image on to the processes that the suite starts.
const envImage = "FAAS_TEST_DOCKER_IMAGE"

// openAt opens a driver that the suite closes. What the installation leaves in
// the engine goes at the test's end.
func openAt(t *testing.T, dir string, remote bool) *Driver {
	t.Helper()
	d, err := New(Options{Dir: dir, ForceRemote: remote})
	if err != nil {
		t.Fatal(err)
	}
	if _, child := os.LookupEnv("FAAS_DRIVERTEST_CHILD"); !child {
		t.Cleanup(func() { purge(t, d) })
	}
	return d
}

// purge takes what an installation has in the engine away, where there is one.
func purge(t testing.TB, d *Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.Purge(ctx); err != nil && !errors.Is(err, faas.ErrUnavailable) {
		t.Errorf("purge: %v", err)
	}
	_ = d.engine.close() // opened again by Purge
}

// open returns a driver on a directory of its own.
func open(t *testing.T, opts Options) *Driver {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	d, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		purge(t, d)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// needEngine skips a test where no engine answers, or fails it where one is
// required.
func needEngine(t *testing.T) {
	t.Helper()
	_, err := openConnection(t.Context(), "", "")
	switch {
	case err == nil:
	case slices.Contains(strings.Split(os.Getenv("FAAS_REQUIRE_RUNTIMES"), ","), string(faas.RuntimeDocker)):
		t.Fatalf("the required docker engine is not there: %v", err)
	default:
		t.Skipf("SKIP docker %s: %v", t.Name(), err)
	}
}

// pushed puts the busybox image into a registry on loopback, and takes it out
// of the engine's store at the test's end.
func pushed(t *testing.T) string {
	t.Helper()
	ref := imagetest.Registry(t, imagetest.RegistryOptions{}).Pushed(t, "test/busybox:1", imagetest.Busybox(t))
	t.Cleanup(func() { removeImage(t, ref) })
	return ref
}

func removeImage(t *testing.T, ref string) {
	t.Helper()
	e := newEngine("", "")
	defer e.close() //nolint:errcheck // nothing is under way
	err := e.call(context.Background(), askTimeout, func(ctx context.Context, api *client.Client) error {
		_, err := api.ImageRemove(ctx, ref, client.ImageRemoveOptions{Force: true})
		return err
	})
	if err != nil && !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("remove the test image: %v", err)
	}
}

// containersOf lists what the engine still has of a sandbox.
func containersOf(ctx context.Context, id string) ([]string, error) {
	e := newEngine("", "")
	defer e.close() //nolint:errcheck // nothing is under way
	var left []string
	err := e.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.ContainerList(ctx, client.ContainerListOptions{
			All: true, Filters: make(client.Filters).Add("label", LabelSandbox+"="+id),
		})
		for _, c := range res.Items {
			left = append(left, "container "+c.ID[:12]+" "+c.Status)
		}
		return err
	})
	return left, err
}

// TestPull has the engine fetch an image that it does not have, with progress
// and with the credentials of the docker configuration.
func TestPull(t *testing.T) {
	needEngine(t)
	registry := imagetest.Registry(t, imagetest.RegistryOptions{Username: "someone", Password: "secret"})
	ref := registry.Pushed(t, "test/busybox:private", imagetest.Busybox(t))
	t.Cleanup(func() { removeImage(t, ref) })
	if os.Getenv("DOCKER_HOST") == "" {
		t.Log("the engine is found by the docker configuration, which this test replaces")
	}
	host := currentHost(t)
	config := t.TempDir()
	t.Setenv("DOCKER_CONFIG", config)
	d := open(t, Options{Host: host})

	if _, err := d.ResolveImage(t.Context(), ref, nil); !errors.Is(err, faas.ErrPermissionDenied) {
		t.Errorf("without credentials: %v", err)
	}
	writeText(t, filepath.Join(config, "config.json"),
		`{"auths":{"`+registry.Host+`":{"username":"someone","password":"secret"}}}`)
	steps := map[string]bool{}
	img, err := d.ResolveImage(t.Context(), ref, func(step string, done, total int64) {
		if done < 0 || total < 0 {
			t.Errorf("progress %q %d of %d", step, done, total)
		}
		steps[step] = true
	})
	if err != nil {
		t.Fatal(err)
	}
	if img.Ref != ref || img.Digest == "" || len(img.Config.Env) == 0 || len(steps) < 2 {
		t.Errorf("image %+v after the steps %v", img, steps)
	}
	if _, err := d.ResolveImage(t.Context(), registry.Host+"/test/busybox:none", nil); !errors.Is(err, faas.ErrInvalidArgument) {
		t.Errorf("a tag that is not there: %v", err)
	}
}

// currentHost is the address of the environment's engine.
func currentHost(t *testing.T) string {
	t.Helper()
	ep, err := resolveEndpoint("", "")
	if err != nil {
		t.Fatal(err)
	}
	return ep.host
}
