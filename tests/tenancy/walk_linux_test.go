package tenancy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest/fake"
	"github.com/faas-platform/faas/executor"
	"github.com/faas-platform/faas/internal/audit"
	"github.com/faas-platform/faas/internal/auth"
	"github.com/faas-platform/faas/internal/gateway"
	"github.com/faas-platform/faas/internal/meta"
	"github.com/faas-platform/faas/internal/quota"
	"github.com/faas-platform/faas/internal/sshkey"
	"github.com/faas-platform/faas/internal/usage"
)

// server is a whole server over a driver of plain processes.
type server struct {
	url  string
	keys map[string]string // project → plain key
}

func start(t *testing.T) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "ten-") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	accounts, err := meta.OpenAccounts(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	machine := fake.NewMachine(dir+"/m", faas.RuntimeNative)
	machine.Offer(faas.FeatureNetworkNone, faas.FeatureUserNamespace, faas.FeatureLimitCPU, faas.FeatureLimitMemory, faas.FeatureLimitPIDs,
		faas.FeatureLimitDisk, faas.FeatureSnapshotFS, faas.FeatureSnapshotFull, faas.FeatureFork)
	engine, err := executor.New(t.Context(), executor.Options{DataDir: dir, Drivers: []driver.Driver{machine.Open()}})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{keys: map[string]string{}}
	for _, project := range []string{"owner", "stranger"} {
		_, plain, err := auth.NewKey(t.Context(), accounts, auth.Key{Name: "admin", Project: project, Role: auth.RoleAdmin})
		if err != nil {
			t.Fatal(err)
		}
		s.keys[project] = plain
	}
	meter := usage.NewMeter(accounts, nil, nil)
	opts := gateway.Options{
		Executor: engine, Auth: auth.New(accounts), Audit: audit.New(accounts, nil), Quota: quota.New(nil), Usage: meter,
		Answers: accounts, ImageNames: accounts, SSH: sshKeys(t, dir, accounts), Version: "test",
	}
	gate, err := gateway.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	http := httptest.NewUnstartedServer(nil)
	http.Config = gate.Server()
	http.Start()
	s.url = http.URL
	t.Cleanup(func() {
		gate.Close()
		http.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, err := range []error{meter.Close(), engine.Close(ctx), accounts.Close(), machine.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

// sshKeys are the keys that log in to instances.
func sshKeys(t *testing.T, dir string, accounts *meta.Accounts) *gateway.SSH {
	t.Helper()
	authority, err := sshkey.OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	hostKeys, err := sshkey.OpenHostKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &gateway.SSH{Keys: sshkey.NewService(accounts, authority), HostKeys: hostKeys, UserCA: sshkey.Line(authority.PublicKey(), "test")}
}

// call sends a request with a project's key.
func (s *server) call(t *testing.T, project, method, path, body string, headers ...string) (int, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.keys[project])
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, content
}

// make makes something of the owner's and returns a field of the answer.
func (s *server) make(t *testing.T, path, body, field string) string {
	t.Helper()
	status, content := s.call(t, "owner", "POST", path, body)
	var object map[string]any
	if err := json.Unmarshal(content, &object); err != nil || status/100 != 2 {
		t.Fatalf("POST %s: %d %s", path, status, content)
	}
	id, ok := object[field].(string)
	if !ok || id == "" {
		t.Fatalf("POST %s: no %s in %s", path, field, content)
	}
	return id
}

// operation is one operation of the document.
type operation struct {
	Parameters []struct {
		Name, In string
		Required bool
	}
	RequestBody *struct {
		Content map[string]struct {
			Schema   json.RawMessage
			Example  any
			Examples map[string]struct{ Value any }
		}
	}
}

// idField are the names of fields and parameters that hold ids of the project's
// things, with the kind of thing; the walk puts the owner's into each.
var idField = map[string]string{
	"instance_id": "instance", "container_id": "instance", "snapshot_id": "snapshot", "checkpoint_id": "snapshot",
	"parent_snapshot_id": "snapshot", "branch_from": "snapshot", "execution_id": "execution", "against": "snapshot",
	"branch_ids": "branches", "parent": "",
}

// placed says what the parameter of a path is, by the path's beginning.
var placed = []struct{ prefix, kind string }{
	{"/api/v1/instances/", "instance"}, {"/api/v1/containers/", "instance"}, {"/api/v1/snapshots/", "snapshot"}, {"/api/v1/branches/", "branch"},
	{"/api/v1/executions/", "execution"}, {"/api/v1/logs/", "execution"}, {"/api/v1/api-keys/", "key"}, {"/api/v1/ssh-keys/", "ssh-key"},
	{"/api/v1/ports/", "port"},
}

// installations are what belongs to no project: only admins of the installation
// may touch them, which the stranger is not.
var installations = []string{"/api/v1/pools/"}

var pathParam = regexp.MustCompile(`\{(\w+)(\.\.\.)?\}`)

func TestNothingCrossesProjects(t *testing.T) {
	s := start(t)
	own := s.things(t)
	status, content := s.call(t, "stranger", "GET", "/openapi.json", "")
	var document struct {
		Paths map[string]map[string]operation
	}
	if err := json.Unmarshal(content, &document); err != nil || status != 200 || len(document.Paths) < 20 {
		t.Fatalf("%d, %d paths: %v", status, len(document.Paths), err)
	}
	s.lists(t, own) // first: the audit log keeps what the stranger asks for
	walked := 0
	for path, item := range document.Paths {
		for method, op := range item {
			if s.walk(t, own, strings.ToUpper(method), path, op) {
				walked++
			}
		}
	}
	if walked < 20 {
		t.Errorf("only %d operations bear ids", walked)
	}
	t.Logf("%d operations with another project's ids", walked)
	s.untouched(t, own)
}

// things makes one of everything of the owner's.
func (s *server) things(t *testing.T) map[string]string {
	t.Helper()
	own := map[string]string{}
	own["instance"] = s.make(t, "/api/v1/instances", `{"name":"secret-instance"}`, "id")
	own["snapshot"] = s.make(t, "/api/v1/snapshots", `{"instance_id":"`+own["instance"]+`","name":"secret-snapshot"}`, "id")
	own["branch"] = s.make(t, "/api/v1/branches", `{"parent_snapshot_id":"`+own["snapshot"]+`","branch_name":"secret-branch"}`, "branch_id")
	own["execution"] = s.make(t, "/api/v1/instances/"+own["instance"]+"/exec", `{"command":"echo secret"}`, "request_id")
	own["key"] = s.make(t, "/api/v1/api-keys", `{"name":"secret-key"}`, "id")
	s.optional(t, own, "ssh-key", "/api/v1/ssh-keys", `{"name":"secret-ssh"}`)
	s.optional(t, own, "port", "/api/v1/ports/expose", `{"instance_id":"`+own["instance"]+`","internal_port":8080}`)
	return own
}

// optional makes what only some servers offer.
func (s *server) optional(t *testing.T, own map[string]string, kind, path, body string) {
	t.Helper()
	status, content := s.call(t, "owner", "POST", path, body)
	var object map[string]any
	if status/100 == 2 && json.Unmarshal(content, &object) == nil {
		for _, field := range []string{"id", kind + "_id", "key_id", "port_id"} {
			if id, ok := object[field].(string); ok && id != "" {
				own[kind] = id
				return
			}
		}
	}
	own[kind] = faas.NewID("none") // a walk over what is not there proves little, but must hold too
	t.Logf("%s: %d %.200s", path, status, content)
}

// walk calls one operation as the stranger, with the owner's ids in its path,
// then in its query and body, and says whether it bears any.
func (s *server) walk(t *testing.T, own map[string]string, method, path string, op operation) bool {
	t.Helper()
	query := []string{}
	for _, p := range op.Parameters {
		switch kind := idField[p.Name]; {
		case p.In != "query":
		case kind != "":
			query = append(query, p.Name+"="+own[kind])
		case p.Required && p.Name == "path":
			query = append(query, p.Name+"=/x")
		case p.Required:
			query = append(query, p.Name+"=x")
		}
	}
	suffix := ""
	if len(query) > 0 {
		suffix = "?" + strings.Join(query, "&")
	}
	headers := headersFor(path, op)
	if slices.ContainsFunc(installations, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
		if status, content := s.call(t, "stranger", method, pathParam.ReplaceAllString(path, "x"), exampleOf(op)); status != http.StatusForbidden {
			t.Errorf("%s %s: %d %.300s", method, path, status, content)
		}
		return true
	}
	if strings.Contains(path, "{") {
		filled, known := fill(path, own)
		if !known {
			t.Errorf("%s %s: the walk does not know what %s is: add it to placed", method, path, pathParam.FindString(path))
			return false
		}
		body := exampleOf(op)
		s.expectAbsent(t, method, path, filled+suffix, body, own, headers)
		for name, value := range map[string]string{"instance": "secret-instance", "branch": "secret-branch"} {
			if own[name] != "" && strings.Contains(filled, own[name]) { // by name as well
				s.expectAbsent(t, method, path, strings.Replace(filled, own[name], value, 1)+suffix, body, own, headers)
			}
		}
		return true
	}
	bears := false
	for _, body := range s.bodies(op, own) {
		bears = true
		s.expectAbsent(t, method, path, path+suffix, body, own, headers)
	}
	return bears
}

// fill puts the owner's ids into a path.
func fill(path string, own map[string]string) (string, bool) {
	i := slices.IndexFunc(placed, func(p struct{ prefix, kind string }) bool { return strings.HasPrefix(path, p.prefix) })
	if i < 0 {
		return "", false
	}
	first := true
	return pathParam.ReplaceAllStringFunc(path, func(string) string {
		if first {
			first = false
			return own[placed[i].kind]
		}
		return "8080" // a port
	}), true
}

// headersFor make a WebSocket request of one where the route is one.
func headersFor(path string, op operation) []string {
	if op.RequestBody == nil && (strings.HasSuffix(path, "/ws") || strings.HasSuffix(path, "/stream")) && !strings.HasPrefix(path, "/api/v1/logs/") {
		return []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	}
	return nil
}

// exampleOf is a body that the operation's description shows.
func exampleOf(op operation) string {
	if op.RequestBody == nil {
		return ""
	}
	content := op.RequestBody.Content["application/json"]
	for _, name := range slices.Sorted(maps.Keys(content.Examples)) {
		if encoded, err := json.Marshal(content.Examples[name].Value); err == nil {
			return string(encoded)
		}
	}
	return "x"
}

// bodies are the operation's examples with the owner's ids in the place of
// those that they show: one body for each field that holds an id.
func (s *server) bodies(op operation, own map[string]string) (all []string) {
	if op.RequestBody == nil {
		return nil
	}
	for _, example := range op.RequestBody.Content["application/json"].Examples {
		object, ok := example.Value.(map[string]any)
		if !ok {
			continue
		}
		for name := range object {
			kind := idField[name]
			if kind == "" {
				continue
			}
			changed := map[string]any{}
			for other, value := range object {
				changed[other] = value
			}
			changed[name] = own[kind]
			if kind == "branches" {
				changed[name] = []string{own["branch"], own["branch"]}
			}
			if encoded, err := json.Marshal(changed); err == nil {
				all = append(all, string(encoded))
			}
		}
	}
	return all
}

// expectAbsent calls an operation and expects that the things are not there.
// What is refused before the thing is looked for proves nothing and is wrong.
func (s *server) expectAbsent(t *testing.T, method, route, path, body string, own map[string]string, headers []string) {
	t.Helper()
	status, content := s.call(t, "stranger", method, path, body, headers...)
	var problem struct{ Code, Detail string }
	if status != http.StatusNotFound || json.Unmarshal(content, &problem) != nil || problem.Code != "not_found" {
		t.Errorf("%s %s with %.200s: %d %.300s", method, route, body, status, content)
	}
	if bytes.Contains(content, []byte("secret-")) && !strings.Contains(path, "secret-") {
		t.Errorf("%s %s tells of the owner's: %.300s", method, route, content)
	}
}

// lists looks for the owner's things in everything that the stranger may list.
func (s *server) lists(t *testing.T, own map[string]string) {
	t.Helper()
	for _, path := range []string{
		"/api/v1/instances", "/api/v1/snapshots", "/api/v1/snapshots/tree", "/api/v1/branches", "/api/v1/executions", "/api/v1/api-keys",
		"/api/v1/audit", "/api/v1/usage", "/api/v1/metrics", "/api/v1/metrics/detailed", "/api/v1/images", "/api/v1/ssh-keys", "/api/v1/ports",
	} {
		status, content := s.call(t, "stranger", "GET", path, "")
		if status >= 500 {
			t.Errorf("%s: %d %s", path, status, content)
		}
		if bytes.Contains(content, []byte("secret")) {
			t.Errorf("%s tells of the owner's: %.300s", path, content)
		}
		for kind, id := range own {
			if bytes.Contains(content, []byte(id)) {
				t.Errorf("%s tells of the owner's %s: %.300s", path, kind, content)
			}
		}
	}
}

// untouched looks whether the owner has everything still.
func (s *server) untouched(t *testing.T, own map[string]string) {
	t.Helper()
	for kind, path := range map[string]string{"instance": "/api/v1/instances/", "snapshot": "/api/v1/snapshots/", "branch": "/api/v1/branches/", "execution": "/api/v1/executions/", "key": "/api/v1/api-keys/"} {
		if status, content := s.call(t, "owner", "GET", path+own[kind], ""); status != 200 {
			t.Errorf("the owner's %s: %d %s", kind, status, content)
		}
	}
	if status, content := s.call(t, "owner", "GET", "/api/v1/instances/"+own["instance"], ""); status != 200 || !bytes.Contains(content, []byte(fmt.Sprintf("%q", "running"))) {
		t.Errorf("the owner's instance was touched: %s", content)
	}
}
