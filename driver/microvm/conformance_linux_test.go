package microvm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/image/imagetest"
)

// envKernel names the kernel of the tests; scripts/setup-test-host sets it, and
// it is the daemon's own setting besides.
const envKernel = "FAAS_MICROVM_KERNEL"

// shift is the tests' user who is nobody.
const shift = 1879048192

// What hands the images on to the processes that the suite starts.
const (
	envImages = "FAAS_TEST_MICROVM_IMAGES"
	envImage  = "FAAS_TEST_MICROVM_IMAGE"
)

func TestConformance(t *testing.T) {
	dir := os.Getenv(envImages)
	if dir == "" { // not a process that the suite started
		var err error
		if dir, err = os.MkdirTemp("", "faas-images-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv(envImages, dir)
		ref := imagetest.Registry(t, imagetest.RegistryOptions{}).Pushed(t, "test/busybox:1", imagetest.Busybox(t))
		t.Setenv(envImage, ref)
		if _, err := openImages(t, dir).Pull(t.Context(), ref, image.PullOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	drivertest.Run(t, func(t *testing.T, state string) driver.Driver {
		d, err := NewQEMU(Options{Dir: state, Images: openImages(t, dir), Shift: shift, Kernel: os.Getenv(envKernel)})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}, drivertest.WithImage(os.Getenv(envImage)))
}

func openImages(t *testing.T, dir string) *image.Store {
	t.Helper()
	store, err := image.Open(filepath.Join(dir, "store"), image.Options{UIDShift: shift, GIDShift: shift})
	if err != nil {
		t.Fatal(err)
	}
	return store
}
