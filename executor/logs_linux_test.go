package executor

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/executor/stream"
)

// readLog reads a log to its end, as text with ! before standard error.
func readLog(ctx context.Context, e *Executor, id string, from faas.LogPosition, follow bool) (string, faas.LogPosition, error) {
	var text strings.Builder
	at := from
	_, err := e.Logs(ctx, "", id, from, follow, func(p faas.LogPiece) error {
		if p.Stderr {
			text.WriteByte('!')
		}
		text.Write(p.Data)
		at = p.After
		return nil
	})
	return text.String(), at, err
}

func TestLogs(t *testing.T) {
	e := newExecutor(t, newMachine(t), nil)
	id := faas.NewID(faas.PrefixExecution)
	input, say := io.Pipe()
	done := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		_, err := e.Execute(context.Background(), faas.Request{
			ID: id, Command: []string{"sh", "-c", "echo one; read x; echo two >&2; read x; echo three"},
			Stdin: input, Started: func(faas.Execution) { close(started) },
		})
		done <- err
	}()
	<-started
	heard := make(chan string)
	followed := make(chan error, 1)
	go func() {
		_, err := e.Logs(context.Background(), "", id, faas.LogPosition{}, true, func(p faas.LogPiece) error {
			heard <- string(p.Data)
			return nil
		})
		followed <- err
	}()
	for _, want := range []string{"one\n", "two\n", "three\n"} {
		if got := <-heard; got != want {
			t.Errorf("%q, not %q", got, want)
		}
		if want != "three\n" {
			if now, _, err := readLog(t.Context(), e, id, faas.LogPosition{}, false); err != nil || !strings.HasSuffix(now, want) {
				t.Errorf("so far %q, %v", now, err)
			}
			io.WriteString(say, "\n") //nolint:errcheck
		}
	}
	if err := errors.Join(<-done, <-followed); err != nil {
		t.Error(err)
	}
	// From its record the two streams come one after the other.
	if got, at, err := readLog(t.Context(), e, id, faas.LogPosition{}, true); got != "one\nthree\n!two\n" || at != (faas.LogPosition{Stdout: 10, Stderr: 4}) || err != nil {
		t.Errorf("%q, %v, %v", got, at, err)
	}
	if got, _, err := readLog(t.Context(), e, id, faas.LogPosition{Stdout: 4, Stderr: 4}, true); got != "three\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, _, err := readLog(t.Context(), e, faas.NewID(faas.PrefixExecution), faas.LogPosition{}, true); !errors.Is(err, faas.ErrNotFound) {
		t.Error(err)
	}
}

// Beyond what is kept, those who follow get what comes, and are told of what
// they missed.
func TestLogsBeyondWhatIsKept(t *testing.T) {
	var o outputs
	o.open(faas.Request{Stdout: io.Discard})
	big := strings.Repeat("x", 100<<10)
	io.WriteString(&o.stdout, big) //nolint:errcheck
	f := &follower{o: &o}
	ended := make(chan struct{})
	var total, lost int64
	each := func(p faas.LogPiece) error {
		total += int64(len(p.Data))
		lost += p.Lost
		if lost == 0 {
			io.WriteString(&o.stdout, "more") //nolint:errcheck
		} else {
			close(ended)
		}
		return nil
	}
	if err := f.read(t.Context(), ended, true, each); err != nil {
		t.Fatal(err)
	}
	if total != 64<<10+4 || lost != 36<<10 || f.at[0] != total+lost {
		t.Errorf("%d bytes, %d lost, at %v", total, lost, f.at)
	}
}

func TestEvents(t *testing.T) {
	e := residents(t, newSaving(t), nil)
	since := e.LastEvent("")
	x := create(t, e, faas.InstanceRequest{Name: "a"})
	if _, err := e.ExecInstance(t.Context(), "", x.ID, faas.Request{Command: []string{"true"}}); err != nil {
		t.Fatal(err)
	}
	s, err := e.Snapshot(t.Context(), "", x.ID, faas.SnapshotRequest{Kind: faas.SnapshotFS})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.RemoveSnapshot(t.Context(), "", s.ID, false); err != nil {
		t.Fatal(err)
	}
	if err := e.DeleteInstance(t.Context(), "", x.ID); err != nil {
		t.Fatal(err)
	}
	want := []faas.EventType{
		faas.EventInstanceCreated, faas.EventInstanceChanged, faas.EventExecutionStarted, faas.EventExecutionEnded,
		faas.EventSnapshotCreated, faas.EventInstanceChanged, faas.EventSnapshotDeleted,
		faas.EventInstanceChanged, faas.EventInstanceDeleted,
	}
	var got []faas.EventType
	for len(got) < len(want) {
		found, _, lost, err := e.NextEvents(t.Context(), "", since)
		if err != nil || lost {
			t.Fatal(lost, err)
		}
		for _, f := range found {
			got, since = append(got, f.Value.Type), f.Seq
		}
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%v", got)
		}
	}
	if e.LastEvent("other") == e.LastEvent("") {
		t.Error("another project's events are these")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := e.NextEvents(ended, "", since); err == nil {
		t.Error("there is an event too many")
	}
}

// A command of a stream goes on across a pause, and ends with its instance.
func TestStream(t *testing.T) {
	e := residents(t, newSaving(t), nil)
	x := create(t, e, faas.InstanceRequest{})
	c, err := e.OpenStream(t.Context(), "", x.ID, stream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Leave()
	if _, err := e.OpenStream(t.Context(), "other", x.ID, stream.Options{}); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("another project's: %v", err)
	}
	var seen []*stream.Frame
	await := func(what string, is func(*stream.Frame) bool) *stream.Frame {
		t.Helper()
		for {
			for i, f := range seen {
				if is(f) {
					seen = seen[i+1:]
					return f
				}
			}
			found, err := c.Next(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			seen = found
		}
	}
	if _, err := c.Exec(faas.Request{Command: []string{"cat"}}, true); err != nil {
		t.Fatal(err)
	}
	cmd, err := c.Command("")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Input([]byte("a"))
	await("echo", func(f *stream.Frame) bool { return string(f.Data) == "a" })
	if _, err := e.PauseInstance(t.Context(), "", x.ID); err != nil {
		t.Fatal(err)
	}
	await("paused", func(f *stream.Frame) bool { return f.Kind == stream.State && f.Instance.Status == faas.InstancePaused })
	if _, err := e.ResumeInstance(t.Context(), "", x.ID); err != nil {
		t.Fatal(err)
	}
	cmd.Input([]byte("b"))
	await("echo after the pause", func(f *stream.Frame) bool { return string(f.Data) == "b" })
	put(t, e, x.ID, stream.EventsDir+"/progress", `{"done": 1}`)
	if f := await("event", func(f *stream.Frame) bool { return f.Kind == stream.Custom }); f.Name != "progress" || string(f.Value) != `{"done": 1}` {
		t.Errorf("%+v", f)
	}
	if err := c.Watch(t.Context(), stream.EventsDir, false); err != nil {
		t.Fatal(err)
	}
	put(t, e, x.ID, stream.EventsDir+"/.aside", "x")
	await("file event", func(f *stream.Frame) bool { return f.Kind == stream.File && strings.HasSuffix(f.Path, "/.aside") })
	if err := e.DeleteInstance(t.Context(), "", x.ID); err != nil {
		t.Fatal(err)
	}
	await("deleted", func(f *stream.Frame) bool {
		return f.Kind == stream.State && f.Instance.Status == faas.InstanceDeleting
	})
	if _, err := e.OpenStream(t.Context(), "", x.ID, stream.Options{}); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("of a deleted instance: %v", err)
	}
}
