package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

// as sends a request with a key.
func (f *fixture) as(t testing.TB, key, method, path, body string) answerOf {
	t.Helper()
	return f.do(t, method, path, body, "Authorization", "Bearer "+key)
}

// newKey makes a key over HTTP.
func (f *fixture) newKey(t testing.TB, body string) api.NewAPIKey {
	t.Helper()
	a := f.do(t, "POST", api.PathAPIKeys, body)
	var made api.NewAPIKey
	if err := json.Unmarshal(a.body, &made); err != nil || a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return made
}

func decode[T any](t testing.TB, a answerOf) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(a.body, &v); err != nil || a.status/100 != 2 {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return v
}

func TestAPIKeys(t *testing.T) {
	f := start(t)
	made := f.newKey(t, `{"name":"ci","quota":{"concurrency":2},"scopes":["execute","executions:read"],"ttl_ms":3600000}`)
	if made.Role != api.RoleUser || made.Project != faas.DefaultProject || made.ExpiresAt == nil || !auth.WellFormed(made.Key) {
		t.Errorf("%+v", made)
	}
	a := f.do(t, "GET", api.PathAPIKeys+"/"+made.ID, "")
	if got := decode[api.APIKey](t, a); got.Quota.Concurrency != 2 || strings.Contains(string(a.body), made.Key) {
		t.Errorf("%s", a.body)
	}
	for _, test := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", api.PathExecute, `{"command":"x"}`, 200},
		{"GET", api.PathExecutions, "", 200},
		{"POST", api.PathExecutions + "/" + faas.NewID("exec") + "/cancel", "", 403},
		{"GET", api.PathRuntimes, "", 200}, // of the server: everyone's
		{"GET", api.PathUsage, "", 403},
		{"POST", api.PathAPIKeys, `{"name":"x"}`, 403},
	} {
		if a := f.as(t, made.Key, test.method, test.path, test.body); a.status != test.status {
			t.Errorf("%s %s: %d %s", test.method, test.path, a.status, a.body)
		}
	}
	seen := 0
	for cursor := ""; ; {
		page := decode[api.APIKeyList](t, f.do(t, "GET", api.PathAPIKeys+"?limit=1&cursor="+cursor, ""))
		seen += len(page.APIKeys)
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if seen != 3 { // admin, read-only, ci; the user's is another project's
		t.Errorf("%d keys", seen)
	}
	if all := decode[api.APIKeyList](t, f.do(t, "GET", api.PathAPIKeys+"?project=*", "")); len(all.APIKeys) != 4 {
		t.Errorf("%d keys of all projects", len(all.APIKeys))
	}
	if a := f.do(t, "DELETE", api.PathAPIKeys+"/"+made.ID, ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := f.as(t, made.Key, "GET", api.PathExecutions, ""); a.status != 401 {
		t.Errorf("a revoked key: %d %s", a.status, a.body)
	}
}

func TestAPIKeyRefusals(t *testing.T) {
	f := start(t)
	own := decode[api.APIKeyList](t, f.do(t, "GET", api.PathAPIKeys, "")).APIKeys
	for body, want := range map[string]string{
		`{}`:                                               "name",
		`{"name":"x","role":"boss"}`:                       "role",
		`{"name":"x","scopes":["moon"]}`:                   "scopes",
		`{"name":"x","quota":{"memory_mb":-1}}`:            "quota.memory_mb",
		`{"name":"x","project":"No"}`:                      "project",
		`{"name":"x","expires_at":"2001-01-01T00:00:00Z"}`: "expires_at",
		`{"name":"x","expires_at":"2101-01-01T00:00:00Z","ttl_ms":1}`: "ttl_ms",
		`{"name":"x","colour":"red"}`:                                 "colour",
	} {
		a := f.do(t, "POST", api.PathAPIKeys, body)
		if p := a.problem(t); a.status != 400 || len(p.Errors) != 1 || p.Errors[0].Field != want {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	for _, key := range own {
		if key.Name == string(auth.RoleAdmin) {
			if a := f.do(t, "DELETE", api.PathAPIKeys+"/"+key.ID, ""); a.status != 409 {
				t.Errorf("a key that revokes itself: %d", a.status)
			}
		}
	}
	// An admin of another project manages that one only.
	tenant := f.newKey(t, `{"name":"tenant","project":"tenant","role":"admin"}`)
	for _, test := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", api.PathAPIKeys, `{"name":"x"}`, 201},
		{"POST", api.PathAPIKeys, `{"name":"x","project":"default"}`, 403},
		{"GET", api.PathAPIKeys + "/" + own[0].ID, "", 404},
		{"DELETE", api.PathAPIKeys + "/" + own[0].ID, "", 404},
		{"GET", api.PathAPIKeys + "?project=*", "", 403},
		{"GET", api.PathAudit + "?project=default", "", 403},
		{"GET", api.PathUsage + "?project=default", "", 403},
	} {
		if a := f.as(t, tenant.Key, test.method, test.path, test.body); a.status != test.status {
			t.Errorf("%s %s: %d %s", test.method, test.path, a.status, a.body)
		}
	}
	if list := decode[api.APIKeyList](t, f.as(t, tenant.Key, "GET", api.PathAPIKeys, "")); len(list.APIKeys) != 2 {
		t.Errorf("%+v", list)
	}
}

func TestAuditTrail(t *testing.T) {
	f := start(t)
	made := f.newKey(t, `{"name":"ci"}`)
	f.do(t, "POST", api.PathAPIKeys, `{"name":"x","role":"boss"}`)
	f.do(t, "DELETE", api.PathAPIKeys+"/"+made.ID, "", api.HeaderRequestID, "my-request")
	f.do(t, "POST", api.PathExecute, `{"command":"x"}`)
	f.do(t, "GET", api.PathAPIKeys, "")
	var got []string
	list := decode[api.AuditList](t, f.do(t, "GET", api.PathAudit, ""))
	for _, e := range list.Events {
		got = append(got, strings.Join([]string{e.Action, e.Object, e.Outcome, e.Project}, " "))
		if e.KeyID == "" || e.Remote != "127.0.0.1" || e.RequestID == "" {
			t.Errorf("%+v", e)
		}
	}
	want := []string{"delete-api-key " + made.ID + " done default", "create-api-key  refused default", "create-api-key " + made.ID + " done default"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
	one := decode[api.AuditList](t, f.do(t, "GET", api.PathAudit+"?limit=1&action=delete-api-key&since=2020-01-01T00:00:00Z", ""))
	if len(one.Events) != 1 || one.Events[0].RequestID != "my-request" {
		t.Errorf("%+v", one)
	}
	if a := f.as(t, f.keys[auth.RoleReadOnly], "GET", api.PathAudit, ""); a.status != 403 {
		t.Errorf("read-only: %d", a.status)
	}
}

func TestQuotas(t *testing.T) {
	f := start(t)
	begun, release := make(chan struct{}, 64), make(chan struct{})
	f.fake.run = func(ctx context.Context, req faas.Request) (*faas.Result, error) {
		begun <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return &faas.Result{ID: req.ID, DurationMS: 1500, Usage: faas.Usage{CPUMS: 7}}, nil
	}
	for name, quota := range map[string]string{"concurrency": `{"concurrency":1}`, "memory": `{"memory_mb":150}`, "disk": `{"disk_mb":19}`} {
		t.Run(name, func(t *testing.T) {
			key := f.newKey(t, fmt.Sprintf(`{"name":"q","quota":%s}`, quota)).Key
			first := make(chan answerOf)
			go func() { first <- f.as(t, key, "POST", api.PathExecute, `{"command":"x"}`) }()
			<-begun
			a := f.as(t, key, "POST", api.PathExecute, `{"command":"x"}`)
			if p := a.problem(t); p.Code != faas.KindResourceExhausted || a.header.Get("Retry-After") == "" {
				t.Errorf("%+v %v", p, a.header)
			}
			release <- struct{}{}
			if a := <-first; a.status != 200 {
				t.Errorf("%d %s", a.status, a.body)
			}
			go func() { <-begun; release <- struct{}{} }()
			if a := f.as(t, key, "POST", api.PathExecute, `{"command":"x"}`); a.status != 200 {
				t.Errorf("after the first has ended: %d %s", a.status, a.body)
			}
		})
	}
	close(release)
	day := f.newKey(t, `{"name":"q","quota":{"executions_per_day":2}}`)
	fast := f.newKey(t, `{"name":"q","quota":{"rate_per_second":0.001,"burst":2}}`)
	for _, key := range []string{day.Key, fast.Key} {
		for i, want := range []int{200, 200, 429} {
			a := f.as(t, key, "POST", api.PathExecute, `{"command":"x"}`)
			if a.status != want || want == 429 && a.header.Get("Retry-After") == "" {
				t.Errorf("%d: %d %s", i, a.status, a.body)
			}
		}
	}
	records := decode[api.UsageReport](t, f.do(t, "GET", api.PathUsage+"?key_id="+day.ID, "")).Records
	if len(records) != 1 || records[0].Executions != 2 || records[0].CPUMS != 14 || records[0].MemoryMBSeconds != 300 {
		t.Errorf("%+v", records)
	}
	a := f.do(t, "GET", api.PathUsage+"?key_id="+day.ID, "", "Accept", "text/csv")
	if lines := strings.Split(strings.TrimSpace(string(a.body)), "\n"); len(lines) != 2 || !strings.HasSuffix(lines[1], ","+day.ID+",2,14,300,0") {
		t.Errorf("%s", a.body)
	}
	if own := decode[api.UsageReport](t, f.as(t, day.Key, "GET", api.PathUsage, "")).Records; len(own) != 1 || own[0].KeyID != day.ID {
		t.Errorf("%+v", own)
	}
	if a := f.as(t, day.Key, "GET", api.PathUsage+"?key_id="+fast.ID, ""); a.status != 403 {
		t.Errorf("another's use: %d", a.status)
	}
}

func TestTickets(t *testing.T) {
	f := start(t)
	issue := func(body string) string {
		t.Helper()
		return decode[api.Ticket](t, f.as(t, f.keys[auth.RoleUser], "POST", api.PathTickets, body)).Ticket
	}
	dial := func(ticket string) (int, *websocket.Conn) {
		conn, response, err := websocket.Dial(t.Context(), f.URL+api.PathExecuteSocket+"?ticket="+ticket+"&binary=0", nil)
		if err != nil && response == nil {
			t.Fatal(err)
		}
		return response.StatusCode, conn
	}
	once := issue("")
	status, conn := dial(once)
	if status != 101 {
		t.Fatalf("status %d", status)
	}
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"exec","command":"x"}`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.Read(t.Context()); err != nil {
		t.Error(err)
	}
	conn.CloseNow()
	if got := f.fake.last(t).Project; got != "other" {
		t.Errorf("the ticket's project is %q", got)
	}
	for name, ticket := range map[string]string{"used": once, "for another path": issue(`{"path":"/api/v1/events"}`), "wrong": "x"} {
		if status, _ := dial(ticket); status != 401 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if a := f.do(t, "GET", api.PathExecutions+"?ticket="+issue(""), "", "Authorization", ""); a.status != 401 {
		t.Errorf("not a stream: %d", a.status)
	}
	viewer := decode[api.Ticket](t, f.as(t, f.keys[auth.RoleReadOnly], "POST", api.PathTickets, "")).Ticket
	if status, _ := dial(viewer); status != 403 {
		t.Errorf("a read-only key's ticket runs a command: %d", status)
	}
}
