package executor

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/internal/meta"
)

// stamped is a driver that counts its probes and can say what they depend on.
type stamped struct {
	*capable
	print  string
	probes atomic.Int32
	age    time.Duration
}

func (s *stamped) Fingerprint() string { return s.print }

func (s *stamped) Probe(context.Context) faas.Capabilities {
	s.probes.Add(1)
	c := s.caps
	c.ProbedAt = time.Now().Add(-s.age)
	return c
}

// answers opens the data directory as one process does, asks for the runtime
// and closes again.
func answers(t *testing.T, dir string, d driver.Driver) *faas.Capabilities {
	t.Helper()
	store, err := meta.Open(t.Context(), dir, meta.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	p := newProbes(ctx, []driver.Driver{d}, &probeCache{store: store, log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	p.begin()
	got, ok := p.known(ctx, p.entries[0])
	if !ok {
		t.Fatal("no answer")
	}
	p.tasks.Wait() // the answer is kept behind it
	stop()
	if err := store.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestProbesAreKeptBetweenProcesses(t *testing.T) {
	for name, test := range map[string]struct {
		first, second *stamped
		probes        int32 // of the second
	}{
		"the same":      {&stamped{capable: can(faas.RuntimeNative), print: "a"}, &stamped{capable: can(faas.RuntimeNative), print: "a"}, 0},
		"changed":       {&stamped{capable: can(faas.RuntimeNative), print: "a"}, &stamped{capable: can(faas.RuntimeNative), print: "b"}, 1},
		"old":           {&stamped{capable: can(faas.RuntimeNative), age: keptAnswerLasts}, &stamped{capable: can(faas.RuntimeNative)}, 1},
		"a refusal":     {&stamped{capable: cannot(faas.RuntimeNative)}, &stamped{capable: can(faas.RuntimeNative)}, 0},
		"an old one":    {&stamped{capable: cannot(faas.RuntimeNative), age: keptRefusalLasts}, &stamped{capable: can(faas.RuntimeNative)}, 1},
		"of tomorrow":   {&stamped{capable: can(faas.RuntimeNative), age: -time.Hour}, &stamped{capable: can(faas.RuntimeNative)}, 1},
		"another one's": {&stamped{capable: can(faas.RuntimeDocker)}, &stamped{capable: can(faas.RuntimeNative)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			first := answers(t, dir, test.first)
			second := answers(t, dir, test.second)
			if got := test.second.probes.Load(); got != test.probes {
				t.Errorf("probed %d times, want %d", got, test.probes)
			}
			if test.probes == 0 && (second.Available != first.Available || second.Reason != first.Reason || len(second.Features) != len(first.Features)) {
				t.Errorf("kept %+v, was %+v", second, first)
			}
		})
	}
}

// A driver that cannot say what its answer depends on is asked every time.
func TestProbesOfOthersAreNotKept(t *testing.T) {
	dir := t.TempDir()
	answers(t, dir, can(faas.RuntimeNative))
	if got := answers(t, dir, cannot(faas.RuntimeNative)); got.Available {
		t.Error("an answer was kept that nothing vouches for")
	}
}
