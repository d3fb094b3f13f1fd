package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest/fake"
)

// newMachine is a fake machine that claims to do what requests need.
func newMachine(t testing.TB) *fake.Machine {
	t.Helper()
	m := fake.NewMachine(t.TempDir(), faas.RuntimeNative)
	m.Offer(faas.FeatureNetworkNone, faas.FeatureUserNamespace,
		faas.FeatureLimitCPU, faas.FeatureLimitMemory, faas.FeatureLimitPIDs, faas.FeatureLimitDisk)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// newExecutor is an executor on a fake machine. At the test's end it is closed
// and must have left no sandbox.
func newExecutor(t testing.TB, m *fake.Machine, change func(*Options)) *Executor {
	t.Helper()
	opts := Options{DataDir: t.TempDir(), Drivers: []driver.Driver{m.Open()}}
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
		if left := m.Sandboxes(); len(left) > 0 {
			t.Errorf("sandboxes left: %v", left)
		}
	})
	return e
}

func shell(script string) faas.Request {
	return faas.Request{Command: []string{"sh", "-c", script}}
}

// run executes a request that must give a result.
func run(t *testing.T, e *Executor, req faas.Request) *faas.Result {
	t.Helper()
	result, err := e.Execute(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestExecute(t *testing.T) {
	m := newMachine(t)
	e := newExecutor(t, m, nil)
	req := shell(`cat; echo "$GREETING" >&2; exit 3`)
	req.Stdin, req.Env = strings.NewReader("input"), map[string]string{"GREETING": "hello"}
	begun := time.Now()
	got := run(t, e, req)
	if string(got.Stdout) != "input" || string(got.Stderr) != "hello\n" || got.ExitCode != 3 {
		t.Errorf("stdout %q, stderr %q, exit code %d", got.Stdout, got.Stderr, got.ExitCode)
	}
	if got.RuntimeUsed != faas.RuntimeNative || got.Degraded != "" || got.Error != "" || got.Truncated || got.TimedOut {
		t.Errorf("got %+v", got)
	}
	if most := milliseconds(time.Since(begun)); got.DurationMS <= 0 || got.QueuedMS <= 0 || got.DurationMS+got.QueuedMS > most {
		t.Errorf("duration %v, queued %v, of %v ms", got.DurationMS, got.QueuedMS, most)
	}
	record, err := e.Execution(t.Context(), "", got.ID)
	if err != nil {
		t.Fatal(err)
	}
	if record.Status != faas.ExecutionFailed || record.Result.ExitCode != 3 || string(record.Result.Stdout) != "input" || record.FinishedAt == nil {
		t.Errorf("recorded %+v, %+v", record, record.Result)
	}
	if stats := e.Stats(); stats.Requests != 1 || stats.ColdStarts != 1 || stats.Running != 0 {
		t.Errorf("stats %+v", stats)
	}
}

func TestFilesAndWorkingDirectory(t *testing.T) {
	e := newExecutor(t, newMachine(t), nil)
	req := shell(`cat a b/c; find . -type f | wc -l`)
	req.WorkingDir = "/work"
	req.Files = map[string][]byte{"a": []byte("one "), "/work/b/c": []byte("two ")}
	for i := range 40 {
		req.Files[fmt.Sprintf("many/%d", i)] = []byte("x")
	}
	if got := run(t, e, req); got.ExitCode != 0 || strings.Join(strings.Fields(string(got.Stdout)), " ") != "one two 42" {
		t.Errorf("got %q, %q, exit code %d", got.Stdout, got.Stderr, got.ExitCode)
	}
}

func TestCommandsThatCannotRun(t *testing.T) {
	e := newExecutor(t, newMachine(t), nil)
	for program, want := range map[string]int{"no-such-program": 127, "/etc": 126} {
		got := run(t, e, faas.Request{Command: []string{program}})
		if got.ExitCode != want || !strings.HasPrefix(got.Error, program+": ") {
			t.Errorf("%s: exit code %d, %q", program, got.ExitCode, got.Error)
		}
	}
}

func TestSignal(t *testing.T) {
	e := newExecutor(t, newMachine(t), nil)
	if got := run(t, e, shell("kill -TERM $$")); got.ExitCode != 143 || got.Signal != "SIGTERM" {
		t.Errorf("exit code %d, signal %q", got.ExitCode, got.Signal)
	}
}

func TestTimeout(t *testing.T) {
	e := newExecutor(t, newMachine(t), nil)
	req := shell("echo before; sleep 100")
	req.Timeout = 200 * time.Millisecond
	got := run(t, e, req)
	if !got.TimedOut || got.ExitCode != 137 || !slices.Equal(got.LimitsHit, []faas.LimitHit{faas.LimitTimeout}) ||
		!strings.Contains(got.Error, "timeout_ms") || string(got.Stdout) != "before\n" {
		t.Errorf("got %+v, stdout %q", got, got.Stdout)
	}
}

func TestOutputLimit(t *testing.T) {
	e := newExecutor(t, newMachine(t), nil)
	req := shell("head -c 300000 /dev/zero; head -c 100 /dev/zero >&2; exit 7")
	req.OutputLimit = 1000
	got := run(t, e, req)
	if len(got.Stdout) != 1000 || len(got.Stderr) != 100 || !got.Truncated || got.ExitCode != 7 {
		t.Errorf("%d and %d bytes, truncated %v, exit code %d", len(got.Stdout), len(got.Stderr), got.Truncated, got.ExitCode)
	}
	var streamed bytes.Buffer
	req.Stdout = &streamed
	got = run(t, e, req)
	if streamed.Len() != 300000 || got.Stdout != nil || got.Truncated {
		t.Errorf("streamed %d bytes, kept %d, truncated %v", streamed.Len(), len(got.Stdout), got.Truncated)
	}
	record, err := e.Execution(t.Context(), "", got.ID)
	if err != nil || len(record.Result.Stdout) != 64<<10 {
		t.Errorf("record of the streamed one: %v", err)
	}
}

func TestLimitsAreExplained(t *testing.T) {
	m := newMachine(t)
	for _, test := range []struct {
		stats driver.Stats
		limit faas.LimitHit
		says  string
	}{
		{driver.Stats{OOMKills: 2, MaxMemoryBytes: 64 << 20}, faas.LimitMemory, "memory limit of 64 MiB reached: the kernel killed 2 processes; raise memory_mb"},
		{driver.Stats{PIDsRefused: 1}, faas.LimitPIDs, "limit of 256 processes and threads reached: 1 more was refused; raise pids"},
	} {
		e := newExecutor(t, m, nil)
		req := shell("echo up; read line; exit 1")
		req.Resources.MemoryMB = 64
		stdin, release := io.Pipe()
		out := watched{make(chan []byte, 8)}
		req.Stdin, req.Stdout = stdin, out
		go func() {
			<-out.wrote
			m.SetStats(m.Sandboxes()[0], test.stats)
			release.Close()
		}()
		got := run(t, e, req)
		if !slices.Contains(got.LimitsHit, test.limit) || !strings.Contains(got.Error, test.says) {
			t.Errorf("%+v: got %v, %q", test.stats, got.LimitsHit, got.Error)
		}
		if got.Usage.MaxMemoryBytes < test.stats.MaxMemoryBytes {
			t.Errorf("usage %+v", got.Usage)
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// started makes a request report its execution's id.
func started(req *faas.Request) <-chan string {
	ids := make(chan string, 1)
	req.Started = func(x faas.Execution) { ids <- x.ID }
	return ids
}

// watched is a writer that tells when something was written.
type watched struct{ wrote chan []byte }

func (w watched) Write(p []byte) (int, error) {
	w.wrote <- bytes.Clone(p)
	return len(p), nil
}

func TestCancel(t *testing.T) {
	m := newMachine(t)
	e := newExecutor(t, m, nil)
	mark := filepath.Join(t.TempDir(), "alive")
	req := shell("echo up; while :; do echo x >> " + mark + "; sleep 0.01; done & sleep 100")
	ids, out := started(&req), watched{make(chan []byte, 8)}
	req.Stdout = out
	type answer struct {
		result *faas.Result
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		result, err := e.Execute(context.Background(), req)
		answers <- answer{result, err}
	}()
	id := <-ids
	<-out.wrote
	if err := e.Cancel(t.Context(), "other", id); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("another project's cancel: %v", err)
	}
	if err := e.Cancel(t.Context(), "", id); err != nil {
		t.Fatal(err)
	}
	size := fileSize(mark)
	if left := m.Sandboxes(); len(left) > 0 {
		t.Errorf("after Cancel there is still %v", left)
	}
	got := <-answers
	if got.err != nil || got.result.ExitCode != 137 || got.result.Error != "cancelled on request" {
		t.Errorf("got %+v, %v", got.result, got.err)
	}
	record, err := e.Execution(t.Context(), "", id)
	if err != nil || record.Status != faas.ExecutionCancelled {
		t.Errorf("record %+v, %v", record, err)
	}
	if err := e.Cancel(t.Context(), "", id); !errors.Is(err, faas.ErrFailedPrecondition) {
		t.Errorf("cancelled twice: %v", err)
	}
	if err := e.Cancel(t.Context(), "", faas.NewID(faas.PrefixExecution)); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("cancelled what is not there: %v", err)
	}
	if grown := fileSize(mark); grown != size {
		t.Errorf("a process of the cancelled command still writes: %d, then %d bytes", size, grown)
	}
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func TestCallerGoesAway(t *testing.T) {
	m := newMachine(t)
	e := newExecutor(t, m, nil)
	for name, end := range map[string]struct {
		context func() (context.Context, context.CancelFunc)
		kind    faas.Kind
	}{
		"cancelled": {func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) }, faas.KindUnavailable},
		"deadline": {func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 300*time.Millisecond)
		}, faas.KindDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := end.context()
			defer cancel()
			req := shell("echo up; sleep 100")
			out := watched{make(chan []byte, 8)}
			req.Stdout = out
			req.ID = faas.NewID(faas.PrefixExecution)
			go func() {
				<-out.wrote
				if name == "cancelled" {
					cancel()
				}
			}()
			_, err := e.Execute(ctx, req)
			if faas.KindOf(err) != end.kind {
				t.Errorf("got %v", err)
			}
			if left := m.Sandboxes(); len(left) > 0 {
				t.Errorf("after the answer there is still %v", left)
			}
			record, err := e.Execution(t.Context(), "", req.ID)
			if err != nil || record.Status != faas.ExecutionCancelled || record.Result == nil || string(record.Result.Stdout) != "up\n" {
				t.Errorf("record %+v, %v", record, err)
			}
		})
	}
}

// brokenPipe fails after some bytes.
type brokenPipe struct{ left int }

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestReaderOfOutputGoesAway(t *testing.T) {
	e := newExecutor(t, newMachine(t), nil)
	req := shell("yes")
	req.Stdout = &brokenPipe{left: 1 << 20}
	if _, err := e.Execute(t.Context(), req); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

func TestFailures(t *testing.T) {
	broken := faas.Errorf(faas.KindInternal, "no more loop devices")
	for name, test := range map[string]struct {
		breakIt func(*fake.Machine)
		kind    faas.Kind
	}{
		"the image": {func(m *fake.Machine) {
			m.Faults.Fail(fake.PointResolve, -1, faas.Errorf(faas.KindNotFound, "no such image"))
		}, faas.KindNotFound},
		"creating":    {func(m *fake.Machine) { m.Faults.Fail(fake.PointCreate, 1, broken) }, faas.KindInternal},
		"dialling":    {func(m *fake.Machine) { m.Faults.Fail(fake.PointDial, 1, broken) }, faas.KindInternal},
		"consumption": {func(m *fake.Machine) { m.Faults.Fail(fake.PointStats, 1, broken) }, ""},
		"destroying":  {func(m *fake.Machine) { m.Faults.Fail(fake.PointDestroy, 1, broken) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			e := newExecutor(t, m, nil)
			test.breakIt(m)
			req := shell("true")
			req.ID = faas.NewID(faas.PrefixExecution)
			_, err := e.Execute(t.Context(), req)
			if test.kind == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if faas.KindOf(err) != test.kind {
				t.Errorf("got %v", err)
			}
			record, err := e.Execution(t.Context(), "", req.ID)
			if err != nil || record.Status != faas.ExecutionFailed || record.Error == "" {
				t.Errorf("record %+v, %v", record, err)
			}
		})
	}
}

func TestSandboxDies(t *testing.T) {
	m := newMachine(t)
	e := newExecutor(t, m, nil)
	req := shell("echo up; sleep 100")
	out := watched{make(chan []byte, 8)}
	req.Stdout = out
	go func() {
		<-out.wrote
		for _, id := range m.Sandboxes() {
			if err := m.Lose(id); err != nil {
				t.Error(err)
			}
		}
	}()
	_, err := e.Execute(t.Context(), req)
	if faas.KindOf(err) != faas.KindUnavailable || !strings.Contains(err.Error(), "sandbox died") {
		t.Errorf("got %v", err)
	}
}

func TestWarmSandboxes(t *testing.T) {
	m := newMachine(t)
	e := newExecutor(t, m, func(o *Options) {
		o.Pools = []faas.PoolRequest{{Min: 2}}
	})
	if err := e.WaitWarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	req := shell(`echo "$WHO" $(cat "$FILE")`)
	req.Env = map[string]string{"WHO": "me", "FILE": "f"}
	req.WorkingDir, req.Files = "/w", map[string][]byte{"f": []byte("mine")}
	if got := run(t, e, req); string(got.Stdout) != "me mine\n" {
		t.Errorf("got %q, %q", got.Stdout, got.Stderr)
	}
	if stats := e.Stats(); stats.PoolHits != 1 || stats.ColdStarts != 0 {
		t.Errorf("stats %+v", stats)
	}
	if err := e.WaitWarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	// All dead: the request still gets its sandbox.
	for _, id := range m.Sandboxes() {
		if err := m.Lose(id); err != nil {
			t.Fatal(err)
		}
	}
	if got := run(t, e, req); string(got.Stdout) != "me mine\n" {
		t.Errorf("after the warm ones died: %q, %q", got.Stdout, got.Stderr)
	}
	if err := e.WaitWarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Another size of memory is adopted, another size of disk is made.
	req.Resources.MemoryMB = 100
	before := e.Stats()
	run(t, e, req)
	if stats := e.Stats(); stats.PoolHits != before.PoolHits+1 {
		t.Errorf("another memory: %+v, before %+v", stats, before)
	}
	req.Resources.DiskMB = 100
	run(t, e, req)
	if stats := e.Stats(); stats.ColdStarts != before.ColdStarts+1 {
		t.Errorf("another disk: %+v, before %+v", stats, before)
	}
}

func TestChangedImageEmptiesThePool(t *testing.T) {
	m := newMachine(t)
	e := newExecutor(t, m, func(o *Options) { o.Pools = []faas.PoolRequest{{Min: 1}} })
	if err := e.WaitWarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := m.Sandboxes()
	m.AddImage(driver.Image{Ref: faas.HostImage, Digest: "sha256:upgraded"})
	e.images.forget(faas.RuntimeNative, faas.HostImage)
	run(t, e, shell("true"))
	if stats := e.Stats(); stats.PoolHits != 0 || stats.ColdStarts != 1 {
		t.Errorf("stats %+v, old %v", stats, old)
	}
}

func TestBackPressure(t *testing.T) {
	m := newMachine(t)
	e := newExecutor(t, m, func(o *Options) { o.Admission = Admission{Concurrent: 1, Queue: 1} })
	release := m.Faults.Hang(fake.PointDestroy)
	for range 2 { // answers do not wait for the destroying
		run(t, e, shell("true"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Execute(ctx, shell("true")); !errors.Is(err, faas.ErrDeadlineExceeded) {
		t.Errorf("with destroying two behind: %v", err)
	}
	release()
	run(t, e, shell("true"))
}

func TestCloseCancelsWhatStillRuns(t *testing.T) {
	m := newMachine(t)
	e := newExecutor(t, m, nil)
	req := shell("sleep 100")
	ids := started(&req)
	failed := make(chan error, 1)
	go func() {
		_, err := e.Execute(context.Background(), req)
		failed <- err
	}()
	<-ids
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, faas.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := e.Execute(t.Context(), shell("true")); !errors.Is(err, faas.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}

func TestStartSweeps(t *testing.T) {
	m := newMachine(t)
	d := m.Open()
	if _, err := d.Create(t.Context(), faas.Spec{ID: faas.NewID(faas.PrefixSandbox), Project: "default", Image: faas.HostImage,
		Resources: Defaults{}.withDefaults().Resources, Network: faas.NetworkPolicy{Mode: faas.NetworkNone}, Hostname: "x"}); err != nil {
		t.Fatal(err)
	}
	newExecutor(t, m, nil)
	if left := m.Sandboxes(); len(left) > 0 {
		t.Errorf("a dead process's sandbox is still there: %v", left)
	}
}

func TestDuplicateID(t *testing.T) {
	e := newExecutor(t, newMachine(t), nil)
	req := shell("cat")
	stdin, release := io.Pipe()
	req.Stdin, req.ID = stdin, faas.NewID(faas.PrefixExecution)
	ids := started(&req)
	done := make(chan error, 1)
	go func() {
		_, err := e.Execute(context.Background(), req)
		done <- err
	}()
	<-ids
	if _, err := e.Execute(t.Context(), req); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("got %v", err)
	}
	release.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTerminal(t *testing.T) {
	e := newExecutor(t, newMachine(t), nil)
	req := shell(`stty size; until [ "$(stty size)" = "40 120" ]; do sleep 0.01; done; read line; echo "got $line"`)
	req.TTY = &faas.TerminalSize{Cols: 100, Rows: 30}
	sizes := make(chan faas.TerminalSize, 1)
	req.Stdin, req.Resize = strings.NewReader("text\n"), sizes
	out := watched{make(chan []byte, 64)}
	req.Stdout = out
	var seen []byte
	go func() {
		defer close(sizes)
		for chunk := range out.wrote {
			if seen = append(seen, chunk...); bytes.Contains(seen, []byte("30 100")) {
				sizes <- faas.TerminalSize{Cols: 120, Rows: 40}
				return
			}
		}
	}()
	if got := run(t, e, req); got.ExitCode != 0 {
		t.Errorf("exit code %d, %q", got.ExitCode, got.Error)
	}
	close(out.wrote)
	for chunk := range out.wrote {
		seen = append(seen, chunk...)
	}
	if !bytes.Contains(seen, []byte("got text")) {
		t.Errorf("the terminal showed %q", seen)
	}
}

func TestSignalsAreForwarded(t *testing.T) {
	e := newExecutor(t, newMachine(t), nil)
	req := shell(`trap 'echo caught; exit 5' USR1; echo up; while :; do sleep 0.01; done`)
	signals := make(chan syscall.Signal, 1)
	out := watched{make(chan []byte, 8)}
	req.Stdout, req.Signals = out, signals
	go func() {
		<-out.wrote
		signals <- syscall.Signal(10) // SIGUSR1 on Linux
	}()
	if got := run(t, e, req); got.ExitCode != 5 {
		t.Errorf("exit code %d, %q", got.ExitCode, got.Error)
	}
}

func BenchmarkExecuteWarm(b *testing.B) {
	m := newMachine(b)
	e := newExecutor(b, m, func(o *Options) { o.Pools = []faas.PoolRequest{{Min: 16}} })
	req := faas.Request{Command: []string{"true"}}
	b.ResetTimer()
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
	b.StopTimer()
	stats := e.Stats()
	b.ReportMetric(float64(stats.ColdStarts)/float64(stats.Requests), "cold/op")
}
