package imagetest

import (
	"context"
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/faas-platform/faas"
)

// TB is what these functions use of testing.TB.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Busybox is BuildBusybox for a test: it skips the test, saying why, on a
// machine without busybox.
func Busybox(t TB) v1.Image { t.Helper(); return built(t, BuildBusybox) }

// Python is BuildPython for a test, as Busybox.
func Python(t TB) v1.Image { t.Helper(); return built(t, BuildPython) }

// Node is BuildNode for a test, as Busybox.
func Node(t TB) v1.Image { t.Helper(); return built(t, BuildNode) }

func built(t TB, build func(context.Context) (v1.Image, error)) v1.Image {
	t.Helper()
	img, err := build(t.Context())
	if errors.Is(err, faas.ErrCapabilityUnavailable) {
		t.Skipf("test image: %v", err)
	}
	if err != nil {
		t.Fatalf("test image: %v", err)
	}
	return img
}

// Registry starts a registry for the duration of a test.
func Registry(t TB, opts RegistryOptions) *RegistryServer {
	t.Helper()
	r, err := StartRegistry(opts)
	if err != nil {
		t.Fatalf("test registry: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("test registry: %v", err)
		}
	})
	return r
}

// Pushed stores an image in a registry and returns its reference.
func (r *RegistryServer) Pushed(t TB, tag string, img v1.Image) string {
	t.Helper()
	ref, err := r.Push(t.Context(), tag, img)
	if err != nil {
		t.Fatalf("test registry: %v", err)
	}
	return ref
}
