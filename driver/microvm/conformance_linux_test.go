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

// envKernel names the kernel of the tests; scripts/setup-test-host sets it.
const envKernel = "FAAS_TEST_KERNEL"

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
	}, drivertest.WithImage(os.Getenv(envImage)), drivertest.Only(selection()...))
}

// envAll runs every check. Each boots a machine of its own, in software where
// there is no KVM, which takes seconds: usually a selection is run that has one
// of each kind.
const envAll = "FAAS_TEST_MACHINES"

func selection() []string {
	if os.Getenv(envAll) != "" {
		return nil
	}
	return []string{
		"probe/*", "exec/streams", "exec/exit-codes", "exec/user", "terminal/resize", "files/write-and-read", "tree/round-trip",
		"ports/tcp", "limits/memory", "limits/pids", "limits/disk", "isolation/no-privileges", "isolation/devices",
		"lifecycle/pause-and-resume", "lifecycle/agent-ends", "recovery/destroy-recovered", "recovery/sweep",
		"hostile/kills-everything", "snapshot/files", "snapshot/memory", "snapshot/stopped-until-prepared", "snapshot/failed-restore",
	}
}

func openImages(t *testing.T, dir string) *image.Store {
	t.Helper()
	store, err := image.Open(filepath.Join(dir, "store"), image.Options{UIDShift: shift, GIDShift: shift})
	if err != nil {
		t.Fatal(err)
	}
	return store
}
