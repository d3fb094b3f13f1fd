package oci

import (
	"path/filepath"
	"testing"

	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest"
	"github.com/faas-platform/faas/image"
)

func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T, dir string) driver.Driver {
		shift, err := IDShift()
		if err != nil {
			t.Fatal(err)
		}
		images, err := image.Open(filepath.Join(dir, "images"), image.Options{UIDShift: shift, GIDShift: shift})
		if err != nil {
			t.Fatal(err)
		}
		n, err := NewNative(Options{Dir: filepath.Join(dir, "native"), Images: images})
		if err != nil {
			t.Fatal(err)
		}
		return n
	})
}
