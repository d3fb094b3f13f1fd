package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

// fakeInstance runs functions in the place of commands.
type fakeInstance struct {
	run func(ctx context.Context, req faas.Request) (*faas.Result, error)
}

func (f fakeInstance) Exec(ctx context.Context, req faas.Request) (*faas.Result, error) {
	return f.run(ctx, req)
}

func (fakeInstance) Agent() *guest.Client { return nil }

// newTestHub returns a hub whose tasks are waited for at the end.
func newTestHub(t *testing.T, run func(ctx context.Context, req faas.Request) (*faas.Result, error)) *Hub {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tasks := &sync.WaitGroup{}
	h := NewHub(ctx, tasks, fakeInstance{run})
	t.Cleanup(func() {
		h.Close(errors.New("the test is over"))
		cancel()
		tasks.Wait()
	})
	return h
}

func join(t *testing.T, h *Hub, opts Options) *Conn {
	t.Helper()
	c, err := h.Join(opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// collect reads frames until enough says so.
func collect(t *testing.T, c *Conn, enough func(*Frame) bool) []*Frame {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all []*Frame
	for {
		found, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("after %d frames: %v", len(all), err)
		}
		for i, f := range found {
			if n := len(all); n > 0 && f.Seq <= all[n-1].Seq && f.Kind != Failed {
				t.Errorf("frame %d after %d", f.Seq, all[n-1].Seq)
			}
			all = append(all, f)
			if enough(f) {
				if i < len(found)-1 {
					t.Errorf("%d frames came with the last", len(found)-1-i)
				}
				return all
			}
		}
	}
}

func isExit(f *Frame) bool { return f.Kind == Exit || f.Kind == Failed && f.Exec != "" }

func text(frames []*Frame) string {
	var b strings.Builder
	for _, f := range frames {
		b.Write(f.Data)
	}
	return b.String()
}

func TestCommandWithInput(t *testing.T) {
	h := newTestHub(t, func(_ context.Context, req faas.Request) (*faas.Result, error) {
		req.Started(faas.Execution{ID: req.ID, Command: req.Command})
		size := <-req.Resize
		for size.Cols == 1 {
			size = <-req.Resize
		}
		signal := <-req.Signals
		fmt.Fprintf(req.Stdout, "%v %v ", size, signal)
		_, err := io.Copy(req.Stderr, req.Stdin)
		return &faas.Result{ID: req.ID, ExitCode: 3}, err
	})
	c, other := join(t, h, Options{}), join(t, h, Options{})
	if _, err := c.Command(""); faas.KindOf(err) != faas.KindFailedPrecondition {
		t.Errorf("input for nothing: %v", err)
	}
	id, err := c.Exec(faas.Request{Command: []string{"x"}}, true)
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := c.Command("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Command(id); err == nil {
		t.Error("another session's command takes input")
	}
	cmd.Resize(faas.TerminalSize{Cols: 1, Rows: 2})
	cmd.Resize(faas.TerminalSize{Cols: 3, Rows: 4})
	if err := cmd.Signal(syscall.SIGHUP); err != nil {
		t.Error(err)
	}
	cmd.Input([]byte("in"))
	cmd.CloseInput()
	frames := collect(t, c, isExit)
	if got := text(frames); got != "{3 4} hangup in" {
		t.Errorf("output %q", got)
	}
	if last := frames[len(frames)-1]; frames[0].Kind != Started || last.Exec != id || last.Result.ExitCode != 3 {
		t.Errorf("%+v … %+v", frames[0], last)
	}
	h.Tell(Frame{Kind: State})
	for _, c := range []*Conn{c, other} {
		if f := collect(t, c, func(*Frame) bool { return true }); f[0].Kind != State {
			t.Errorf("%+v", f[0])
		}
	}
}

// A client that comes back misses nothing of what its command wrote meanwhile,
// and the command waits where it would be too far ahead.
func TestResume(t *testing.T) {
	const size = 3 << 20
	go1, written := make(chan struct{}), make(chan struct{})
	h := newTestHub(t, func(_ context.Context, req faas.Request) (*faas.Result, error) {
		io.WriteString(req.Stdout, "begin ") //nolint:errcheck
		<-go1
		piece := strings.Repeat("x", 4096)
		for range size / len(piece) {
			if _, err := io.WriteString(req.Stdout, piece); err != nil {
				return nil, err
			}
		}
		close(written)
		return &faas.Result{ID: req.ID}, nil
	})
	c := join(t, h, Options{})
	session := c.Session()
	if _, err := c.Exec(faas.Request{Command: []string{"x"}}, false); err != nil {
		t.Fatal(err)
	}
	frames := collect(t, c, func(f *Frame) bool { return f.Kind == Stdout })
	c.Leave()
	c.Leave()
	close(go1)
	h.mu.Lock()
	s := h.sessions[session]
	h.mu.Unlock()
	for {
		h.mu.Lock()
		ahead := s.ahead()
		h.mu.Unlock()
		if ahead >= aheadBytes {
			break
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case <-written:
		t.Error("the command did not wait for its client")
	default:
	}
	again := join(t, h, Options{Resume: true, Since: frames[len(frames)-1].Seq, Session: session})
	if got := len(text(collect(t, again, isExit))); got != size {
		t.Errorf("%d bytes of %d", got, size)
	}
	<-written
	// The whole once more, for one who knows no session: the beginning is gone.
	all := join(t, h, Options{Resume: true, Since: frames[0].Seq})
	if f := collect(t, all, isExit); f[0].Kind != Failed || faas.KindOf(f[0].Err) != faas.KindFailedPrecondition || len(text(f)) < keptBytes/2 {
		t.Errorf("%+v, %d bytes", f[0], len(text(f)))
	}
	// From the beginning of what there is needs no telling.
	kept := join(t, h, Options{Resume: true})
	if f := collect(t, kept, isExit); f[0].Kind != Stdout {
		t.Errorf("%+v", f[0])
	}
	gone := join(t, h, Options{Resume: true, Session: "strm-x", Since: 5})
	if f := collect(t, gone, func(*Frame) bool { return true }); !strings.Contains(f[0].Err.Error(), "strm-x") {
		t.Errorf("%v", f[0].Err)
	}
}

// One who follows everything is never waited for.
func TestSlowFollower(t *testing.T) {
	h := newTestHub(t, func(_ context.Context, req faas.Request) (*faas.Result, error) {
		piece := strings.Repeat("x", 4096)
		for range 2 * keptBytes / len(piece) {
			if _, err := io.WriteString(req.Stdout, piece); err != nil {
				return nil, err
			}
		}
		return &faas.Result{ID: req.ID}, nil
	})
	c := join(t, h, Options{})
	h.Tell(Frame{Kind: State})
	slow := join(t, h, Options{Resume: true})
	collect(t, slow, func(f *Frame) bool { return f.Kind == State })
	if _, err := c.Exec(faas.Request{Command: []string{"x"}}, false); err != nil {
		t.Fatal(err)
	}
	collect(t, c, isExit)
	if _, err := slow.Next(t.Context()); !errors.Is(err, ErrSlow) {
		t.Errorf("%v", err)
	}
}

// Commands end with their session, sessions some time after their client.
func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		h := newTestHub(t, func(ctx context.Context, _ faas.Request) (*faas.Result, error) {
			<-ctx.Done()
			close(ended)
			return nil, ctx.Err()
		})
		idle := join(t, h, Options{})
		idle.Leave()
		if len(h.sessions) != 0 {
			t.Error("a session that did nothing stays")
		}
		c := join(t, h, Options{})
		if _, err := c.Exec(faas.Request{Command: []string{"x"}}, false); err != nil {
			t.Fatal(err)
		}
		c.Leave()
		time.Sleep(Grace - time.Second)
		again := join(t, h, Options{Resume: true, Session: c.session.id})
		time.Sleep(2 * Grace)
		again.Leave()
		time.Sleep(Grace - time.Second)
		select {
		case <-ended:
			t.Error("the command ended early")
		default:
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		<-ended
		if len(h.sessions) != 0 {
			t.Error("the session stays")
		}
	})
}

func TestClose(t *testing.T) {
	h := newTestHub(t, nil)
	c := join(t, h, Options{})
	cause := faas.Errorf(faas.KindNotFound, "deleted")
	h.Close(cause)
	if _, err := c.Next(t.Context()); err != cause { //nolint:errorlint // that very one
		t.Error(err)
	}
	if _, err := h.Join(Options{}); err != cause { //nolint:errorlint // that very one
		t.Error(err)
	}
}

func TestFeed(t *testing.T) {
	f := NewFeed[int](10 * (overhead + 1))
	start := f.Last()
	for i := range 100 {
		f.Add(i, 1)
	}
	found, _, lost, err := f.Next(t.Context(), start)
	if err != nil || !lost || len(found) != 10 || found[0].Value != 90 || found[9].Seq != f.Last() {
		t.Errorf("%v, %v, %v", found, lost, err)
	}
	if found, _, lost, _ := f.Next(t.Context(), found[7].Seq); lost || len(found) != 2 {
		t.Errorf("%v, %v", found, lost)
	}
	if _, _, lost, _ := f.Next(t.Context(), f.Last()+5); !lost {
		t.Error("a number of another process is taken for ours")
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if _, _, _, err := f.Next(ctx, f.Last()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go f.Add(7, 1)
	if found, _, _, err := f.Next(t.Context(), f.Last()); err != nil || len(found) != 1 && found[0].Value != 7 {
		t.Errorf("%v, %v", found, err)
	}
}

func TestText(t *testing.T) {
	var got []string
	w := &TextWriter{Send: func(p []byte) error { got = append(got, string(p)); return nil }}
	for _, p := range []string{"a\xc3", "\xa9b", "\xe2\x82", "\xac", "\xff", "\xf0\x9f"} {
		if n, err := w.Write([]byte(p)); err != nil || n != len(p) {
			t.Errorf("%d, %v", n, err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
	if want := []string{"a", "éb", "€", "\xff", "\xf0\x9f"}; fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("%q", got)
	}
}
