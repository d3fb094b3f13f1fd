package executor

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
)

// counter counts in a process that goes on when its command has ended.
const counter = `setsid sh -c 'i=0; while :; do i=$((i+1)); echo $i > /tmp/n.new; mv /tmp/n.new /tmp/n; sleep 0.02; done' </dev/null >/dev/null 2>&1 &
while [ ! -s /tmp/n ]; do sleep 0.01; done`

// newNativeResidents is newNative for tests that leave instances.
func newNativeResidents(t *testing.T, change func(*Options)) *Executor {
	e := newNative(t, change)
	t.Cleanup(func() {
		for _, x := range e.instances.all() {
			if err := e.DeleteInstance(context.Background(), x.project, x.id); err != nil {
				t.Error(err)
			}
		}
	})
	return e
}

// need skips a test of something that this machine's native runtime lacks.
func needNative(t *testing.T, e *Executor, f faas.Feature) {
	t.Helper()
	if c := e.Runtimes(t.Context(), false)[0].Feature(f); !c.Available {
		t.Skipf("SKIP native %s: %s (%s)", f, c.Reason, c.Remedy)
	}
}

func inside(t *testing.T, e *Executor, id, script string) string {
	t.Helper()
	got, err := e.ExecInstance(t.Context(), "", id, shell(script))
	if err != nil {
		t.Fatal(err)
	}
	if got.ExitCode != 0 {
		t.Fatalf("%s: exit code %d, %s", script, got.ExitCode, got.Stderr)
	}
	return strings.TrimSpace(string(got.Stdout))
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNativeFileStates(t *testing.T) {
	e := newNativeResidents(t, nil)
	needNative(t, e, faas.FeatureSnapshotFS)
	x := create(t, e, faas.InstanceRequest{Env: map[string]string{"A": "b"}})
	inside(t, e, x.ID, "mkdir /data; echo one > /data/f; rm -rf /mnt")
	first := save(t, e, x.ID, faas.SnapshotRequest{Kind: faas.SnapshotFS})
	inside(t, e, x.ID, "echo two more > /data/f")
	second := save(t, e, x.ID, faas.SnapshotRequest{Kind: faas.SnapshotFS})
	y := create(t, e, faas.InstanceRequest{From: first.ID})
	if got := inside(t, e, y.ID, "cat /data/f; test -e /mnt || echo gone; echo $A; hostname"); got != "one\ngone\nb\n"+y.ID {
		t.Errorf("the copy says %q", got)
	}
	diff, err := e.SnapshotDiff(t.Context(), "", second.ID, first.ID)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range diff.Changes {
		found = found || c.Path == "/data/f" && c.Change == "changed" && c.OldSize == 4 && c.NewSize == 9
	}
	if !found {
		t.Errorf("the difference is %+v", diff.Changes)
	}
	if against, err := e.SnapshotDiff(t.Context(), "", first.ID, ""); err != nil || len(against.Changes) == 0 {
		t.Errorf("%+v, %v", against, err)
	}
	for range 3 {
		if _, err := e.StopInstance(t.Context(), "", y.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := e.StartInstance(t.Context(), "", y.ID); err != nil {
			t.Fatal(err)
		}
		if got := inside(t, e, y.ID, "cat /data/f; echo $A; hostname"); got != "one\nb\n"+y.ID {
			t.Errorf("after a stop and a start: %q", got)
		}
	}
}

func TestNativeForksOfMemory(t *testing.T) {
	e := newNativeResidents(t, nil)
	needNative(t, e, faas.FeatureSnapshotFull)
	x := create(t, e, faas.InstanceRequest{})
	inside(t, e, x.ID, counter)
	snap := save(t, e, x.ID, faas.SnapshotRequest{})
	if snap.Kind != faas.SnapshotFull || snap.PauseMS <= 0 {
		t.Errorf("got %+v", snap)
	}
	at := number(t, inside(t, e, x.ID, "cat /tmp/n"))
	begun := time.Now()
	forks, err := e.Fork(t.Context(), faas.ForkRequest{From: snap.ID, Count: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("pause %.0f ms, four forks %v", snap.PauseMS, time.Since(begun))
	seen := map[string]bool{}
	for _, f := range forks {
		if f.Err != nil {
			t.Fatal(f.Err)
		}
		id := f.Instance.ID
		eventually(t, func() bool { return number(t, inside(t, e, id, "cat /tmp/n")) > at })
		who := inside(t, e, id, "hostname; cat /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1")
		if seen[who] || !strings.Contains(who, id) || !strings.Contains(inside(t, e, id, "cat /run/faas/instance.json"), id) {
			t.Errorf("a copy is %q", who)
		}
		seen[who] = true
	}
	eventually(t, func() bool { return number(t, inside(t, e, x.ID, "cat /tmp/n")) > at })
	deeper := save(t, e, forks[0].Instance.ID, faas.SnapshotRequest{})
	y := create(t, e, faas.InstanceRequest{From: deeper.ID})
	eventually(t, func() bool { return number(t, inside(t, e, y.ID, "cat /tmp/n")) > at })
}

func TestNativeCheckpoints(t *testing.T) {
	e := newNative(t, nil)
	needNative(t, e, faas.FeatureSnapshotFull)
	req := shell("echo 1 > /tmp/x")
	req.Mode = faas.ModeCheckpointed
	files := run(t, e, req)
	info, err := e.SnapshotInfo(t.Context(), "", files.SnapshotID)
	if err != nil || info.Kind != faas.SnapshotFS {
		t.Errorf("%+v, %v", info, err)
	}
	req = shell("cat /tmp/x; " + counter)
	req.Mode, req.SnapshotID = faas.ModeCheckpointed, files.SnapshotID
	left := run(t, e, req)
	info, err = e.SnapshotInfo(t.Context(), "", left.SnapshotID)
	if err != nil || info.Kind != faas.SnapshotFull || string(left.Stdout) != "1\n" {
		t.Fatalf("%+v, %v, %q", info, err, left.Stdout)
	}
	req = shell("a=$(cat /tmp/n); while [ $(cat /tmp/n) -le $a ]; do sleep 0.01; done; echo goes on")
	req.BranchFrom = left.ID
	if got := run(t, e, req); string(got.Stdout) != "goes on\n" {
		t.Errorf("got %q, %q", got.Stdout, got.Stderr)
	}
}

// drawer draws from OpenSSL's generator, which lies in its own memory, for each
// line that it is asked with.
const drawer = `mkfifo /tmp/ask /tmp/answer; cat > /tmp/draw.py <<'END'
import ssl
ssl.RAND_bytes(8)
while True:
    open("/tmp/ask").read()
    open("/tmp/answer", "w").write(ssl.RAND_bytes(16).hex() + "\n")
END
setsid /usr/bin/python3 /tmp/draw.py </dev/null >/dev/null 2>&1 &
echo > /tmp/ask; cat /tmp/answer`

func TestNativeCopiesAreReseeded(t *testing.T) {
	e := newNativeResidents(t, nil)
	needNative(t, e, faas.FeatureSnapshotFull)
	x := create(t, e, faas.InstanceRequest{})
	if got := inside(t, e, x.ID, "test -x /usr/bin/python3 && echo yes || echo no"); got != "yes" {
		t.Skip("SKIP native reseed: this machine has no /usr/bin/python3")
	}
	if caps := inside(t, e, x.ID, "grep -E '^Cap(Prm|Bnd|Inh|Amb)' /proc/self/status"); tracing(t, caps) {
		t.Errorf("a command may trace: %s", caps)
	}
	inside(t, e, x.ID, drawer)
	forks, err := e.Fork(t.Context(), faas.ForkRequest{From: x.ID, Variants: []faas.InstanceRequest{
		{Entropy: faas.EntropyStrict}, {Entropy: faas.EntropyStrict}, {Entropy: faas.EntropyStrict},
	}})
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[string]bool{inside(t, e, x.ID, "echo > /tmp/ask; cat /tmp/answer"): true}
	for _, f := range forks {
		if f.Err != nil {
			t.Fatal(f.Err)
		}
		if len(f.Instance.Reseeded) == 0 || !f.Instance.Reseeded[0].Done {
			t.Errorf("re-seeded: %+v", f.Instance.Reseeded)
		}
		got := inside(t, e, f.Instance.ID, "echo > /tmp/ask; cat /tmp/answer")
		if len(got) != 32 || drawn[got] {
			t.Errorf("a copy drew %q, which another drew too", got)
		}
		drawn[got] = true
		if caps := inside(t, e, f.Instance.ID, "grep -E '^Cap(Prm|Bnd|Inh|Amb)' /proc/self/status"); tracing(t, caps) {
			t.Errorf("a command of a copy may trace: %s", caps)
		}
	}
}

// tracing says whether one of a process's sets of capabilities holds
// CAP_SYS_PTRACE.
func tracing(t *testing.T, sets string) bool {
	t.Helper()
	for line := range strings.Lines(sets) {
		fields := strings.Fields(line)
		mask, err := strconv.ParseUint(fields[len(fields)-1], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		if mask&(1<<19) != 0 {
			return true
		}
	}
	return false
}
