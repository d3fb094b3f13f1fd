package soak

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

const (
	usualLength = 30 * time.Second
	probeLength = 5 * time.Second // in which the sustained rate is measured
	senders     = 8
	shareOfRate = 0.8
	// growth is what may be more at the end than after the first third, when
	// everything has been used once: the sawtooth of a collected heap.
	growth = 1.25
)

func TestNothingGrowsUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP soak all: keeps the machine busy for half a minute")
	}
	length := usualLength
	if text := os.Getenv("FAAS_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("FAAS_SOAK: %v", err)
		}
	}
	d := startDaemon(t)
	if !d.native() {
		t.Skip("SKIP native all: the runtime is not available")
	}
	before := d.look()
	rate := d.rate()
	t.Logf("%.1f executions per second for %v", rate, length)
	load := &load{d: d, interval: time.Duration(float64(time.Second) / rate)}
	load.run(length / 3)
	d.quiet()
	early := d.look()
	load.run(length - length/3)
	d.quiet()
	late := d.look()
	t.Logf("%d executions, %d late\nat the start %v\nafter a third %v\nat the end %v", load.sent.Load(), load.late.Load(), before, early, late)
	if n := load.failed.Load(); n > 0 {
		t.Errorf("%d of %d executions failed; the first: %v", n, load.sent.Load(), load.first)
	}
	if float64(late.memoryKiB) > float64(early.memoryKiB)*growth+8192 {
		t.Errorf("memory grew from %d to %d KiB", early.memoryKiB, late.memoryKiB)
	}
	for _, c := range []struct {
		what        string
		early, late int
	}{
		{"descriptors", early.descriptors, late.descriptors},
		{"goroutines", early.goroutines, late.goroutines},
		{"threads", early.threads, late.threads},
		{"mounts", early.mounts, late.mounts},
		{"control groups", early.groups, late.groups},
		{"processes", early.processes, late.processes},
	} {
		// A handful comes and goes with idle connections and timers.
		if c.late > c.early+c.early/4+8 {
			t.Errorf("%s grew from %d to %d", c.what, c.early, c.late)
		}
	}
}

// load sends executions at a steady pace.
type load struct {
	d        *daemon
	interval time.Duration

	sent, late, failed atomic.Int64
	mu                 sync.Mutex
	first              error
}

// run sends for a while. One that cannot begin in time, because all senders
// wait for answers, is late, not sent twice.
func (l *load) run(length time.Duration) {
	due := make(chan time.Time, senders)
	var workers sync.WaitGroup
	for range senders {
		workers.Go(func() {
			for range due {
				l.sent.Add(1)
				if err := l.d.execute(); err != nil {
					l.failed.Add(1)
					l.mu.Lock()
					if l.first == nil {
						l.first = err
					}
					l.mu.Unlock()
				}
			}
		})
	}
	ticker := time.NewTicker(l.interval)
	defer ticker.Stop()
	for end := time.Now().Add(length); time.Now().Before(end); {
		now := <-ticker.C
		select {
		case due <- now:
		default:
			l.late.Add(1)
		}
	}
	close(due)
	workers.Wait()
}

// rate is a share of what the daemon sustains with all senders at work, or
// what the environment says.
func (d *daemon) rate() float64 {
	if text := os.Getenv("FAAS_SOAK_RATE"); text != "" {
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil || rate <= 0 {
			d.t.Fatalf("FAAS_SOAK_RATE: %q is not a rate", text)
		}
		return rate
	}
	var (
		done    atomic.Int64
		workers sync.WaitGroup
	)
	begun := time.Now()
	for range senders {
		workers.Go(func() {
			for time.Since(begun) < probeLength {
				if err := d.execute(); err != nil {
					d.t.Errorf("while the rate was measured: %v", err)
					return
				}
				done.Add(1)
			}
		})
	}
	workers.Wait()
	return max(1, shareOfRate*float64(done.Load())/time.Since(begun).Seconds())
}

func (d *daemon) execute() error {
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	got, err := d.Execute(ctx, api.ExecuteRequest{Command: api.Command{Args: []string{"true"}}, Runtime: faas.RuntimeNative})
	if err == nil && got.ExitCode != 0 {
		err = fmt.Errorf("exit code %d: %s", got.ExitCode, got.Stderr)
	}
	return err
}
