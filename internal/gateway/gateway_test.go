package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

func TestExecuteAnswer(t *testing.T) {
	f := start(t)
	f.fake.run = func(_ context.Context, req faas.Request) (*faas.Result, error) {
		return &faas.Result{
			ID: req.ID, ExitCode: 137, Signal: "SIGKILL", Stdout: []byte("a\xff"), Stderr: []byte("é<"),
			Truncated: true, TimedOut: true, LimitsHit: []faas.LimitHit{faas.LimitTimeout}, Error: "timed out",
			DurationMS: 1.5, QueuedMS: .5, CacheHit: true, RuntimeUsed: faas.RuntimeGVisor, Degraded: "d",
			SnapshotID: "snap-1", InstanceID: "inst-1", Usage: faas.Usage{CPUMS: 3, MaxMemoryBytes: 4},
		}, nil
	}
	for _, path := range []string{api.PathExecute, api.PathExecuteAdvanced} {
		a := f.do(t, "POST", path, `{"command":"x"}`)
		if a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		id := f.fake.last(t).ID
		want := `{"request_id":"` + id + `","exit_code":137,"signal":"SIGKILL","stdout":"a\ufffd","stderr":"é<","stdout_base64":"Yf8=",` +
			`"truncated":true,"timed_out":true,"limits_hit":["timeout"],"duration_ms":1.5,"queued_ms":0.5,"cache_hit":true,"runtime_used":"gvisor",` +
			`"degraded":"d","snapshot_id":"snap-1","instance_id":"inst-1","usage":{"cpu_ms":3,"max_memory_bytes":4},` +
			`"output":"a\ufffd","logs":"é<","error":"timed out"}` + "\n"
		if got := strings.ReplaceAll(string(a.body), "\uFFFD", `\ufffd`); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if a.header.Get(api.HeaderExecutionID) != id || !faas.ValidID(faas.PrefixExecution, id) {
			t.Errorf("execution id %q, header %q", id, a.header.Get(api.HeaderExecutionID))
		}
		if f.fake.last(t).Project != faas.DefaultProject {
			t.Errorf("project %q", f.fake.last(t).Project)
		}
	}
}

func TestErrors(t *testing.T) {
	secret := errors.New("/var/lib/secret")
	tests := []struct {
		err    error
		status int
		want   api.Problem
		retry  string
	}{
		{&faas.Error{Kind: faas.KindInvalidArgument, Field: "image", Detail: "is odd"}, 400, api.Problem{Code: "invalid_argument", Detail: "image: is odd", Errors: []api.FieldError{{Field: "image", Reason: "is odd"}}}, ""},
		{faas.ErrPermissionDenied, 403, api.Problem{Code: "permission_denied", Detail: "permission_denied"}, ""},
		{faas.Errorf(faas.KindNotFound, "no image"), 404, api.Problem{Code: "not_found", Detail: "no image"}, ""},
		{faas.Errorf(faas.KindConflict, "c"), 409, api.Problem{Code: "conflict", Detail: "c"}, ""},
		{faas.Errorf(faas.KindFailedPrecondition, "c"), 409, api.Problem{Code: "failed_precondition", Detail: "c"}, ""},
		{faas.Unavailable("no kvm", "load the module"), 422, api.Problem{Code: "capability_unavailable", Detail: "no kvm", Remedy: "load the module"}, ""},
		{faas.Errorf(faas.KindPayloadTooLarge, "c"), 413, api.Problem{Code: "payload_too_large", Detail: "c"}, ""},
		{faas.Errorf(faas.KindResourceExhausted, "full"), 429, api.Problem{Code: "resource_exhausted", Detail: "full"}, "1"},
		{&faas.Error{Kind: faas.KindUnavailable, Detail: "later", RetryAfter: 2500 * time.Millisecond, Err: secret}, 503, api.Problem{Code: "unavailable", Detail: "later"}, "3"},
		{context.DeadlineExceeded, 504, api.Problem{Code: "deadline_exceeded", Detail: "deadline_exceeded"}, ""},
		{secret, 500, api.Problem{Code: "internal"}, ""},
		{faas.Errorf(faas.KindInternal, "open: %w", secret), 500, api.Problem{Code: "internal"}, ""},
		{&faas.Error{Kind: faas.KindNotFound, Op: "pull", Err: &faas.Error{Kind: faas.KindNotFound, Detail: "no tag", Remedy: "look", Err: secret}}, 404, api.Problem{Code: "not_found", Detail: "pull: no tag", Remedy: "look"}, ""},
	}
	f := start(t)
	for _, test := range tests {
		t.Run(fmt.Sprint(test.err), func(t *testing.T) {
			f.fake.run = func(context.Context, faas.Request) (*faas.Result, error) { return nil, test.err }
			for _, accept := range []string{"application/json", "text/event-stream", "application/octet-stream"} {
				a := f.do(t, "POST", api.PathExecute, `{"command":"x"}`, "Accept", accept)
				p := a.problem(t)
				if a.status != test.status || p.Code != test.want.Code || p.Remedy != test.want.Remedy || fmt.Sprint(p.Errors) != fmt.Sprint(test.want.Errors) {
					t.Errorf("%s: %d %+v", accept, a.status, p)
				}
				if test.want.Detail != "" && p.Detail != test.want.Detail {
					t.Errorf("%s: detail %q", accept, p.Detail)
				}
				if bytes.Contains(a.body, []byte("secret")) {
					t.Errorf("the answer tells the cause: %s", a.body)
				}
				if got := a.header.Get("Retry-After"); got != test.retry {
					t.Errorf("Retry-After %q", got)
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	f := start(t, func(o *Options) {
		o.MaxBodyBytes, o.AllowedHosts, o.AllowedOrigins = 1000, []string{"faas.example"}, []string{"https://ui.example"}
	})
	f.fake.executions = map[string]faas.Execution{}
	big := `{"command":"` + strings.Repeat("x", 2000) + `"}`
	ok := `{"command":"x"}`
	tests := []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code                     faas.Kind
		detail                   string
	}{
		{"no key", "POST", api.PathExecute, ok, []string{"Authorization", ""}, 401, "unauthenticated", "carries no API key"},
		{"bad key", "POST", api.PathExecute, ok, []string{"Authorization", "Bearer nonsense"}, 401, "unauthenticated", "not known"},
		{"unknown key", "GET", api.PathExecutions, "", []string{"Authorization", "Bearer " + auth.NewSecret()}, 401, "unauthenticated", "not known"},
		{"basic", "GET", api.PathExecutions, "", []string{"Authorization", "Basic eDp5"}, 401, "unauthenticated", "carries no API key"},
		{"x-api-key", "POST", api.PathExecute, ok, []string{"Authorization", "", "X-API-Key", f.keys[auth.RoleAdmin]}, 200, "", ""},
		{"viewer reads", "GET", api.PathExecutions, "", []string{"Authorization", "bearer " + f.keys[auth.RoleReadOnly]}, 200, "", ""},
		{"viewer executes", "POST", api.PathExecute, ok, []string{"Authorization", "Bearer " + f.keys[auth.RoleReadOnly]}, 403, "permission_denied", "may only read"},
		{"foreign host", "GET", api.PathHealth, "", []string{"Host", "evil.example"}, 403, "permission_denied", "host name"},
		{"foreign host with port", "POST", api.PathExecute, ok, []string{"Host", "evil.example:8080"}, 403, "permission_denied", "host name"},
		{"sneaky host", "POST", api.PathExecute, ok, []string{"Host", "localhost.evil.example"}, 403, "permission_denied", "host name"},
		{"localhost", "POST", api.PathExecute, ok, []string{"Host", "localhost:8080"}, 200, "", ""},
		{"subdomain", "POST", api.PathExecute, ok, []string{"Host", "app.localhost"}, 404, "not_found", "exposed port"},
		{"ip", "POST", api.PathExecute, ok, []string{"Host", "[::1]:8080"}, 200, "", ""},
		{"configured host", "POST", api.PathExecute, ok, []string{"Host", "FAAS.example"}, 200, "", ""},
		{"foreign origin", "POST", api.PathExecute, ok, []string{"Origin", "https://evil.example"}, 403, "permission_denied", "web pages"},
		{"null origin", "POST", api.PathExecute, ok, []string{"Origin", "null"}, 403, "permission_denied", "web pages"},
		{"same origin", "POST", api.PathExecute, ok, []string{"Host", "localhost:1", "Origin", "http://localhost:1"}, 200, "", ""},
		{"configured origin", "POST", api.PathExecute, ok, []string{"Origin", "https://ui.example"}, 200, "", ""},
		{"cross-site without origin", "GET", api.PathHealth, "", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403, "permission_denied", "web pages"},
		{"large body", "POST", api.PathExecute, big, nil, 413, "payload_too_large", "larger than 1000"},
		{"long query", "GET", api.PathExecutions + "?cursor=" + strings.Repeat("x", 9000), "", nil, 413, "payload_too_large", "larger than"},
		{"query on execute", "POST", api.PathExecute + "?a=b", ok, nil, 400, "invalid_argument", "no query"},
		{"unknown query", "GET", api.PathExecutions + "?colour=red", "", nil, 400, "invalid_argument", "colour"},
		{"bad limit", "GET", api.PathExecutions + "?limit=1001", "", nil, 400, "invalid_argument", "limit"},
		{"word limit", "GET", api.PathExecutions + "?limit=x", "", nil, 400, "invalid_argument", "limit"},
		{"unknown field", "POST", api.PathExecute, `{"command":"x","colour":"red"}`, nil, 400, "invalid_argument", "colour"},
		{"unknown path", "GET", "/api/v1/nothing", "", nil, 404, "not_found", "there is no /api/v1/nothing"},
		{"wrong method", "DELETE", api.PathExecute, "", nil, 404, "not_found", "POST is"},
		{"unknown execution", "GET", api.PathExecutions + "/exec-1", "", nil, 404, "not_found", "exec-1"},
		{"cancel unknown", "POST", api.PathExecutions + "/" + faas.NewID("exec") + "/cancel", "", nil, 404, "not_found", "there is no execution"},
		{"no websocket", "GET", api.PathExecuteSocket, "", nil, 400, "invalid_argument", "WebSocket"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := f.do(t, test.method, test.path, test.body, test.headers...)
			if a.status != test.status {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if test.status == http.StatusOK {
				return
			}
			p := a.problem(t)
			if p.Code != test.code || !strings.Contains(p.Detail, test.detail) {
				t.Errorf("%+v", p)
			}
			if test.status == http.StatusUnauthorized && a.header.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
		})
	}
}

func TestChunkedBodyIsLimited(t *testing.T) {
	f := start(t, func(o *Options) { o.MaxBodyBytes = 1000 })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL+api.PathExecute, io.MultiReader(strings.NewReader(`{"command":"`), strings.NewReader(strings.Repeat("x", 5000))))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+f.keys[auth.RoleAdmin])
	response, err := f.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestOriginAnswers(t *testing.T) {
	f := start(t, func(o *Options) { o.AllowedOrigins = []string{"https://ui.example"} })
	a := f.do(t, "OPTIONS", api.PathExecute, "", "Authorization", "", "Origin", "https://ui.example", "Access-Control-Request-Method", "POST")
	if a.status != http.StatusNoContent || a.header.Get("Access-Control-Allow-Origin") != "https://ui.example" {
		t.Errorf("preflight: %d %v", a.status, a.header)
	}
	if a := f.do(t, "GET", api.PathHealth, ""); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("a request without an origin was allowed one")
	}
}

func TestRequestID(t *testing.T) {
	f := start(t)
	if got := f.do(t, "GET", api.PathHealth, "", api.HeaderRequestID, "abc-1.2").header.Get(api.HeaderRequestID); got != "abc-1.2" {
		t.Errorf("a good id became %q", got)
	}
	for _, bad := range []string{"", "a b", "a\tb", strings.Repeat("x", 129), "é"} {
		got := f.do(t, "GET", api.PathHealth, "", api.HeaderRequestID, bad).header.Get(api.HeaderRequestID)
		if !faas.ValidID(faas.PrefixRequest, got) {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

func TestOpenRoutes(t *testing.T) {
	f := start(t)
	f.fake.caps = []faas.Capabilities{{Runtime: faas.RuntimeDocker, Available: true}, {Runtime: faas.RuntimeNative}}
	var h api.Health
	a := f.do(t, "GET", api.PathHealth, "", "Authorization", "")
	if err := json.Unmarshal(a.body, &h); err != nil || h.Status != "ok" || !h.Docker || h.Firecracker || len(h.Runtimes) != 1 || h.Version != "test" {
		t.Errorf("%v %s", err, a.body)
	}
	for path, want := range map[string]string{api.PathDocs: "<!doctype html>", api.PathOpenAPI: `"openapi":"3.1.0"`} {
		if a := f.do(t, "GET", path, "", "Authorization", ""); a.status != 200 || !bytes.Contains(a.body, []byte(want)) {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := f.do(t, "GET", api.PathDocs, ""); bytes.Contains(a.body, []byte("//cdn")) || bytes.Contains(a.body, []byte("https:")) || a.header.Get("Content-Security-Policy") == "" {
		t.Error("the page loads from elsewhere")
	}
}

func TestExecutions(t *testing.T) {
	f := start(t)
	mine, other := faas.NewID("exec"), faas.NewID("exec")
	f.fake.executions = map[string]faas.Execution{
		mine:  {ID: mine, Project: faas.DefaultProject, Status: faas.ExecutionRunning, Command: []string{"x"}},
		other: {ID: other, Project: "other", Status: faas.ExecutionRunning},
	}
	a := f.do(t, "GET", api.PathExecutions+"?limit=5&cursor=c", "")
	var list api.ExecutionList
	if err := json.Unmarshal(a.body, &list); err != nil || len(list.Executions) != 1 || list.NextCursor != "cnext" {
		t.Errorf("%v %s", err, a.body)
	}
	if a := f.do(t, "GET", api.PathExecutions+"/"+mine, ""); a.status != 200 || !bytes.Contains(a.body, []byte(mine)) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := f.do(t, "GET", api.PathExecutions+"/"+other, ""); a.status != 404 {
		t.Errorf("another project's execution: %d %s", a.status, a.body)
	}
	if a := f.do(t, "POST", api.PathExecutions+"/"+mine+"/cancel", ""); a.status != 200 || len(f.fake.cancelled) != 1 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestMetricsAreTheProjects(t *testing.T) {
	f := start(t, func(o *Options) {
		o.Counters = func() *api.ExecutorMetrics { return &api.ExecutorMetrics{PoolHits: 7} }
	})
	f.do(t, "POST", api.PathExecute, `{"command":"x"}`)
	f.fake.run = func(context.Context, faas.Request) (*faas.Result, error) { return nil, faas.ErrUnavailable }
	f.do(t, "POST", api.PathExecute, `{"command":"x"}`)
	var m api.Metrics
	if err := json.Unmarshal(f.do(t, "GET", api.PathMetrics, "").body, &m); err != nil {
		t.Fatal(err)
	}
	if m.TotalRequests != 2 || m.ErrorRate != .5 || m.AvgExecutionTimeMS != 2 || m.ExecutionsByRuntime["native"] != 1 || m.Executor == nil || m.Executor.PoolHits != 7 {
		t.Errorf("%+v", m)
	}
	m = api.Metrics{}
	if err := json.Unmarshal(f.do(t, "GET", api.PathMetrics, "", "Authorization", "Bearer "+f.keys[auth.RoleUser]).body, &m); err != nil {
		t.Fatal(err)
	}
	if m.TotalRequests != 0 || m.Executor != nil {
		t.Errorf("another project sees %+v", m)
	}
}

func TestPanic(t *testing.T) {
	var log lockedBuffer
	f := start(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	f.fake.run = func(context.Context, faas.Request) (*faas.Result, error) { panic("secret") }
	a := f.do(t, "POST", api.PathExecute, `{"command":"x"}`)
	if p := a.problem(t); p.Code != faas.KindInternal || bytes.Contains(a.body, []byte("secret")) {
		t.Errorf("%+v", p)
	}
	if !strings.Contains(log.String(), "secret") || !strings.Contains(log.String(), a.header.Get(api.HeaderRequestID)) {
		t.Errorf("the log does not tell: %s", log.String())
	}
}

func TestNoKeysAsked(t *testing.T) {
	f := start(t, func(o *Options) { o.Auth = nil })
	if a := f.do(t, "POST", api.PathExecute, `{"command":"x"}`, "Authorization", ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestDraining(t *testing.T) {
	f := start(t)
	if err := f.gateway.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := f.do(t, "POST", api.PathExecute, `{"command":"x"}`)
	if p := a.problem(t); p.Code != faas.KindUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("%+v", p)
	}
	if a := f.do(t, "GET", api.PathHealth, ""); !bytes.Contains(a.body, []byte(`"draining"`)) {
		t.Errorf("%s", a.body)
	}
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
