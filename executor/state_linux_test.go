package executor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest/fake"
)

func save(t *testing.T, e *Executor, id string, req faas.SnapshotRequest) *faas.Snapshot {
	t.Helper()
	s, err := e.Snapshot(t.Context(), "", id, req)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSnapshotsAndRestores(t *testing.T) {
	m := newSaving(t)
	e := residents(t, m, nil)
	x := create(t, e, faas.InstanceRequest{Resources: faas.Resources{MemoryMB: 64}, Env: map[string]string{"A": "1", "B": "1"}})
	put(t, e, x.ID, "/d/file", "one")
	m.SetState(sandboxOf(t, e, x.ID), "counted to 3")
	first := save(t, e, x.ID, faas.SnapshotRequest{Name: "first", Labels: map[string]string{"l": "v"}})
	if first.Kind != faas.SnapshotFull || first.ParentID != "" || first.InstanceID != x.ID || first.MemoryBytes == 0 || first.SizeBytes <= first.MemoryBytes {
		t.Errorf("got %+v", first)
	}
	put(t, e, x.ID, "/d/file", "two and more")
	put(t, e, x.ID, "/d/new", "x")
	second := save(t, e, x.ID, faas.SnapshotRequest{Kind: faas.SnapshotFS})
	if second.Kind != faas.SnapshotFS || second.ParentID != first.ID {
		t.Errorf("got %+v", second)
	}
	y := create(t, e, faas.InstanceRequest{From: first.ID, Resources: faas.Resources{MemoryMB: 128}, Env: map[string]string{"B": "2"}})
	if y.Resources.MemoryMB != 128 || y.Resources.PIDs != x.Resources.PIDs || y.SnapshotID != first.ID {
		t.Errorf("got %+v", y)
	}
	if got := get(t, m, e, y.ID, "/d/file"); got != "one" {
		t.Errorf("the copy has %q", got)
	}
	if got := m.State(sandboxOf(t, e, y.ID)); !slices.Equal(got, []string{"counted to 3"}) {
		t.Errorf("the copy's state is %v", got)
	}
	if got, err := e.ExecInstance(t.Context(), "", y.ID, shell("echo $A$B")); err != nil || string(got.Stdout) != "12\n" {
		t.Errorf("%+v, %v", got, err)
	}
	put(t, e, y.ID, "/d/file", "three")
	third := save(t, e, y.ID, faas.SnapshotRequest{})
	if third.ParentID != first.ID {
		t.Errorf("got %+v", third)
	}
	diff, err := e.SnapshotDiff(t.Context(), "", second.ID, first.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := []faas.SnapshotChange{{Path: "/d/file", Change: "changed", OldSize: 3, NewSize: 12}, {Path: "/d/new", Change: "added", NewSize: 1}}
	if !slices.Equal(diff.Changes, want) || diff.OldMemory == 0 || diff.NewMemory != 0 {
		t.Errorf("the difference is %+v", diff)
	}
	tree, err := e.SnapshotTree(t.Context(), "", "")
	if err != nil || len(tree) != 1 || tree[0].ID != first.ID || len(tree[0].Children) != 2 {
		t.Errorf("tree %+v, %v", tree, err)
	}
	if _, err := e.RemoveSnapshot(t.Context(), "", first.ID, false); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("removed a parent: %v", err)
	}
	if list, _, err := e.Snapshots(t.Context(), "", faas.SnapshotFilter{Labels: map[string]string{"l": "v"}}); err != nil || len(list) != 1 || list[0].Name != "first" {
		t.Errorf("listed %v, %v", list, err)
	}
	if _, err := e.SnapshotInfo(t.Context(), "other", first.ID); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("another project's: %v", err)
	}
	if removed, err := e.RemoveSnapshot(t.Context(), "", first.ID, true); err != nil || len(removed) != 3 {
		t.Errorf("removed %v, %v", removed, err)
	}
}

func TestFork(t *testing.T) {
	m := newSaving(t)
	e := residents(t, m, nil)
	x := create(t, e, faas.InstanceRequest{})
	put(t, e, x.ID, "/state", "warm")
	forks, err := e.Fork(t.Context(), faas.ForkRequest{From: x.ID, Count: 10})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range forks {
		if f.Err != nil {
			t.Fatal(f.Err)
		}
		seen[get(t, m, e, f.Instance.ID, "/etc/machine-id")] = true
		if got := get(t, m, e, f.Instance.ID, "/state"); got != "warm" {
			t.Errorf("a copy has %q", got)
		}
	}
	if len(seen) != 10 {
		t.Errorf("%d machine ids for 10 copies", len(seen))
	}
	before := len(m.Sandboxes())
	m.Faults.Fail(fake.PointRestored, 3, faas.Errorf(faas.KindInternal, "by the test"))
	forks, err = e.Fork(t.Context(), faas.ForkRequest{From: forks[0].Instance.ID, Variants: []faas.InstanceRequest{
		{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "e"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, f := range forks {
		if f.Err == nil {
			made++
		}
	}
	if made != 2 || len(m.Sandboxes()) != before+2 {
		t.Errorf("%d made, %d sandboxes more", made, len(m.Sandboxes())-before)
	}
}

func TestBranchesAndMerge(t *testing.T) {
	m := newSaving(t)
	e := residents(t, m, nil)
	x := create(t, e, faas.InstanceRequest{})
	put(t, e, x.ID, "/base", "base")
	put(t, e, x.ID, "/gone", "gone")
	trunk := save(t, e, x.ID, faas.SnapshotRequest{Kind: faas.SnapshotFS})
	for _, name := range []string{"left", "right"} {
		if _, err := e.CreateBranch(t.Context(), "", name, trunk.ID); err != nil {
			t.Fatal(err)
		}
		y := create(t, e, faas.InstanceRequest{From: name})
		put(t, e, y.ID, "/"+name, name)
		if name == "left" {
			if err := os.Remove(filepath.Join(m.Root(sandboxOf(t, e, y.ID)), "gone")); err != nil {
				t.Fatal(err)
			}
		}
		saved := save(t, e, y.ID, faas.SnapshotRequest{Kind: faas.SnapshotFS})
		b, err := e.Branch(t.Context(), "", name)
		if err != nil || b.Head != saved.ID {
			t.Errorf("branch %s: %+v, %v, want head %s", name, b, err, saved.ID)
		}
	}
	if _, err := e.CreateBranch(t.Context(), "", "left", trunk.ID); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("a name that is taken: %v", err)
	}
	// Every sandbox has an identity of its own in /run and /etc: no conflict.
	if merged, err := e.MergeBranches(t.Context(), "", []string{"left", "right"}, faas.MergeUnion, faas.SnapshotRequest{}); err != nil || len(merged.Conflicts) > 0 {
		t.Errorf("union: %+v, %v", merged, err)
	}
	for _, name := range []string{"left", "right"} {
		y := create(t, e, faas.InstanceRequest{From: name})
		put(t, e, y.ID, "/base", "of "+name)
		save(t, e, y.ID, faas.SnapshotRequest{Kind: faas.SnapshotFS})
	}
	merged, err := e.MergeBranches(t.Context(), "", []string{"left", "right"}, faas.MergeUnion, faas.SnapshotRequest{})
	if !errors.Is(err, faas.ErrConflict) || merged == nil || merged.Snapshot != nil ||
		len(merged.Conflicts) != 1 || merged.Conflicts[0].Path != "/base" || !slices.Equal(merged.Conflicts[0].Branches, []string{"left", "right"}) {
		t.Errorf("union: %+v, %v", merged, err)
	}
	merged, err = e.MergeBranches(t.Context(), "", []string{"left", "right"}, faas.MergeIntersection, faas.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	both := create(t, e, faas.InstanceRequest{From: merged.Snapshot.ID})
	if got := get(t, m, e, both.ID, "/base") + get(t, m, e, both.ID, "/left"); got != "base" {
		t.Errorf("intersection: %q", got)
	}
	merged, err = e.MergeBranches(t.Context(), "", []string{"left", "right"}, faas.MergeLatest, faas.SnapshotRequest{Name: "both"})
	if err != nil {
		t.Fatal(err)
	}
	if merged.Snapshot.ParentID != trunk.ID || merged.Snapshot.Kind != faas.SnapshotFS {
		t.Errorf("merged %+v", merged.Snapshot)
	}
	z := create(t, e, faas.InstanceRequest{From: merged.Snapshot.ID})
	for path, want := range map[string]string{"/left": "left", "/right": "right", "/base": "of right", "/gone": ""} {
		if got := get(t, m, e, z.ID, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestModesThatLeaveAState(t *testing.T) {
	m := newSaving(t)
	e := residents(t, m, nil)
	req := shell("true")
	req.Mode, req.Files = faas.ModeCheckpointed, map[string][]byte{"/work/f": []byte("1")}
	one := run(t, e, req)
	if one.SnapshotID == "" {
		t.Fatalf("got %+v", one)
	}
	if _, err := e.SnapshotInfo(t.Context(), "", one.SnapshotID); err != nil {
		t.Error(err)
	}
	req = shell("true")
	req.Mode, req.BranchFrom, req.Files = faas.ModeBranched, one.ID, map[string][]byte{"/work/g": []byte("2")}
	two := run(t, e, req)
	next, err := e.SnapshotInfo(t.Context(), "", two.SnapshotID)
	if err != nil || next.ParentID != one.SnapshotID {
		t.Errorf("%+v, %v", next, err)
	}
	forks, err := e.ExecuteFork(t.Context(), "", two.ID, []faas.Request{shell("echo a"), shell("echo b; exit 2")})
	if err != nil || forks[0].Err != nil || string(forks[0].Result.Stdout) != "a\n" || forks[1].Result.ExitCode != 2 || forks[1].Result.SnapshotID == "" {
		t.Errorf("%+v, %v", forks, err)
	}
	b, err := e.CreateBranch(t.Context(), "", "line", two.SnapshotID)
	if err != nil {
		t.Fatal(err)
	}
	req = shell("true")
	req.Mode, req.BranchFrom = faas.ModeCheckpointed, "line"
	three := run(t, e, req)
	if moved, err := e.Branch(t.Context(), "", b.ID); err != nil || moved.Head != three.SnapshotID {
		t.Errorf("%+v, %v", moved, err)
	}
	ephemeral := shell("true")
	ephemeral.SnapshotID = one.SnapshotID
	if got := run(t, e, ephemeral); got.SnapshotID != "" || got.ExitCode != 0 {
		t.Errorf("got %+v", got)
	}
	m.Faults.Fail(fake.PointSnapshot, 1, faas.Errorf(faas.KindInternal, "by the test"))
	req = shell("true")
	req.Mode = faas.ModeCheckpointed
	if _, err := e.Execute(t.Context(), req); err == nil || !strings.Contains(err.Error(), "the command ran") {
		t.Errorf("got %v", err)
	}
	eventually(t, func() bool { return len(m.Sandboxes()) == 0 })
}

func TestPersistentMode(t *testing.T) {
	m := newSaving(t)
	e := residents(t, m, nil)
	req := shell("echo one")
	req.Mode = faas.ModePersistent
	got := run(t, e, req)
	if got.InstanceID == "" || string(got.Stdout) != "one\n" {
		t.Fatalf("got %+v", got)
	}
	req = shell("echo two")
	req.Mode, req.InstanceID = faas.ModePersistent, got.InstanceID
	if again := run(t, e, req); again.InstanceID != got.InstanceID || len(m.Sandboxes()) != 1 {
		t.Errorf("got %+v", again)
	}
	fork := shell("echo three")
	fork.BranchFrom = got.ID // an execution that left an instance
	if forked := run(t, e, fork); string(forked.Stdout) != "three\n" {
		t.Errorf("got %+v", forked)
	}
}

func TestModesThatNoRuntimeHas(t *testing.T) {
	e := newExecutor(t, newMachine(t), nil) // it saves nothing
	req := shell("true")
	req.Mode = faas.ModeCheckpointed
	if _, err := e.Execute(t.Context(), req); !errors.Is(err, faas.ErrCapabilityUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestCachedMode(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	open := func() *Executor {
		e, err := New(t.Context(), Options{DataDir: dir, Drivers: []driver.Driver{m.Open()}})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := open()
	request := func() faas.Request {
		req := shell("cat; date +%s%N")
		req.Mode, req.Stdin = faas.ModeCached, strings.NewReader("in ")
		return req
	}
	first := run(t, e, request())
	if first.CacheHit {
		t.Error("a hit before there was anything")
	}
	var streamed bytes.Buffer
	again := request()
	again.Stdout = &streamed
	second := run(t, e, again)
	if !second.CacheHit || streamed.String() != string(first.Stdout) || second.ID == first.ID || second.Stdout != nil {
		t.Errorf("got %+v, streamed %q, want %q", second, streamed.String(), first.Stdout)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	e = open()
	if third := run(t, e, request()); !third.CacheHit || !bytes.Equal(third.Stdout, first.Stdout) {
		t.Errorf("after a restart: %+v", third)
	}
	for name, change := range map[string]func(*faas.Request){
		"project":   func(r *faas.Request) { r.Project = "other" },
		"stdin":     func(r *faas.Request) { r.Stdin = strings.NewReader("other") },
		"env":       func(r *faas.Request) { r.Env = map[string]string{"A": "b"} },
		"files":     func(r *faas.Request) { r.Files = map[string][]byte{"/f": nil} },
		"limits":    func(r *faas.Request) { r.Resources.MemoryMB = 99 },
		"dir":       func(r *faas.Request) { r.WorkingDir = "/tmp" },
		"cache_key": func(r *faas.Request) { r.CacheKey = "k" },
	} {
		req := request()
		change(&req)
		if got := run(t, e, req); got.CacheHit {
			t.Errorf("%s does not count", name)
		}
	}
	failing := shell("exit 3")
	failing.Mode = faas.ModeCached
	for range 2 {
		req := failing
		if got := run(t, e, req); got.CacheHit || got.ExitCode != 3 {
			t.Errorf("got %+v", got)
		}
	}
	brief := request()
	brief.CacheKey, brief.CacheTTL = "brief", time.Millisecond
	run(t, e, brief)
	time.Sleep(2 * time.Millisecond) // the clock's step, not another's progress
	brief = request()
	brief.CacheKey = "brief"
	if got := run(t, e, brief); got.CacheHit {
		t.Error("an expired result was used")
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestIdenticalExecutionsRunOnce(t *testing.T) {
	m := newMachine(t)
	e := newExecutor(t, m, nil)
	release := m.Faults.Hang(fake.PointCreate)
	var hits atomic.Int64
	done := make(chan error, 8)
	for range 8 {
		go func() {
			req := shell("echo once")
			req.Mode = faas.ModeCached
			got, err := e.Execute(t.Context(), req)
			if err == nil && string(got.Stdout) != "once\n" {
				err = fmt.Errorf("got %q", got.Stdout)
			}
			if err == nil && got.CacheHit {
				hits.Add(1)
			}
			done <- err
		}()
	}
	if err := m.Faults.AwaitCalls(t.Context(), fake.PointCreate, 1); err != nil {
		t.Fatal(err)
	}
	release()
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if hits.Load() != 7 || m.Faults.Calls(fake.PointCreate) != 1 {
		t.Errorf("%d hits, %d sandboxes made", hits.Load(), m.Faults.Calls(fake.PointCreate))
	}
}

// A fake's agent is not the first process of its sandbox and cannot re-seed.
func TestStrictEntropyRefuses(t *testing.T) {
	m := newSaving(t)
	e := residents(t, m, nil)
	x := create(t, e, faas.InstanceRequest{})
	snap := save(t, e, x.ID, faas.SnapshotRequest{})
	_, err := e.CreateInstance(t.Context(), faas.InstanceRequest{From: snap.ID, Entropy: faas.EntropyStrict})
	if !errors.Is(err, faas.ErrFailedPrecondition) || !strings.Contains(err.Error(), "entropy") {
		t.Errorf("got %v", err)
	}
	if left := m.Sandboxes(); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

func BenchmarkCachedHit(b *testing.B) {
	e := newExecutor(b, newMachine(b), nil)
	req := shell("echo hit")
	req.Mode = faas.ModeCached
	if _, err := e.Execute(b.Context(), req); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		got, err := e.Execute(b.Context(), req)
		if err != nil || !got.CacheHit {
			b.Fatal(got, err)
		}
	}
}
