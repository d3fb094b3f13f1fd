package executor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest/fake"
	"github.com/faas-platform/faas/guest"
)

// newSaving is a fake machine that can save files and memory.
func newSaving(t testing.TB) *fake.Machine {
	m := newMachine(t)
	m.Offer(faas.FeatureSnapshotFS, faas.FeatureSnapshotFull, faas.FeatureFork)
	return m
}

// residents is an executor whose instances a test may leave: they are deleted
// at its end.
func residents(t testing.TB, m *fake.Machine, change func(*Options)) *Executor {
	e := newExecutor(t, m, change)
	t.Cleanup(func() {
		for _, x := range e.instances.all() {
			if err := e.DeleteInstance(context.Background(), x.project, x.id); err != nil {
				t.Error(err)
			}
		}
		if left := e.snapshots.Hidden(); len(left) > 0 {
			t.Errorf("hidden states left: %v", left)
		}
	})
	return e
}

func create(t *testing.T, e *Executor, req faas.InstanceRequest) *faas.Instance {
	t.Helper()
	x, err := e.CreateInstance(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// sandboxOf returns the id of an instance's sandbox.
func sandboxOf(t *testing.T, e *Executor, id string) string {
	t.Helper()
	record, err := e.store.Instance(t.Context(), faas.DefaultProject, id)
	if err != nil {
		t.Fatal(err)
	}
	return record.SandboxID
}

// put and get write and read a file of an instance. A fake's commands see the
// machine's own files, so these go through the agent.
func put(t *testing.T, e *Executor, id, path, content string) {
	t.Helper()
	err := e.Guest(t.Context(), "", id, func(c *guest.Client) error {
		_, err := c.WriteFile(t.Context(), path, strings.NewReader(content), guest.WriteOptions{Parents: true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, m *fake.Machine, e *Executor, id, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.Root(sandboxOf(t, e, id)), path))
	if err != nil {
		return ""
	}
	return string(b)
}

func TestInstanceLifecycle(t *testing.T) {
	m := newSaving(t)
	e := residents(t, m, nil)
	x := create(t, e, faas.InstanceRequest{Name: "box", Labels: map[string]string{"a": "b"}, Env: map[string]string{"GREETING": "hello"}})
	if x.Status != faas.InstanceRunning || x.Runtime != faas.RuntimeNative || x.StartedAt == nil {
		t.Errorf("created %+v", x)
	}
	req := shell(`echo "$GREETING $MORE"`)
	req.Env = map[string]string{"MORE": "there"}
	got, err := e.ExecInstance(t.Context(), "", x.ID, req)
	if err != nil || string(got.Stdout) != "hello there\n" || got.InstanceID != x.ID {
		t.Fatalf("got %+v, %v", got, err)
	}
	identity := get(t, m, e, x.ID, "/run/faas/instance.json")
	if !strings.Contains(identity, x.ID) {
		t.Errorf("the instance takes itself for %s", identity)
	}
	put(t, e, x.ID, "/data/kept", "1")
	for _, step := range []struct {
		do   func(context.Context, string, string) (*faas.Instance, error)
		want faas.InstanceStatus
	}{
		{e.PauseInstance, faas.InstancePaused}, {e.PauseInstance, faas.InstancePaused},
		{e.ResumeInstance, faas.InstanceRunning}, {e.StopInstance, faas.InstanceStopped},
		{e.StopInstance, faas.InstanceStopped}, {e.StartInstance, faas.InstanceRunning},
		{e.StartInstance, faas.InstanceRunning}, {e.StopInstance, faas.InstanceStopped}, {e.StartInstance, faas.InstanceRunning},
	} {
		now, err := step.do(t.Context(), "", x.ID)
		if err != nil || now.Status != step.want {
			t.Fatalf("%v, %v, want %s", now, err, step.want)
		}
		if kept := get(t, m, e, x.ID, "/data/kept"); now.Status == faas.InstanceRunning && kept != "1" {
			t.Errorf("after %s the file holds %q", step.want, kept)
		}
		if n := len(m.Sandboxes()); now.Status == faas.InstanceStopped && n != 0 {
			t.Errorf("%d sandboxes while it is stopped", n)
		}
	}
	list, _, err := e.Instances(t.Context(), "", faas.InstanceFilter{Labels: map[string]string{"a": "b"}, Name: "box"})
	if err != nil || len(list) != 1 || list[0].ID != x.ID {
		t.Errorf("listed %v, %v", list, err)
	}
	if _, err := e.CreateInstance(t.Context(), faas.InstanceRequest{Name: "box"}); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := e.Instance(t.Context(), "other", x.ID); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("another project's: %v", err)
	}
	if err := e.DeleteInstance(t.Context(), "", x.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := e.ExecInstance(t.Context(), "", x.ID, shell("true")); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("a command in a deleted one: %v", err)
	}
}

func TestInstancesAreFoundAgain(t *testing.T) {
	m := newSaving(t)
	dir := t.TempDir()
	open := func() *Executor {
		e, err := New(t.Context(), Options{DataDir: dir, Drivers: []driver.Driver{m.Open()}})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := open()
	live, still, halted := create(t, e, faas.InstanceRequest{}), create(t, e, faas.InstanceRequest{}), create(t, e, faas.InstanceRequest{})
	lost := create(t, e, faas.InstanceRequest{})
	put(t, e, live.ID, "/x", "live")
	put(t, e, halted.ID, "/x", "halted")
	if _, err := e.PauseInstance(t.Context(), "", still.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := e.StopInstance(t.Context(), "", halted.ID); err != nil {
		t.Fatal(err)
	}
	snap, err := e.Snapshot(t.Context(), "", live.ID, faas.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	copied := create(t, e, faas.InstanceRequest{From: snap.ID})
	end := sandboxOf(t, e, lost.ID)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Lose(end); err != nil {
		t.Fatal(err)
	}
	e = open()
	defer e.Close(context.Background())
	for id, want := range map[string]faas.InstanceStatus{
		live.ID: faas.InstanceRunning, still.ID: faas.InstancePaused, halted.ID: faas.InstanceStopped,
		copied.ID: faas.InstanceRunning, lost.ID: faas.InstanceFailed,
	} {
		if x, err := e.Instance(t.Context(), "", id); err != nil || x.Status != want {
			t.Errorf("%+v, %v, want %s", x, err, want)
		}
	}
	if got, err := e.ExecInstance(t.Context(), "", live.ID, shell("echo on")); err != nil || string(got.Stdout) != "on\n" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, id := range []string{halted.ID, lost.ID} {
		if _, err := e.StartInstance(t.Context(), "", id); err != nil {
			t.Error(err)
		}
	}
	if x := get(t, m, e, halted.ID, "/x"); x != "halted" {
		t.Errorf("the stopped one's file holds %q", x)
	}
	// The copy still holds what it lies on.
	if _, err := e.RemoveSnapshot(t.Context(), "", snap.ID, true); err != nil {
		t.Fatal(err)
	}
	again, err := e.Snapshot(t.Context(), "", copied.ID, faas.SnapshotRequest{})
	if err != nil {
		t.Fatalf("a copy whose snapshot was removed cannot be saved: %v", err)
	}
	third := create(t, e, faas.InstanceRequest{From: again.ID})
	if x := get(t, m, e, third.ID, "/x"); x != "live" {
		t.Errorf("the copy of the copy has %q", x)
	}
	for _, x := range e.instances.all() {
		if err := e.DeleteInstance(t.Context(), "", x.id); err != nil {
			t.Error(err)
		}
	}
	if left := m.Sandboxes(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestCreationThatFails(t *testing.T) {
	m := newSaving(t)
	e := residents(t, m, nil)
	source := create(t, e, faas.InstanceRequest{})
	for _, point := range []fake.Point{fake.PointCreate, fake.PointCreated, fake.PointSnapshot, fake.PointSnapshotted,
		fake.PointCheckRestore, fake.PointRestore, fake.PointRestored, fake.PointPrepared} {
		m.Faults.Fail(point, 1, faas.Errorf(faas.KindInternal, "by the test"))
		req := faas.InstanceRequest{From: source.ID}
		if point == fake.PointCreate || point == fake.PointCreated {
			req.From = ""
		}
		if _, err := e.CreateInstance(t.Context(), req); err == nil || !strings.Contains(err.Error(), "by the test") {
			t.Errorf("%s: %v", point, err)
		}
		if left := m.Sandboxes(); len(left) != 1 {
			t.Errorf("%s: sandboxes left: %v", point, left)
		}
		if list, _, err := e.Instances(t.Context(), "", faas.InstanceFilter{}); err != nil || len(list) != 1 {
			t.Errorf("%s: instances left: %v, %v", point, list, err)
		}
		if hidden := e.snapshots.Hidden(); len(hidden) > 0 {
			t.Errorf("%s: states left: %v", point, hidden)
		}
	}
}

func TestInstancesExpire(t *testing.T) {
	m := newSaving(t)
	e := residents(t, m, nil)
	x := create(t, e, faas.InstanceRequest{TTL: 50 * time.Millisecond})
	eventually(t, func() bool {
		_, err := e.Instance(t.Context(), "", x.ID)
		return errors.Is(err, faas.ErrNotFound) && len(m.Sandboxes()) == 0
	})
}

func TestInstanceWhoseSandboxEnds(t *testing.T) {
	m := newSaving(t)
	e := residents(t, m, nil)
	x := create(t, e, faas.InstanceRequest{})
	if err := m.Lose(sandboxOf(t, e, x.ID)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		now, err := e.Instance(t.Context(), "", x.ID)
		return err == nil && now.Status == faas.InstanceFailed && now.Error != ""
	})
	if _, err := e.ExecInstance(t.Context(), "", x.ID, shell("true")); !errors.Is(err, faas.ErrFailedPrecondition) {
		t.Errorf("a command in a failed one: %v", err)
	}
}

func TestConcurrentRequestsOnOneInstance(t *testing.T) {
	m := newSaving(t)
	e := residents(t, m, nil)
	x := create(t, e, faas.InstanceRequest{})
	begun, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	req := shell("echo up; read line; echo $line")
	req.Stdin, req.Stdout = waiting{release}, watched{make(chan []byte, 8)}
	out := req.Stdout.(watched)
	go func() {
		_, err := e.ExecInstance(t.Context(), "", x.ID, req)
		done <- err
	}()
	go func() { <-out.wrote; close(begun) }()
	<-begun
	for range 3 { // beside a command, and a command beside them
		if _, err := e.Snapshot(t.Context(), "", x.ID, faas.SnapshotRequest{}); err != nil {
			t.Fatal(err)
		}
		if got, err := e.ExecInstance(t.Context(), "", x.ID, shell("echo beside")); err != nil || string(got.Stdout) != "beside\n" {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	beside(12, func(i int) {
		op := []func(context.Context, string, string) (*faas.Instance, error){e.StopInstance, e.StartInstance, e.PauseInstance, e.ResumeInstance}[i%4]
		if _, err := op(t.Context(), "", x.ID); err != nil && !errors.Is(err, faas.ErrFailedPrecondition) {
			t.Error(err)
		}
	})
	if now, err := e.Instance(t.Context(), "", x.ID); err != nil || !slices.Contains([]faas.InstanceStatus{faas.InstanceRunning, faas.InstancePaused, faas.InstanceStopped}, now.Status) {
		t.Errorf("%+v, %v", now, err)
	}
}

// waiting is a reader that ends with a line when it is released.
type waiting struct{ released chan struct{} }

func (w waiting) Read(p []byte) (int, error) {
	<-w.released
	return copy(p, "go\n"), nil
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came to be")
		}
	}
}
