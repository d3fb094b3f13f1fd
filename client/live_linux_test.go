package client_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest/fake"
	"github.com/faas-platform/faas/executor"
	"github.com/faas-platform/faas/internal/gateway"
)

// relay passes connections on, and cuts them when asked.
type relay struct {
	listener net.Listener
	mu       sync.Mutex
	conns    []net.Conn
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l}
	t.Cleanup(func() { l.Close(); r.cut() }) //nolint:errcheck // over
	go func() {
		for {
			outside, err := l.Accept()
			if err != nil {
				return
			}
			inside, err := net.Dial("tcp", to)
			if err != nil {
				outside.Close() //nolint:errcheck // over
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, outside, inside)
			r.mu.Unlock()
			go func() { io.Copy(inside, outside); inside.Close() }()  //nolint:errcheck // cut
			go func() { io.Copy(outside, inside); outside.Close() }() //nolint:errcheck // cut
		}
	}()
	return r
}

func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close() //nolint:errcheck // that is the point
	}
	r.conns = nil
}

// startLive is a client, through a relay, of a server on a fake machine that
// has an instance named box.
func startLive(t *testing.T) (*client.Client, *relay) {
	t.Helper()
	m := fake.NewMachine(t.TempDir(), faas.RuntimeNative)
	m.Offer(faas.FeatureNetworkNone, faas.FeatureUserNamespace,
		faas.FeatureLimitCPU, faas.FeatureLimitMemory, faas.FeatureLimitPIDs, faas.FeatureLimitDisk)
	e, err := executor.New(t.Context(), executor.Options{DataDir: t.TempDir(), Drivers: []driver.Driver{m.Open()}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Options{Executor: e})
	if err != nil {
		t.Fatal(err)
	}
	x, err := e.CreateInstance(t.Context(), faas.InstanceRequest{Name: "box"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config = g.Server()
	server.Start()
	r := newRelay(t, server.Listener.Addr().String())
	t.Cleanup(func() {
		r.cut()
		g.Close()
		server.Close()
		for what, err := range map[string]error{
			"delete": e.DeleteInstance(context.Background(), "", x.ID), "close": e.Close(context.Background()), "machine": m.Close(),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	c, err := client.New(client.Options{URL: "http://" + r.listener.Addr().String(), Key: "none"})
	if err != nil {
		t.Fatal(err)
	}
	return c, r
}

func TestFiles(t *testing.T) {
	c, _ := startLive(t)
	ctx := t.Context()
	info, err := c.WriteFile(ctx, "box", "/work/a", strings.NewReader("0123456789"), client.WriteOptions{Mode: 0o640})
	if err != nil || info.Mode != "0640" || info.SizeBytes != 10 {
		t.Fatalf("%+v, %v", info, err)
	}
	for _, c1 := range []struct {
		offset, length int64
		want           string
	}{{0, -1, "0123456789"}, {3, 2, "34"}, {8, -1, "89"}, {0, 0, ""}} {
		r, err := c.ReadFile(ctx, "box", "/work/a", c1.offset, c1.length)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close() //nolint:errcheck // read
		if string(got) != c1.want || err != nil {
			t.Errorf("%d+%d: %q, %v", c1.offset, c1.length, got, err)
		}
	}
	if _, err := c.MakeDirectory(ctx, "box", "/work/d"); err != nil {
		t.Error(err)
	}
	archive, err := c.ReadArchive(ctx, "box", "/work")
	if err != nil {
		t.Fatal(err)
	}
	packed, err := io.ReadAll(archive)
	archive.Close() //nolint:errcheck // read
	if _, tarErr := tar.NewReader(bytes.NewReader(packed)).Next(); err != nil || tarErr != nil {
		t.Error(err, tarErr)
	}
	if err := c.WriteArchive(ctx, "box", "/copy", bytes.NewReader(packed)); err != nil {
		t.Error(err)
	}
	if list, err := c.ListFiles(ctx, "box", "/copy"); err != nil || len(list) != 2 || list[1].Type != "directory" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := c.RemoveFile(ctx, "box", "/copy", true); err != nil {
		t.Error(err)
	}
	if _, err := c.ReadFile(ctx, "box", "/copy/a", 0, -1); faas.KindOf(err) != faas.KindNotFound {
		t.Error(err)
	}
	p, err := c.ExposePort(ctx, api.ExposeRequest{InstanceID: "box", InternalPort: 80})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := c.Ports(ctx, "box"); err != nil || len(list) != 1 || list[0].ID != p.ID {
		t.Errorf("%+v, %v", list, err)
	}
	if err := c.ClosePort(ctx, p.ID); err != nil {
		t.Error(err)
	}
}

// A stream whose connection is cut again and again has every line in order.
func TestStreamIsTakenUpAgain(t *testing.T) {
	c, relay := startLive(t)
	s, err := c.Stream(t.Context(), "box", client.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // over
	if err := s.Exec(t.Context(), api.ExecRequest{Command: api.Command{Shell: "for i in $(seq 3000); do echo $i; done; echo end"}}, nil); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	cuts := 0
	for frame, err := range s.Frames(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if frame.Type == api.FrameError {
			t.Fatalf("%+v", frame.Error)
		}
		got.Write(frame.Output())
		if frame.Type == api.FrameStdout && cuts < 3 {
			cuts++
			relay.cut()
		}
		if frame.Type == api.FrameExit {
			break
		}
	}
	var want strings.Builder
	for i := range 3000 {
		fmt.Fprintln(&want, i+1)
	}
	want.WriteString("end\n")
	if got.String() != want.String() {
		t.Errorf("%d bytes of %d after %d cuts", got.Len(), want.Len(), cuts)
	}
}

func TestTerminalIsTakenUpAgain(t *testing.T) {
	c, relay := startLive(t)
	input, typing := io.Pipe()
	seen := &watched{want: map[string]func(){}}
	seen.on("ready", func() {
		relay.cut()
		go io.WriteString(typing, "hello\r") //nolint:errcheck // seen by its echo
	})
	code, err := c.Terminal(t.Context(), "box", client.TerminalOptions{
		Command: []string{"sh", "-c", "echo ready; read x; echo got $x; exit 4"}, Size: faas.TerminalSize{Cols: 80, Rows: 24},
		Stdin: input, Stdout: seen,
	})
	if code != 4 || err != nil || !strings.Contains(seen.String(), "got hello") {
		t.Errorf("%d, %v, %q", code, err, seen.String())
	}
}

// watched is a writer that does something, once, when a text has come.
type watched struct {
	mu   sync.Mutex
	text strings.Builder
	want map[string]func()
}

func (w *watched) on(text string, do func()) { w.want[text] = do }

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	for text, do := range w.want {
		if strings.Contains(w.text.String(), text) {
			delete(w.want, text)
			do()
		}
	}
	return len(p), nil
}

func TestEventsAndLogsAreTakenUpAgain(t *testing.T) {
	c, relay := startLive(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var types []string
	begun := false
	for e, err := range c.Events(ctx, client.EventOptions{Since: 1, Types: []string{"execution"}}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == api.EventsLost {
			if !begun {
				begun = true
				if _, err := c.Execute(ctx, api.ExecuteRequest{Command: api.Command{Shell: "echo a; echo b >&2"}}); err != nil {
					t.Fatal(err)
				}
				relay.cut()
			}
			continue
		}
		types = append(types, string(e.Type))
		relay.cut()
		if e.Type == faas.EventExecutionEnded {
			var out strings.Builder
			last := ""
			for f, err := range c.FollowLogs(ctx, e.ID) {
				if err != nil {
					t.Fatal(err)
				}
				out.Write(f.Output())
				last = f.Type
			}
			logs, err := c.Logs(ctx, e.ID)
			if err != nil || logs.Stdout != "a\n" || logs.Stderr != "b\n" || len(out.String()) != 4 || last != api.FrameExit {
				t.Errorf("%+v, %v, %q, %s", logs, err, out.String(), last)
			}
			break
		}
	}
	if strings.Join(types, " ") != "execution.started execution.ended" {
		t.Errorf("%q", types)
	}
	if _, err := c.Logs(t.Context(), faas.NewID("exec")); faas.KindOf(err) != faas.KindNotFound {
		t.Error(err)
	}
	for _, err := range c.FollowLogs(t.Context(), faas.NewID("exec")) {
		if faas.KindOf(err) != faas.KindNotFound {
			t.Error(err)
		}
	}
}
