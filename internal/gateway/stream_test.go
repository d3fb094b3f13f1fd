package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

// writes makes an execution that writes to its streams.
func writes(result *faas.Result, err error, pieces ...string) func(context.Context, faas.Request) (*faas.Result, error) {
	return func(_ context.Context, req faas.Request) (*faas.Result, error) {
		if req.Started != nil {
			req.Started(faas.Execution{ID: req.ID})
		}
		for _, piece := range pieces {
			to := req.Stdout
			if rest, isErr := strings.CutPrefix(piece, "2>"); isErr {
				piece, to = rest, req.Stderr
			}
			if to == nil {
				continue
			}
			if _, err := io.WriteString(to, piece); err != nil {
				return nil, err
			}
		}
		return result, err
	}
}

func events(t *testing.T, body []byte) []api.ServerFrame {
	t.Helper()
	var all []api.ServerFrame
	var name string
	scanner := bufio.NewScanner(bytes.NewReader(body))
	for scanner.Scan() {
		key, value, _ := strings.Cut(scanner.Text(), ": ")
		switch key {
		case "event":
			name = value
		case "data":
			var frame api.ServerFrame
			if err := json.Unmarshal([]byte(value), &frame); err != nil {
				t.Fatalf("%v in %q", err, value)
			}
			if frame.Type != name || frame.Seq != int64(len(all)+1) {
				t.Errorf("event %q holds %q, number %d", name, frame.Type, frame.Seq)
			}
			all = append(all, frame)
		}
	}
	return all
}

func TestEventStream(t *testing.T) {
	f := start(t)
	// A character cut in two, in bytes that are no text, and at the very end.
	f.fake.run = writes(&faas.Result{ExitCode: 3, Signal: "", RuntimeUsed: "native"}, nil, "a\xc3", "\xa9b", "2>e", "\xff", "\xe2\x82")
	a := f.do(t, "POST", api.PathExecute, `{"command":"x"}`, "Accept", "text/event-stream")
	if a.status != 200 || a.header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	var got []string
	for _, e := range events(t, a.body) {
		switch e.Type {
		case api.FrameStdout, api.FrameStderr:
			form := "text"
			if e.Data == nil {
				form = "bytes"
			}
			got = append(got, e.Type+" "+form+" "+string(e.Output()))
		case api.FrameExit:
			got = append(got, "exit "+itoa(*e.Code))
		case api.FrameResult:
			got = append(got, "result "+string(e.Result.RuntimeUsed))
		case api.FrameStarted:
			got = append(got, "started")
			if e.ID != a.header.Get(api.HeaderExecutionID) {
				t.Errorf("id %q", e.ID)
			}
		}
	}
	want := []string{"started", "stdout text a", "stdout text éb", "stderr text e", "stdout bytes \xff", "stdout bytes \xe2\x82", "exit 3", "result native"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEventStreamEndsInError(t *testing.T) {
	f := start(t)
	f.fake.run = writes(nil, faas.Errorf(faas.KindUnavailable, "it broke"), "a")
	all := events(t, f.do(t, "POST", api.PathExecute, `{"command":"x"}`, "Accept", "text/event-stream").body)
	last := all[len(all)-1]
	if last.Type != api.FrameError || last.Error.Code != faas.KindUnavailable || last.Error.RequestID == "" {
		t.Errorf("%+v", last)
	}
}

func TestHeartbeats(t *testing.T) {
	f := start(t)
	release := make(chan struct{})
	s := make(chan *eventStream, 1)
	mux := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stream := &eventStream{w: w, control: http.NewResponseController(w)}
		s <- stream
		stop := stream.beat(time.Millisecond)
		<-release
		stop()
	})
	f.Config.Handler = mux
	response, err := http.Get(f.URL) //nolint:noctx // the server is the test's own
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	line, err := bufio.NewReader(response.Body).ReadString('\n')
	close(release)
	if err != nil || line != ": heartbeat\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestRawStream(t *testing.T) {
	f := start(t)
	big := strings.Repeat("\x00\xff\n", 1<<20)
	f.fake.run = func(ctx context.Context, req faas.Request) (*faas.Result, error) {
		if req.OutputLimit != rawStderr || req.Stderr != nil {
			t.Errorf("limit %d, stderr %v", req.OutputLimit, req.Stderr)
		}
		return writes(&faas.Result{ID: req.ID, ExitCode: 7, Stderr: []byte("é\n")}, nil, big)(ctx, req)
	}
	a := f.do(t, "POST", api.PathExecute, `{"command":"x"}`, "Accept", "application/octet-stream")
	if a.status != 200 || string(a.body) != big {
		t.Fatalf("%d, %d bytes", a.status, len(a.body))
	}
	var result api.ExecuteResponse
	if err := json.Unmarshal([]byte(a.trailer.Get(api.TrailerResult)), &result); err != nil {
		t.Fatal(err)
	}
	if a.trailer.Get(api.TrailerExitCode) != "7" || result.ExitCode != 7 || result.Stderr != "é\n" || a.trailer.Get(api.TrailerError) != "" {
		t.Errorf("%v", a.trailer)
	}
}

func TestRawStreamBreaksOff(t *testing.T) {
	f := start(t)
	f.fake.run = writes(nil, faas.Errorf(faas.KindUnavailable, "it broke – off"), "a")
	a := f.do(t, "POST", api.PathExecute, `{"command":"x"}`, "Accept", "application/octet-stream")
	var p api.Problem
	if err := json.Unmarshal([]byte(a.trailer.Get(api.TrailerError)), &p); err != nil || p.Detail != "it broke – off" {
		t.Errorf("%v %v", err, a.trailer)
	}
	if a.trailer.Get(api.TrailerExitCode) != "" {
		t.Error("there is an exit code")
	}
}

func TestAccepted(t *testing.T) {
	for accept, want := range map[string]string{
		"": "application/json", "*/*": "application/json", "text/html": "application/json",
		"text/event-stream": "text/event-stream", "text/html, application/octet-stream;q=0.5": "application/octet-stream",
		"application/json, text/event-stream": "application/json", ";;": "application/json",
	} {
		if got := accepted([]string{accept}); got != want {
			t.Errorf("%q: %s", accept, got)
		}
	}
}

// Whoever leaves takes the command along, in every form of answer.
func TestDisconnectCancels(t *testing.T) {
	f := start(t)
	running, ended := make(chan struct{}), make(chan error, 1)
	f.fake.run = func(ctx context.Context, _ faas.Request) (*faas.Result, error) {
		running <- struct{}{}
		select {
		case <-ctx.Done():
			ended <- ctx.Err()
		case <-time.After(20 * time.Second):
			ended <- errors.New("not cancelled")
		}
		return nil, context.Canceled
	}
	for _, accept := range []string{"application/json", "text/event-stream", "application/octet-stream"} {
		ctx, leave := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL+api.PathExecute, strings.NewReader(`{"command":"x","stdin":"in"}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+f.keys[auth.RoleAdmin])
		request.Header.Set("Accept", accept)
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			if response, err := f.Client().Do(request); err == nil {
				response.Body.Close()
			}
		}()
		<-running
		leave()
		<-gone
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", accept, err)
		}
	}
}
