package oci

import (
	"path/filepath"
	"testing"

	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest"
	"github.com/faas-platform/faas/image"
)

func openGVisor(t *testing.T, dir string) *GVisor {
	t.Helper()
	shift, err := IDShift()
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.Open(filepath.Join(dir, "images"), image.Options{UIDShift: shift, GIDShift: shift})
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGVisor(GVisorOptions{Dir: filepath.Join(dir, "gvisor"), Images: images})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGVisorConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T, dir string) driver.Driver { return openGVisor(t, dir) })
}
