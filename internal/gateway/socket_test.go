package gateway

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

// connect opens the WebSocket with a role's key.
func (f *fixture) connect(t *testing.T, role auth.Role, query string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	conn, response, err := websocket.Dial(ctx, f.URL+api.PathExecuteSocket+query, &websocket.DialOptions{ //nolint:bodyclose // the library's
		HTTPHeader: http.Header{"Authorization": {"Bearer " + f.keys[role]}},
	})
	if err == nil {
		t.Cleanup(func() { conn.CloseNow() }) //nolint:errcheck // closed already, mostly
	}
	return conn, response, err
}

// converse sends the first text frame, the others once the execution has
// started, and reads to the end: each server frame's type with what matters of
// it.
func converse(t *testing.T, conn *websocket.Conn, frames ...string) []string {
	t.Helper()
	send := func(frames []string) {
		for _, frame := range frames {
			if err := conn.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(frames[:1])
	var got []string
	for seq := int64(1); ; seq++ {
		kind, content, err := conn.Read(t.Context())
		if err != nil {
			return got
		}
		if kind == websocket.MessageBinary {
			got = append(got, "binary "+string(content))
			continue
		}
		var frame api.ServerFrame
		if err := json.Unmarshal(content, &frame); err != nil {
			t.Fatal(err)
		}
		if frame.Seq != seq {
			t.Errorf("frame %d has number %d", seq, frame.Seq)
		}
		switch frame.Type {
		case api.FrameStdout, api.FrameStderr:
			got = append(got, frame.Type+" "+string(frame.Output()))
		case api.FrameError:
			got = append(got, "error "+frame.Error.Detail)
		case api.FrameExit:
			got = append(got, "exit "+itoa(*frame.Code))
		case api.FrameStarted:
			got = append(got, frame.Type)
			send(frames[1:])
		default:
			got = append(got, frame.Type)
		}
	}
}

// echo is an execution that repeats its input.
func echo(_ context.Context, req faas.Request) (*faas.Result, error) {
	req.Started(faas.Execution{ID: req.ID})
	_, err := io.Copy(req.Stdout, req.Stdin)
	return &faas.Result{ID: req.ID, ExitCode: 4}, err
}

func TestSocket(t *testing.T) {
	f := start(t)
	f.fake.run = echo
	tests := map[string]struct {
		query  string
		frames []string
		want   []string
	}{
		"text": {"", []string{
			`{"type":"exec","command":"x","tty":true,"cols":10}`, `{"type":"stdin","data":"é"}`,
			`{"type":"resize","cols":1,"rows":2}`, `{"type":"close_stdin"}`,
		}, []string{"started", "stdout é", "exit 4", "result"}},
		"input in the first frame": {"", []string{`{"type":"exec","command":"x","stdin":"all"}`}, []string{"started", "stdout all", "exit 4", "result"}},
		"binary output":            {"?binary=1", []string{`{"type":"exec","command":"x","stdin_base64":"/w=="}`}, []string{"started", "binary \xff", "exit 4", "result"}},
		"bad frames do not end it": {"", []string{
			`{"type":"exec","command":"x"}`, `{"type":"dance"}`, `{"type":"signal","signal":"SIGNONE"}`, `nonsense`, `{"type":"close_stdin"}`,
		}, []string{"started", `error type: there is no frame "dance"`, `error signal: there is no signal "SIGNONE"`, "error body: is not a frame: invalid character 'o' in literal null (expecting 'u')", "exit 4", "result"}},
		"not exec first":   {"", []string{`{"type":"stdin","data":"x","command":"x"}`}, []string{"error data: there is no such field"}},
		"wrong type first": {"", []string{`{"type":"resize","command":"x"}`}, []string{"error type: the first frame must be exec"}},
		"unknown field":    {"", []string{`{"type":"exec","command":"x","colour":"red"}`}, []string{"error colour: there is no such field"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			conn, _, err := f.connect(t, auth.RoleAdmin, test.query)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, converse(t, conn, test.frames...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSocketRefuses(t *testing.T) {
	f := start(t)
	for query, role := range map[string]auth.Role{"": auth.RoleReadOnly, "?colour=red": auth.RoleAdmin, "?binary=2": auth.RoleAdmin} {
		_, response, err := f.connect(t, role, query)
		if err == nil || response == nil || response.StatusCode/100 != 4 {
			t.Errorf("%q as %s: %v %v", query, role, response, err)
		}
	}
}

func TestSignalNames(t *testing.T) {
	for name, want := range map[string]int{"SIGINT": 2, "int": 2, "15": 15, "SIGKILL": 9, "64": 64} {
		if got, err := signalOf(name); err != nil || got != want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "0", "65", "-1", "SIGSIG"} {
		if got, err := signalOf(name); err == nil {
			t.Errorf("%q: %d", name, got)
		}
	}
}
