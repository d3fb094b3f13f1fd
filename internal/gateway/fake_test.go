package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/internal/audit"
	"github.com/faas-platform/faas/internal/auth"
	"github.com/faas-platform/faas/internal/meta"
	"github.com/faas-platform/faas/internal/quota"
	"github.com/faas-platform/faas/internal/usage"
)

// fakeExecutor records requests and answers with what the test says.
type fakeExecutor struct {
	Executor // what no test asks for

	run  func(ctx context.Context, req faas.Request) (*faas.Result, error)
	caps []faas.Capabilities

	mu         sync.Mutex
	requests   []faas.Request
	stdin      []byte
	executions map[string]faas.Execution
	instances  []faas.Instance
	cancelled  []string
}

func (f *fakeExecutor) Execute(ctx context.Context, req faas.Request) (*faas.Result, error) {
	f.mu.Lock()
	f.requests = append(f.requests, req)
	f.mu.Unlock()
	if f.run != nil {
		return f.run(ctx, req)
	}
	if req.Stdin != nil {
		input, err := io.ReadAll(req.Stdin)
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		f.stdin = input
		f.mu.Unlock()
	}
	return &faas.Result{ID: req.ID, RuntimeUsed: faas.RuntimeNative, Stdout: []byte("out\n"), Stderr: []byte("err\n"), DurationMS: 2}, nil
}

func (f *fakeExecutor) Pools() []faas.Pool { return []faas.Pool{examplePool} }

func (f *fakeExecutor) SetPool(_ context.Context, req faas.PoolRequest) (*faas.Pool, error) {
	p := examplePool
	p.Image, p.Min, p.Max = req.Image, req.Min, req.Max
	return &p, nil
}

func (f *fakeExecutor) RemovePool(_ context.Context, id string) error {
	if id != examplePool.ID {
		return faas.Errorf(faas.KindNotFound, "there is no pool %q", id)
	}
	return nil
}

func (f *fakeExecutor) Prewarm(_ context.Context, req faas.PoolRequest, count int) (*faas.Pool, error) {
	p := examplePool
	p.Image, p.Target = req.Image, count
	return &p, nil
}

func (f *fakeExecutor) Runtimes(context.Context, bool) []faas.Capabilities { return f.caps }

func (f *fakeExecutor) Execution(_ context.Context, project, id string) (*faas.Execution, error) {
	e, ok := f.executions[id]
	if !ok || e.Project != project {
		return nil, faas.Errorf(faas.KindNotFound, "there is no execution %s", id)
	}
	return &e, nil
}

func (f *fakeExecutor) Executions(_ context.Context, project string, limit int, cursor string) ([]faas.Execution, string, error) {
	var found []faas.Execution
	for _, e := range f.executions {
		if e.Project == project && len(found) < limit {
			found = append(found, e)
		}
	}
	return found, cursor + "next", nil
}

func (f *fakeExecutor) Cancel(_ context.Context, _, id string) error {
	f.cancelled = append(f.cancelled, id)
	return nil
}

func (f *fakeExecutor) PortOf(_ context.Context, subdomain string) (*faas.Port, error) {
	return nil, faas.Errorf(faas.KindNotFound, "there is no exposed port %s", subdomain)
}

func (f *fakeExecutor) last(t *testing.T) faas.Request {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.requests) == 0 {
		t.Fatal("the executor was not asked")
	}
	return f.requests[len(f.requests)-1]
}

// fixture is a gateway with a fake below and a key of each role.
type fixture struct {
	*httptest.Server
	gateway *Gateway
	fake    *fakeExecutor
	keys    map[auth.Role]string
}

func start(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	store, err := meta.OpenAccounts(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	f := &fixture{fake: &fakeExecutor{}, keys: map[auth.Role]string{}}
	for _, role := range []auth.Role{auth.RoleAdmin, auth.RoleUser, auth.RoleReadOnly} {
		project := faas.DefaultProject
		if role == auth.RoleUser {
			project = "other"
		}
		_, plain, err := auth.NewKey(context.Background(), store, auth.Key{Name: string(role), Project: project, Role: role})
		if err != nil {
			t.Fatal(err)
		}
		f.keys[role] = plain
	}
	meter := usage.NewMeter(store, nil, nil)
	t.Cleanup(func() { meter.Close() })
	opts := Options{
		Executor: f.fake, Auth: auth.New(store), Audit: audit.New(store, nil), Quota: quota.New(nil), Usage: meter, Answers: store,
		Resources: faas.Resources{MemoryMB: 100, DiskMB: 10}, Version: "test",
	}
	for _, c := range change {
		c(&opts)
	}
	if f.gateway, err = New(opts); err != nil {
		t.Fatal(err)
	}
	f.Server = httptest.NewUnstartedServer(nil)
	f.Config = f.gateway.Server()
	f.Start()
	t.Cleanup(func() {
		f.gateway.Close()
		f.Close()
	})
	return f
}

// answerOf is an answer read to its end.
type answerOf struct {
	status  int
	header  http.Header
	trailer http.Header
	body    []byte
}

func (a answerOf) problem(t *testing.T) api.Problem {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != problemType {
		t.Errorf("content type %q, body %s", got, a.body)
	}
	var p api.Problem
	decoder := json.NewDecoder(bytes.NewReader(a.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		t.Fatalf("not a problem: %v: %s", err, a.body)
	}
	if p.RequestID == "" || p.RequestID != a.header.Get(api.HeaderRequestID) {
		t.Errorf("request id %q, header %q", p.RequestID, a.header.Get(api.HeaderRequestID))
	}
	if p.Status != a.status || api.Status(p.Code) != a.status {
		t.Errorf("status %d, problem says %d %s", a.status, p.Status, p.Code)
	}
	return p
}

// do sends a request with the admin's key unless the headers say otherwise.
func (f *fixture) do(t testing.TB, method, path, body string, headers ...string) answerOf {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, f.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+f.keys[auth.RoleAdmin])
	for i := 0; i < len(headers); i += 2 {
		switch {
		case headers[i] == "Host":
			request.Host = headers[i+1]
		case headers[i+1] == "":
			request.Header.Del(headers[i])
		default:
			request.Header.Set(headers[i], headers[i+1])
		}
	}
	a := read(f.Client().Do(request))
	if a.status == 0 {
		t.Fatalf("no answer: %s", a.body)
	}
	return a
}

// read reads an answer to its end; its status is 0, and its body the error,
// when there is none.
func read(response *http.Response, err error) answerOf {
	if err != nil {
		return answerOf{body: []byte(err.Error())}
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return answerOf{body: []byte(err.Error())}
	}
	return answerOf{response.StatusCode, response.Header, response.Trailer, content}
}

func (f *fakeExecutor) Instances(_ context.Context, project string, _ faas.InstanceFilter) ([]faas.Instance, string, error) {
	var found []faas.Instance
	for _, x := range f.instances {
		if x.Project == project {
			found = append(found, x)
		}
	}
	return found, "", nil
}

func (f *fakeExecutor) InstanceStats(context.Context, string, string) (driver.Stats, error) {
	return driver.Stats{MemoryBytes: 10 << 20, CPUMS: 50}, nil
}
