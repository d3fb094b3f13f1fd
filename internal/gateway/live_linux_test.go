package gateway

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest/fake"
	"github.com/faas-platform/faas/executor"
	"github.com/faas-platform/faas/internal/auth"
)

// startLive is a gateway over a real executor on a fake machine, with one
// instance of the default project.
func startLive(t testing.TB, change ...func(*Options)) (*fixture, *faas.Instance) {
	t.Helper()
	m := fake.NewMachine(t.TempDir(), faas.RuntimeNative)
	m.Offer(faas.FeatureNetworkNone, faas.FeatureUserNamespace, faas.FeatureSnapshotFS, faas.FeatureSnapshotFull,
		faas.FeatureLimitCPU, faas.FeatureLimitMemory, faas.FeatureLimitPIDs, faas.FeatureLimitDisk)
	e, err := executor.New(t.Context(), executor.Options{DataDir: t.TempDir(), Drivers: []driver.Driver{m.Open()}})
	if err != nil {
		t.Fatal(err)
	}
	x, err := e.CreateInstance(t.Context(), faas.InstanceRequest{Name: "box"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the gateway
		if err := e.DeleteInstance(context.Background(), "", x.ID); err != nil && faas.KindOf(err) != faas.KindNotFound {
			t.Error(err)
		}
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return start(t, append([]func(*Options){func(o *Options) { o.Executor = e }}, change...)...), x
}

func filesPath(what, path string, more ...string) string {
	query := url.Values{"path": {path}}
	for i := 0; i < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	return api.PathInstances + "/box/" + what + "?" + query.Encode()
}

func TestFiles(t *testing.T) {
	f, x := startLive(t)
	a := f.do(t, http.MethodPut, filesPath("files", "/work/a.txt", "mode", "750"), "0123456789")
	var info api.FileInfo
	if err := json.Unmarshal(a.body, &info); err != nil || a.status != 200 || info.Mode != "0750" || info.SizeBytes != 10 || info.Type != "file" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	a = f.do(t, http.MethodGet, filesPath("files", "/work/a.txt"), "")
	if a.status != 200 || string(a.body) != "0123456789" || a.header.Get(api.HeaderFileMode) != "0750" || a.header.Get("ETag") == "" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	if b := f.do(t, http.MethodGet, filesPath("files", "/work/a.txt"), "", "If-None-Match", a.header.Get("ETag")); b.status != 304 {
		t.Errorf("unchanged: %d", b.status)
	}
	for _, c := range []struct{ header, want string }{{"bytes=2-4", "234"}, {"bytes=-3", "789"}, {"bytes=7-", "789"}} {
		if b := f.do(t, http.MethodGet, filesPath("files", "/work/a.txt"), "", "Range", c.header); b.status != 206 || string(b.body) != c.want {
			t.Errorf("%s: %d %q", c.header, b.status, b.body)
		}
	}
	if b := f.do(t, http.MethodGet, filesPath("files", "/work/a.txt"), "", "Range", "bytes=50-").problem(t); b.Code != faas.KindInvalidArgument {
		t.Errorf("beyond the end: %s", b.Code)
	}
	if b := f.do(t, http.MethodHead, filesPath("files", "/work/a.txt"), ""); b.status != 200 || b.header.Get("Content-Length") != "10" {
		t.Errorf("HEAD: %d %v", b.status, b.header)
	}
	f.do(t, http.MethodPut, filesPath("files", "/work/a.txt", "append", "true"), "x")
	f.do(t, http.MethodPut, filesPath("files", "/work/sub", "directory", "true"), "")
	f.do(t, http.MethodPut, filesPath("files", "/work/empty"), "")
	if b := f.do(t, http.MethodGet, filesPath("files", "/work/empty"), ""); b.status != 200 || len(b.body) != 0 {
		t.Errorf("empty: %d %q", b.status, b.body)
	}
	var list api.FileList
	a = f.do(t, http.MethodGet, filesPath("files/list", "/work"), "")
	if err := json.Unmarshal(a.body, &list); err != nil || len(list.Files) != 3 || list.Files[0].SizeBytes != 11 || list.Files[2].Path != "/work/sub" || list.Files[2].Type != "directory" {
		t.Errorf("%d %s", a.status, a.body)
	}
	upload := fmt.Sprintf(`{"container_id": %q, "target_path": "/up/b", "files_data": [104, 105]}`, x.ID)
	if a = f.do(t, http.MethodPost, api.PathUpload, upload); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a = f.do(t, http.MethodGet, filesPath("files", "/up/b"), ""); string(a.body) != "hi" {
		t.Errorf("uploaded: %q", a.body)
	}
	for path, want := range map[string]faas.Kind{
		filesPath("files", "/nowhere"):                     faas.KindNotFound,
		filesPath("files", "relative"):                     faas.KindInvalidArgument,
		filesPath("files", "/work/sub"):                    faas.KindInvalidArgument,
		filesPath("files", "/work/a.txt", "mode", "1"):     faas.KindInvalidArgument,
		filesPath("archive", "/nowhere"):                   faas.KindNotFound,
		filesPath("files/list", "/work/a.txt"):             faas.KindInvalidArgument,
		api.PathInstances + "/other/files?path=/work":      faas.KindNotFound,
		api.PathInstances + "/box/files":                   faas.KindInvalidArgument,
		api.PathInstances + "/box/files?path=/a&path=/b":   faas.KindInvalidArgument,
		api.PathInstances + "/box/files/list?path=a%00%0a": faas.KindInvalidArgument,
	} {
		if p := f.do(t, http.MethodGet, path, "").problem(t); p.Code != want {
			t.Errorf("%s: %s %s", path, p.Code, p.Detail)
		}
	}
	if p := f.do(t, http.MethodPut, filesPath("files", "/work/a.txt", "mode", "9"), "").problem(t); p.Code != faas.KindInvalidArgument {
		t.Errorf("mode 9: %s", p.Detail)
	}
	if p := f.do(t, http.MethodDelete, filesPath("files", "/work"), "").problem(t); p.Code != faas.KindConflict {
		t.Errorf("a directory that is not empty: %s", p.Detail)
	}
	if a := f.do(t, http.MethodDelete, filesPath("files", "/work", "recursive", "true"), ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	other := []string{"Authorization", "Bearer " + f.keys[auth.RoleUser]}
	if p := f.do(t, http.MethodGet, api.PathInstances+"/"+x.ID+"/files?path=/up/b", "", other...).problem(t); p.Code != faas.KindNotFound {
		t.Errorf("another project's: %s", p.Detail)
	}
}

func TestArchive(t *testing.T) {
	f, _ := startLive(t)
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for name, content := range map[string]string{"a": "one", "d/b": "two"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o640, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content) //nolint:errcheck // a buffer
	}
	w.Close() //nolint:errcheck // a buffer
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(buffer.Bytes()) //nolint:errcheck // a buffer
	z.Close()               //nolint:errcheck // a buffer
	for i, c := range []struct {
		body  string
		media string
	}{{buffer.String(), "application/x-tar"}, {packed.String(), "application/gzip"}} {
		dir := fmt.Sprintf("/in%d", i)
		if a := f.do(t, http.MethodPut, filesPath("archive", dir), c.body, "Content-Type", c.media); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		a := f.do(t, http.MethodGet, filesPath("archive", dir), "")
		got := map[string]string{}
		for r := tar.NewReader(bytes.NewReader(a.body)); ; {
			h, err := r.Next()
			if err != nil {
				break
			}
			content, _ := io.ReadAll(r) //nolint:errcheck // compared below
			got[strings.TrimPrefix(h.Name, "./")] = string(content)
		}
		if a.header.Get("Content-Type") != "application/x-tar" || got["a"] != "one" || got["d/b"] != "two" {
			t.Errorf("%s: %v", dir, got)
		}
	}
	if p := f.do(t, http.MethodPut, filesPath("archive", "/in"), "no archive").problem(t); p.Status >= 500 {
		t.Errorf("%+v", p)
	}
}

// A body larger than what other routes take goes through.
func TestFilesHaveNoLimit(t *testing.T) {
	f, _ := startLive(t, func(o *Options) { o.MaxBodyBytes = 1 << 10 })
	content := strings.Repeat("0123456789abcdef", 1<<16)
	if a := f.do(t, http.MethodPut, filesPath("files", "/big"), content); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := f.do(t, http.MethodGet, filesPath("files", "/big"), ""); string(a.body) != content {
		t.Errorf("%d bytes of %d", len(a.body), len(content))
	}
}

// event is one server-sent event.
type event struct{ id, name, data string }

// follow opens an event stream; next returns its events, one a call.
func (f *fixture) follow(t *testing.T, path string, headers ...string) (next func() event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+f.keys[auth.RoleAdmin])
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := f.Client().Do(request) //nolint:bodyclose // ends with ctx
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %s", path, response.Status)
	}
	lines := bufio.NewScanner(response.Body)
	return func() event {
		t.Helper()
		var e event
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case lines.Text() == "" && e.name != "":
				return e
			case name == "id":
				e.id = value
			case name == "event":
				e.name = value
			case name == "data":
				e.data = value
			}
		}
		return e
	}
}

func TestLogs(t *testing.T) {
	f, _ := startLive(t)
	gate := make(chan struct{})
	started := make(chan string, 1)
	done := make(chan error, 1)
	go func() {
		_, err := f.gateway.opts.Executor.Execute(context.Background(), faas.Request{
			Command: []string{"sh", "-c", "printf 'h\\303'; printf '\\251\\n'; read x; echo bad >&2; exit 3"},
			Stdin:   readerFunc(func([]byte) (int, error) { <-gate; return 0, io.EOF }),
			Started: func(x faas.Execution) { started <- x.ID },
		})
		done <- err
	}()
	id := <-started
	next := f.follow(t, api.PathLogs+"/"+id+"/stream")
	text := func(e event) string {
		var frame api.ServerFrame
		if err := json.Unmarshal([]byte(e.data), &frame); err != nil {
			t.Fatalf("%v: %+v", err, e)
		}
		return string(frame.Output())
	}
	got, last := "", ""
	for !strings.HasSuffix(got, "\n") {
		e := next()
		got, last = got+text(e), e.id
	}
	if got != "hé\n" || last != "4-0" {
		t.Errorf("%q at %s", got, last)
	}
	var logs api.Logs
	if a := f.do(t, http.MethodGet, api.PathExecutions+"/"+id+"/logs", ""); json.Unmarshal(a.body, &logs) != nil || logs.Stdout != "hé\n" || logs.Status != faas.ExecutionRunning {
		t.Errorf("%s", a.body)
	}
	close(gate)
	if e := next(); e.name != api.FrameStderr || text(e) != "bad\n" {
		t.Errorf("%+v", e)
	}
	if e := next(); e.name != api.FrameExit || !strings.Contains(e.data, `"code":3`) {
		t.Errorf("%+v", e)
	}
	if e := next(); e.name != "" {
		t.Errorf("after the end: %+v", e)
	}
	<-done
	again := f.follow(t, api.PathLogs+"/"+id+"/stream", lastEventID, last)
	if e := again(); e.name != api.FrameStderr || text(e) != "bad\n" || e.id != "4-4" {
		t.Errorf("%+v", e)
	}
	if e := again(); e.name != api.FrameExit || e.id != "4-4" {
		t.Errorf("%+v", e)
	}
	for _, path := range []string{api.PathLogs + "/" + id + "/stream?since=x", api.PathLogs + "/" + id + "/stream?other=1"} {
		if p := f.do(t, http.MethodGet, path, "").problem(t); p.Code != faas.KindInvalidArgument {
			t.Errorf("%s: %s", path, p.Code)
		}
	}
	other := []string{"Authorization", "Bearer " + f.keys[auth.RoleUser]}
	if p := f.do(t, http.MethodGet, api.PathLogs+"/"+id+"/stream", "", other...).problem(t); p.Code != faas.KindNotFound {
		t.Errorf("another project's: %s", p.Code)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestEvents(t *testing.T) {
	f, x := startLive(t)
	next := f.follow(t, api.PathEvents)
	only := f.follow(t, api.PathEvents+"?types=execution,instance.deleted")
	if a := f.do(t, http.MethodPatch, api.PathInstances+"/box", `{"labels": {"a": "b"}}`); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	first := next()
	var changed api.Event
	if err := json.Unmarshal([]byte(first.data), &changed); err != nil || changed.Type != faas.EventInstanceChanged ||
		first.name != string(changed.Type) || changed.ID != x.ID || changed.Instance.Labels["a"] != "b" || first.id != fmt.Sprint(changed.Seq) {
		t.Errorf("%+v", first)
	}
	if a := f.do(t, http.MethodPost, api.PathInstances+"/box/exec", `{"command": "true"}`); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, want := range []faas.EventType{faas.EventExecutionStarted, faas.EventExecutionEnded} {
		if e := only(); e.name != string(want) {
			t.Errorf("%+v", e)
		}
	}
	again := f.follow(t, api.PathEvents, lastEventID, first.id)
	if e := again(); e.name != string(faas.EventExecutionStarted) {
		t.Errorf("%+v", e)
	}
	lost := f.follow(t, api.PathEvents, lastEventID, "5")
	if e := lost(); e.name != api.EventsLost {
		t.Errorf("%+v", e)
	}
	if p := f.do(t, http.MethodGet, api.PathEvents+"?since=x", "").problem(t); p.Code != faas.KindInvalidArgument {
		t.Error(p.Code)
	}
}

// live is a client of an instance's stream.
type live struct {
	t    *testing.T
	conn *websocket.Conn
	last int64
}

func (f *fixture) stream(t *testing.T, query string, headers ...string) *live {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + f.keys[auth.RoleAdmin]}}
	for i := 0; i < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	conn, _, err := websocket.Dial(t.Context(), f.URL+api.PathInstances+"/box/stream"+query, &websocket.DialOptions{HTTPHeader: header}) //nolint:bodyclose // the library's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() }) //nolint:errcheck // over
	conn.SetReadLimit(1 << 20)
	return &live{t: t, conn: conn}
}

func (l *live) send(frame string) {
	l.t.Helper()
	if err := l.conn.Write(l.t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		l.t.Fatal(err)
	}
}

// await reads frames until one is as wanted; binary ones are of type binary.
func (l *live) await(what string, is func(api.StreamFrame) bool) api.StreamFrame {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	for {
		kind, body, err := l.conn.Read(ctx)
		if err != nil {
			l.t.Fatalf("%s: %v", what, err)
		}
		frame := api.StreamFrame{Type: "binary", DataBase64: body}
		if kind == websocket.MessageText {
			if err := json.Unmarshal(body, &frame); err != nil {
				l.t.Fatalf("%v: %s", err, body)
			}
			l.last = frame.Seq
		}
		if is(frame) {
			return frame
		}
	}
}

func output(want string) func(api.StreamFrame) bool {
	var got strings.Builder
	return func(f api.StreamFrame) bool {
		if f.Type == api.FrameStdout {
			got.Write(f.Output())
		}
		return strings.Contains(got.String(), want)
	}
}

func ofType(kind string) func(api.StreamFrame) bool {
	return func(f api.StreamFrame) bool { return f.Type == kind }
}

func TestStream(t *testing.T) {
	f, _ := startLive(t)
	l := f.stream(t, "")
	session := l.await("state", ofType(api.FrameState))
	if session.State != "running" || session.Session == "" || session.Instance.Name != "box" {
		t.Fatalf("%+v", session)
	}
	l.send(`{"type": "exec", "command": ["cat"]}`)
	started := l.await("started", ofType(api.FrameStarted))
	l.send(`{"type": "stdin", "data": "one\n"}`)
	l.await("echo", output("one"))
	l.conn.CloseNow() //nolint:errcheck // as a connection that is lost
	// Meanwhile someone else, who sees nothing of it.
	other := f.stream(t, "")
	other.send(`{"type": "stdin", "data": "x"}`)
	if e := other.await("error", ofType(api.FrameError)); e.Error.Code != faas.KindFailedPrecondition {
		t.Errorf("%+v", e.Error)
	}
	again := f.stream(t, fmt.Sprintf("?since=%d&session=%s", l.last, session.Session))
	again.send(fmt.Sprintf(`{"type": "stdin", "id": %q, "data": "two\n"}`, started.ID))
	again.await("echo", output("two"))
	all := f.stream(t, "?since=0")
	all.await("everything", output("one\ntwo\n"))
	for _, bad := range []string{`{}`, `x`, `{"type": "dance"}`, `{"type": "exec"}`, `{"type": "exec", "command": "x", "image": "y"}`, `{"type": "stdin", "more": 1}`, `{"type": "signal", "signal": "NONE"}`, `{"type": "watch", "path": "a"}`} {
		again.send(bad)
		if e := again.await(bad, ofType(api.FrameError)); e.Error.Code != faas.KindInvalidArgument {
			t.Errorf("%s: %+v", bad, e.Error)
		}
	}
	again.send(`{"type": "checkpoint", "name": "saved"}`)
	if s := again.await("checkpoint", ofType(api.FrameState)); s.SnapshotID == "" {
		t.Errorf("%+v", s)
	}
	again.send(`{"type": "watch", "path": "/"}`)
	again.send(`{"type": "get_state"}`)
	again.await("state", ofType(api.FrameState))
	f.do(t, http.MethodPut, filesPath("files", "/seen"), "x")
	again.await("file event", func(f api.StreamFrame) bool { return f.Type == api.FrameFileEvent && f.Path == "/seen" })
	again.send(`{"type": "close_stdin"}`)
	if e := again.await("exit", ofType(api.FrameExit)); *e.Code != 0 || e.ID != started.ID {
		t.Errorf("%+v", e)
	}
	again.send(`{"type": "stop"}`)
	again.await("stopped", func(f api.StreamFrame) bool { return f.Type == api.FrameState && f.State == "stopped" })
	all.await("stopped", func(f api.StreamFrame) bool { return f.Type == api.FrameState && f.State == "stopped" })
	f.do(t, http.MethodDelete, api.PathInstances+"/box", "")
	if e := other.await("the end", func(f api.StreamFrame) bool { return f.Type == api.FrameError && f.Error.Code == faas.KindNotFound }); e.Error.Detail == "" {
		t.Errorf("%+v", e)
	}
}

func TestStreamTerminalInBinary(t *testing.T) {
	f, _ := startLive(t)
	l := f.stream(t, "?binary=1&processes=1")
	l.send(`{"type": "exec", "command": "stty size; read x; echo got $x", "tty": true, "cols": 90, "rows": 30}`)
	var got strings.Builder
	raw := func(want string) func(api.StreamFrame) bool {
		return func(f api.StreamFrame) bool {
			if f.Type == "binary" {
				got.Write(f.DataBase64)
			}
			return strings.Contains(got.String(), want)
		}
	}
	l.await("size", raw("30 90"))
	if beat := l.await("number", ofType(api.FrameHeartbeat)); beat.Seq == 0 {
		t.Errorf("%+v", beat)
	}
	if err := l.conn.Write(t.Context(), websocket.MessageBinary, []byte("it\r")); err != nil {
		t.Fatal(err)
	}
	l.await("answer", raw("got it"))
	l.await("exit", ofType(api.FrameExit))
}

func TestStreamIsGuarded(t *testing.T) {
	f, _ := startLive(t)
	viewer := f.stream(t, "", "Authorization", "Bearer "+f.keys[auth.RoleReadOnly])
	for _, frame := range []string{`{"type": "exec", "command": "true"}`, `{"type": "stop"}`, `{"type": "stdin", "data": "x"}`} {
		viewer.send(frame)
		if e := viewer.await(frame, ofType(api.FrameError)); e.Error.Code != faas.KindPermissionDenied {
			t.Errorf("%s: %+v", frame, e.Error)
		}
	}
	for query, want := range map[string]faas.Kind{"": faas.KindInvalidArgument, "?since=x": faas.KindInvalidArgument, "?session=x&since=1": faas.KindInvalidArgument, "?bin=1": faas.KindInvalidArgument} {
		if p := f.do(t, http.MethodGet, api.PathInstances+"/box/stream"+query, "").problem(t); p.Code != want {
			t.Errorf("%q: %s", query, p.Code)
		}
	}
	for _, path := range []string{api.PathInstances + "/none/stream", "/api/v1/containers/none/stream"} {
		if p := f.do(t, http.MethodGet, path, "", "Upgrade", "websocket", "Connection", "Upgrade").problem(t); p.Code != faas.KindNotFound {
			t.Errorf("%s: %s", path, p.Code)
		}
	}
	// What has no end of its own ends when the server goes away.
	next := f.follow(t, api.PathEvents)
	drained := make(chan error, 1)
	go func() { drained <- f.gateway.Drain(context.Background()) }()
	viewer.await("goodbye", func(f api.StreamFrame) bool { return f.Type == api.FrameError && f.Error.Code == faas.KindUnavailable })
	if e := next(); e.name != "" {
		t.Errorf("%+v", e)
	}
	viewer.conn.CloseNow() //nolint:errcheck // over
	if err := <-drained; err != nil {
		t.Error(err)
	}
}
