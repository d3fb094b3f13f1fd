package oci

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/network"
)

func openGVisor(t testing.TB, dir string) *GVisor {
	t.Helper()
	shift, err := IDShift()
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.Open(filepath.Join(dir, "images"), image.Options{UIDShift: shift, GIDShift: shift})
	if err != nil {
		t.Fatal(err)
	}
	opts := GVisorOptions{Dir: filepath.Join(dir, "gvisor"), Images: images}
	opts.Network, opts.NetworkError = network.New(network.Options{Installation: "test" + strings.ReplaceAll(opts.Dir, "/", "-")})
	g, err := NewGVisor(opts)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGVisorConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T, dir string) driver.Driver { return openGVisor(t, dir) })
}

// BenchmarkGVisor measures the three steps of one cold execution in the host
// image, each from its call to its return.
func BenchmarkGVisor(b *testing.B) {
	g := gvisorHere(b)
	var create, run, destroy time.Duration
	for b.Loop() {
		spec := probeSpec()
		spec.Resources.MemoryMB = 256
		start := time.Now()
		s, err := g.Create(b.Context(), spec)
		if err != nil {
			b.Fatal(err)
		}
		create += time.Since(start)
		client := guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret, Multiplex: true})
		start = time.Now()
		if _, err := client.Run(b.Context(), guest.Command{Args: []string{"true"}}, nil, io.Discard, io.Discard); err != nil {
			b.Fatal(err)
		}
		run += time.Since(start)
		client.Close()
		start = time.Now()
		if err := s.Destroy(b.Context()); err != nil {
			b.Fatal(err)
		}
		destroy += time.Since(start)
	}
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(b.N) }
	b.ReportMetric(per(create), "create-ms")
	b.ReportMetric(per(run), "exec-ms")
	b.ReportMetric(per(destroy), "destroy-ms")
}

// TestGVisorStats sees that what is written inside is told as disk.
func TestGVisorStats(t *testing.T) {
	_, s := createGVisor(t)
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret, Multiplex: true})
	defer client.Close()
	if _, err := client.WriteFile(t.Context(), "/data", bytes.NewReader(make([]byte, 4<<20)), guest.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	stats, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if stats.DiskBytes < 4<<20 || stats.PIDs < 1 {
		t.Errorf("after 4 MiB were written: %+v", stats)
	}
	if list, err := client.List(t.Context(), "/tmp"); err != nil || len(list) != 0 {
		t.Errorf("/tmp of a new sandbox: %v, %v", list, err)
	}
}

// TestGVisorHandover has two drivers dial the same sandbox in turn.
func TestGVisorHandover(t *testing.T) {
	g, s := createGVisor(t)
	other := openGVisor(t, filepath.Dir(g.opts.Dir))
	defer other.Close()
	again, err := other.Recover(t.Context(), s.Handle())
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		for _, one := range []driver.Sandbox{s, again} {
			client := guest.NewClient(one.Dial, guest.Options{Secret: one.Channel().Secret, Multiplex: true})
			if _, err := client.Hello(t.Context()); err != nil {
				t.Fatal(err)
			}
			client.Close()
		}
	}
}

// gvisorHere opens a driver for the time of a test.
func gvisorHere(t testing.TB) *GVisor {
	t.Helper()
	dir, err := os.MkdirTemp("", "faas-") // short: sockets are below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	g := openGVisor(t, dir)
	t.Cleanup(func() { g.Close() })
	if caps := g.Probe(t.Context()); !caps.Available {
		drivertest.NotHere(t, caps)
	}
	return g
}

func createGVisor(t *testing.T) (*GVisor, driver.Sandbox) {
	t.Helper()
	g := gvisorHere(t)
	s, err := g.Create(t.Context(), probeSpec())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return g, s
}
