package oci

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

// BenchmarkGVisorSnapshot measures a sandbox with a Python of some 100 MB where
// it is installed, each step from its call to its return, beside the runsc
// program doing the same to the same sandbox. The figures are medians.
func BenchmarkGVisorSnapshot(b *testing.B) {
	for _, size := range []string{"small", "python"} {
		b.Run(size, func(b *testing.B) {
			g := gvisorHere(b)
			x := newGVisorBox(b, g, func(s *faas.Spec) { s.Resources.MemoryMB = 1024 })
			if size == "python" {
				if _, err := exec.LookPath("python3"); err != nil {
					b.Skip("SKIP gvisor python: python3 is not installed")
				}
				x.sh(`setsid python3 -c 'import time
d = {i: str(i) * 4 for i in range(800000)}
open("/ready", "w").close()
while True: time.sleep(0.01)' </dev/null >/dev/null 2>&1 & while [ ! -e /ready ]; do sleep 0.05; done`)
			}
			m := measurements{}
			for b.Loop() {
				x.benchSnapshot(g, m)
			}
			for step, all := range m {
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, step+"-ms")
				b.ReportMetric(float64(all[0].Microseconds())/1000, step+"-least-ms")
			}
		})
	}
}

type measurements map[string][]time.Duration

func (m measurements) time(t testing.TB, step string, f func() error) {
	t.Helper()
	start := time.Now()
	if err := f(); err != nil {
		t.Fatal(step, err)
	}
	m[step] = append(m[step], time.Since(start))
}

func (b *gvisorBox) benchSnapshot(g *GVisor, m measurements) {
	from, pause := b.save(faas.SnapshotFull)
	m["pause"] = append(m["pause"], pause)
	bare := b.t.TempDir()
	b.channel.suspend()
	m.time(b.t, "runsc-checkpoint", func() error {
		args := append(g.flags(b.gvisorSandbox), "checkpoint", "--leave-running", "--image-path", bare, containerName)
		return exec.Command(g.program, args...).Run()
	})
	if err := b.channel.resume(); err != nil {
		b.t.Fatal(err)
	}
	spec := b.spec()
	spec.ID = faas.NewID("sbx")
	b.benchRestore(g, m, "restore", from, spec)
	spec.ID = faas.NewID("sbx")
	if _, err := g.RestoreAhead(b.t.Context(), from, spec); err != nil {
		b.t.Fatal(err)
	}
	b.benchRestore(g, m, "restore-ahead", from, spec)
	b.bareRestore(g, m, from)
}

// benchRestore measures up to the end of the first command.
func (b *gvisorBox) benchRestore(g *GVisor, m measurements, step string, from driver.State, spec faas.Spec) {
	ctx := b.t.Context()
	var s driver.Sandbox
	m.time(b.t, step, func() (err error) {
		s, err = g.Restore(ctx, from, spec, func(context.Context, driver.Sandbox) error { return nil })
		if err != nil {
			return err
		}
		client := guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret, Multiplex: true})
		defer client.Close()
		_, err = client.Run(ctx, guest.Command{Args: []string{"true"}}, nil, io.Discard, io.Discard)
		return err
	})
	if stats, err := s.Stats(ctx); err == nil {
		b.t.Logf("%s: %d MiB", step, stats.MemoryBytes>>20)
	}
	if err := s.Destroy(ctx); err != nil {
		b.t.Fatal(err)
	}
}

// bareRestore has the runsc program restore what the driver would, with
// everything that it needs made before, up to its return.
func (b *gvisorBox) bareRestore(g *GVisor, m measurements, from driver.State) {
	ctx := b.t.Context()
	data, err := readGVisorSaved(from)
	if err != nil {
		b.t.Fatal(err)
	}
	spec := b.spec()
	spec.ID = faas.NewID("sbx")
	r := savedRecord(from, data, spec)
	if err := g.work.Create(r); err != nil {
		b.t.Fatal(err)
	}
	s := g.newSandbox(r)
	root, err := g.images.Acquire(ctx, spec.Image)
	if err == nil {
		limits := gvisorLimits(spec.Resources)
		limits.CPUCores = 0
		err = errors.Join(g.furnish(s, nil, false), s.group.Create(limits))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	m.time(b.t, "runsc-restore", func() error {
		return g.start(ctx, s, beginning{root: root, agent: g.agent.Dir, memory: from.Memory})
	})
	if err := errors.Join(s.Destroy(ctx), root.Release()); err != nil {
		b.t.Fatal(err)
	}
}
