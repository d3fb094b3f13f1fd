package executor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/oci"
	"github.com/faas-platform/faas/image"
)

// newNative is an executor on the native runtime. The test is skipped, or
// fails where that runtime is required, when this machine cannot do it.
func newNative(t testing.TB, change func(*Options)) *Executor {
	t.Helper()
	dir, err := os.MkdirTemp("", "faas-executor-") // sockets want a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	shift, err := oci.IDShift()
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.Open(filepath.Join(dir, "images"), image.Options{UIDShift: shift, GIDShift: shift})
	if err != nil {
		t.Fatal(err)
	}
	native, err := oci.NewNative(oci.Options{Dir: filepath.Join(dir, "native"), Images: images})
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{DataDir: filepath.Join(dir, "data"), Drivers: []driver.Driver{native}}
	if change != nil {
		change(&opts)
	}
	e, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if failed := e.reaper.failed.Load(); failed > 0 {
			t.Errorf("%d sandboxes could not be removed", failed)
		}
	})
	if caps := e.Runtimes(t.Context(), false)[0]; !caps.Available {
		reason := "SKIP native: " + caps.Reason + " (" + caps.Remedy + ")"
		if slices.Contains(strings.Split(os.Getenv("FAAS_REQUIRE_RUNTIMES"), ","), string(faas.RuntimeNative)) {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	return e
}

// small is a shell request with little of everything.
func small(script string) faas.Request {
	req := shell(script)
	req.Resources = faas.Resources{CPUCores: 1, MemoryMB: 64, DiskMB: 16, PIDs: 32}
	return req
}

func TestNativeRuns(t *testing.T) {
	e := newNative(t, func(o *Options) { o.Pools = []faas.PoolRequest{{Min: 2}} })
	if err := e.WaitWarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, warm := range map[string]bool{"warm": true, "cold": false} {
		t.Run(name, func(t *testing.T) {
			before := e.Stats()
			req := shell(`cat in.txt; cat; echo "$GREETING" >&2; pwd; id -u; grep -c . /run/faas/instance.json`)
			if !warm {
				req = small(req.Command[2])
			}
			req.Stdin = strings.NewReader(" and stdin\n")
			req.Env, req.WorkingDir = map[string]string{"GREETING": "hello"}, "/work"
			req.Files = map[string][]byte{"in.txt": []byte("a file")}
			got := run(t, e, req)
			if got.ExitCode != 0 || !strings.HasPrefix(string(got.Stdout), "a file and stdin\n/work\n0\n") || string(got.Stderr) != "hello\n" {
				t.Errorf("exit code %d, stdout %q, stderr %q", got.ExitCode, got.Stdout, got.Stderr)
			}
			if got.Usage.MaxMemoryBytes == 0 {
				t.Errorf("usage %+v", got.Usage)
			}
			if after := e.Stats(); (after.PoolHits > before.PoolHits) != warm {
				t.Errorf("stats %+v, before %+v", after, before)
			}
		})
	}
}

func TestNativeLimits(t *testing.T) {
	e := newNative(t, nil)
	for _, test := range []struct {
		name   string
		script string
		limit  faas.LimitHit
		says   string
	}{
		{"memory", `x=$(head -c 200000000 /dev/zero | tr '\0' x); echo ${#x}`, faas.LimitMemory, "memory limit of 64 MiB reached"},
		{"pids", `i=0; while [ $i -lt 100 ]; do sleep 100 & i=$((i+1)); done; exit 1`, faas.LimitPIDs, "limit of 32 processes and threads reached"},
		{"disk", `head -c 100000000 /dev/zero > /full`, faas.LimitDisk, "disk limit of 16 MiB reached"},
		{"timeout", `sleep 100`, faas.LimitTimeout, "time-out of 500ms reached"},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := small(test.script)
			if test.limit == faas.LimitTimeout {
				req.Timeout = 500 * time.Millisecond
			}
			got := run(t, e, req)
			if got.ExitCode == 0 || !slices.Contains(got.LimitsHit, test.limit) || !strings.Contains(got.Error, test.says) {
				t.Errorf("exit code %d, limits %v, error %q, stderr %q", got.ExitCode, got.LimitsHit, got.Error, got.Stderr)
			}
			if len(got.LimitsHit) != 1 {
				t.Errorf("more than the one limit: %v", got.LimitsHit)
			}
		})
	}
}

// The limits of an adopted sandbox are the request's, not the pool's.
func TestNativeAdoptedLimits(t *testing.T) {
	e := newNative(t, func(o *Options) {
		o.Pools = []faas.PoolRequest{{Min: 1, Resources: faas.Resources{MemoryMB: 300, DiskMB: 16}}}
	})
	if err := e.WaitWarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := run(t, e, small(`x=$(head -c 200000000 /dev/zero | tr '\0' x); echo ${#x}`))
	if !slices.Contains(got.LimitsHit, faas.LimitMemory) || e.Stats().PoolHits != 1 {
		t.Errorf("limits hit %v, stats %+v", got.LimitsHit, e.Stats())
	}
}

func TestNativeCancel(t *testing.T) {
	e := newNative(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req := shell("(trap '' TERM INT; sleep 1000) & echo up; sleep 1000")
	out := watched{make(chan []byte, 8)}
	req.Stdout = out
	go func() {
		<-out.wrote
		cancel()
	}()
	if _, err := e.Execute(ctx, req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNativeStreamsWithoutLimit(t *testing.T) {
	e := newNative(t, nil)
	req := shell("head -c 256M /dev/zero")
	var counted countingWriter
	req.Stdout = &counted
	begun := time.Now()
	if got := run(t, e, req); got.ExitCode != 0 || counted != 256<<20 {
		t.Errorf("exit code %d, %d bytes", got.ExitCode, counted)
	}
	t.Logf("%.0f MB/s", float64(counted)/1e6/time.Since(begun).Seconds())
}

type countingWriter int64

func (c *countingWriter) Write(p []byte) (int, error) {
	*c += countingWriter(len(p))
	return len(p), nil
}

func TestNativeParallel(t *testing.T) {
	e := newNative(t, func(o *Options) { o.Pools = []faas.PoolRequest{{Min: 4}} })
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() {
			for range 5 {
				req := shell("cat | wc -c")
				req.Stdin = bytes.NewReader(make([]byte, 100_000))
				got, err := e.Execute(t.Context(), req)
				if err != nil || strings.TrimSpace(string(got.Stdout)) != "100000" {
					t.Errorf("got %+v, %v", got, err)
				}
			}
		})
	}
	clients.Wait()
}

func BenchmarkExecuteWarmNative(b *testing.B) {
	e := newNative(b, func(o *Options) { o.Pools = []faas.PoolRequest{{Min: 16}} })
	req := faas.Request{Command: []string{"true"}, Stdout: io.Discard}
	for b.Loop() {
		b.StopTimer()
		if err := e.WaitWarm(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := e.Execute(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
	stats := e.Stats()
	b.ReportMetric(float64(stats.ColdStarts)/float64(stats.Requests), "cold/op")
}
