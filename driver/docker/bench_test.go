package docker

import (
	"io"
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

// ways are the two ways to an agent.
var ways = []struct {
	name   string
	remote bool
}{{"direct", false}, {"shim", true}}

// BenchmarkCreate measures Create to an agent that answers, image at hand.
func BenchmarkCreate(b *testing.B) {
	for _, way := range ways {
		b.Run(way.name, func(b *testing.B) {
			d, spec := benchDriver(b, way.remote)
			for b.Loop() {
				s := benchSandbox(b, d, spec)
				b.StopTimer()
				destroy(b, s)
				b.StartTimer()
			}
		})
	}
}

// BenchmarkDestroy measures the removal of an idle sandbox.
func BenchmarkDestroy(b *testing.B) {
	d, spec := benchDriver(b, false)
	for b.Loop() {
		b.StopTimer()
		s := benchSandbox(b, d, spec)
		b.StartTimer()
		destroy(b, s)
	}
}

// BenchmarkExec measures one command in a running sandbox over a client that
// is connected: what a warm pool pays.
func BenchmarkExec(b *testing.B) {
	for _, way := range ways {
		b.Run(way.name, func(b *testing.B) {
			d, spec := benchDriver(b, way.remote)
			s := benchSandbox(b, d, spec)
			defer destroy(b, s)
			c := guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret, Multiplex: s.Channel().Multiplex})
			defer c.Close() //nolint:errcheck // the sandbox goes away
			run := func() {
				exit, err := c.Run(b.Context(), guest.Command{Args: []string{agentPath, "version"}}, nil, io.Discard, io.Discard)
				if err != nil || exit.Code != 0 {
					b.Fatal(exit, err)
				}
			}
			run() // connects
			for b.Loop() {
				run()
			}
		})
	}
}

// BenchmarkStats measures the reading of a sandbox's consumption.
func BenchmarkStats(b *testing.B) {
	for _, way := range ways {
		b.Run(way.name, func(b *testing.B) {
			d, spec := benchDriver(b, way.remote)
			s := benchSandbox(b, d, spec)
			defer destroy(b, s)
			for b.Loop() {
				if _, err := s.Stats(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchDriver(b *testing.B, remote bool) (*Driver, faas.Spec) {
	b.Helper()
	d, err := New(Options{Dir: b.TempDir(), ForceRemote: remote})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { purge(b, d); d.Close() }) //nolint:errcheck // nothing is under way
	base, err := d.ensureBase(b.Context())
	if err != nil {
		b.Skipf("SKIP docker benchmark: %v", err)
	}
	return d, faas.Spec{Project: faas.DefaultProject, Image: base, Resources: faas.Resources{CPUCores: 1, MemoryMB: 128, PIDs: 128}}
}

func benchSandbox(b *testing.B, d *Driver, spec faas.Spec) driver.Sandbox {
	b.Helper()
	spec.ID = faas.NewID(faas.PrefixSandbox)
	s, err := d.Create(b.Context(), spec)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func destroy(b *testing.B, s driver.Sandbox) {
	b.Helper()
	if err := s.Destroy(b.Context()); err != nil {
		b.Error(err)
	}
}
