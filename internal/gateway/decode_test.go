package gateway

import (
	"encoding/json"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

func TestDecodeExecute(t *testing.T) {
	argv := func(req faas.Request) faas.Request { req.Command = []string{"x"}; return req }
	tests := []struct {
		name, body string
		want       faas.Request
		stdin      string
	}{
		{"string", `{"command":"echo hi"}`, faas.Request{Command: []string{"sh", "-c", "echo hi"}}, ""},
		{"array", `{"command":["a","b c"]}`, faas.Request{Command: []string{"a", "b c"}}, ""},
		{"nulls", `{"command":["x"],"image":null,"stdin":null,"env":null,"network":null}`, argv(faas.Request{}), ""},
		{"image runtime mode", `{"command":["x"],"image":"app:1","runtime":"native","mode":"cached"}`, argv(faas.Request{Image: "app:1", Runtime: "native", Mode: "cached"}), ""},
		{"stdin", `{"command":["x"],"stdin":"é\n"}`, argv(faas.Request{}), "é\n"},
		{"stdin_base64", `{"command":["x"],"stdin_base64":"AP8="}`, argv(faas.Request{}), "\x00\xff"},
		{"payload", `{"command":["x"],"payload":[0,255,10]}`, argv(faas.Request{}), "\x00\xff\n"},
		{"stdin agrees", `{"command":["x"],"stdin":"a","payload":[97],"stdin_base64":"YQ=="}`, argv(faas.Request{}), "a"},
		{"env object", `{"command":["x"],"env_vars":{"A":"b"}}`, argv(faas.Request{Env: map[string]string{"A": "b"}}), ""},
		{"env pairs", `{"command":["x"],"env":[["A","b"],["C",""]]}`, argv(faas.Request{Env: map[string]string{"A": "b", "C": ""}}), ""},
		{"env agrees", `{"command":["x"],"env":[["A","b"]],"env_vars":{"A":"b"}}`, argv(faas.Request{Env: map[string]string{"A": "b"}}), ""},
		{"working_dir user", `{"command":["x"],"working_dir":"/w","user":"1:2"}`, argv(faas.Request{WorkingDir: "/w", User: "1:2"}), ""},
		{"files", `{"command":["x"],"files":{"a":"t","/b":{"base64":"AP8="},"c":{"text":"u"}}}`, argv(faas.Request{Files: map[string][]byte{"a": []byte("t"), "/b": {0, 255}, "c": []byte("u")}}), ""},
		{"timeout_ms", `{"command":["x"],"timeout_ms":1500}`, argv(faas.Request{Timeout: 1500 * time.Millisecond}), ""},
		{"timeout_secs", `{"command":["x"],"timeout_secs":1.5}`, argv(faas.Request{Timeout: 1500 * time.Millisecond}), ""},
		{"timeouts agree", `{"command":["x"],"timeout_secs":2,"timeout_ms":2000}`, argv(faas.Request{Timeout: 2 * time.Second}), ""},
		{"limits", `{"command":["x"],"cpu_cores":0.5,"memory_mb":64,"disk_mb":32,"pids":9}`, argv(faas.Request{Resources: faas.Resources{CPUCores: .5, MemoryMB: 64, DiskMB: 32, PIDs: 9}}), ""},
		{"network object", `{"command":["x"],"network":{"mode":"egress","allow":["10.0.0.0/8"]}}`, argv(faas.Request{Network: faas.NetworkPolicy{Mode: "egress", Allow: []string{"10.0.0.0/8"}}}), ""},
		{"network word", `{"command":["x"],"network":"none"}`, argv(faas.Request{Network: faas.NetworkPolicy{Mode: "none"}}), ""},
		{"cache", `{"command":["x"],"cache_key":"k","cache_ttl_ms":5}`, argv(faas.Request{CacheKey: "k", CacheTTL: 5 * time.Millisecond}), ""},
		{"snapshot", `{"command":["x"],"snapshot_id":"s","branch_from":"b"}`, argv(faas.Request{SnapshotID: "s", BranchFrom: "b"}), ""},
		{"checkpoint", `{"command":["x"],"checkpoint_id":"s","snapshot_id":"s"}`, argv(faas.Request{SnapshotID: "s"}), ""},
		{"rest", `{"command":["x"],"allow_degraded":true,"labels":{"a":"b"}}`, argv(faas.Request{AllowDegraded: true, Labels: map[string]string{"a": "b"}}), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e, err := decodeExecute([]byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			if test.stdin != "" {
				got, err := io.ReadAll(e.req.Stdin)
				if err != nil || string(got) != test.stdin {
					t.Errorf("stdin %q, %v", got, err)
				}
			} else if e.req.Stdin != nil {
				t.Error("there is a stdin")
			}
			e.req.Stdin = nil
			if diff := cmp.Diff(test.want, e.req, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeExecuteRefuses(t *testing.T) {
	with := func(field string) string { return `{"command":["x"],` + field + `}` }
	tests := map[string]struct {
		body   string
		fields []string
		reason string
	}{
		"not json":          {`nonsense`, nil, "is not a JSON object"},
		"empty":             {``, nil, "ends too early"},
		"array":             {`[]`, nil, "begins with something else"},
		"cut":               {`{"command":["x"]`, nil, "ends too early"},
		"more":              {`{"command":["x"]} {}`, nil, "something follows"},
		"not utf-8":         {"{\"command\":[\"\xff\"]}", nil, "not UTF-8"},
		"no command":        {`{}`, []string{"command"}, "is required"},
		"null command":      {`{"command":null}`, []string{"command"}, "is required"},
		"empty command":     {`{"command":[]}`, []string{"command"}, "must not be empty"},
		"empty string":      {`{"command":""}`, []string{"command"}, "must not be empty"},
		"number command":    {`{"command":7}`, []string{"command"}, "string or an array"},
		"nul command":       {`{"command":["a\u0000"]}`, []string{"command"}, "NUL"},
		"unknown":           {with(`"comand":"x","imagee":1`), []string{"comand", "imagee"}, "no such field"},
		"case":              {with(`"Image":"x"`), []string{"Image"}, "no such field"},
		"twice":             {with(`"image":"a","image":"a"`), []string{"image"}, "twice"},
		"runtime":           {with(`"runtime":"vmware"`), []string{"runtime"}, "must be one of"},
		"mode":              {with(`"mode":3`), []string{"mode"}, "must be one of"},
		"stdin type":        {with(`"stdin":[1]`), []string{"stdin"}, "must be a string"},
		"base64":            {with(`"stdin_base64":"*"`), []string{"stdin_base64"}, "base64"},
		"base64 type":       {with(`"stdin_base64":[1]`), []string{"stdin_base64"}, "base64"},
		"payload":           {with(`"payload":[256]`), []string{"payload"}, "0 to 255"},
		"payload type":      {with(`"payload":"AA=="`), []string{"payload"}, "0 to 255"},
		"stdin conflict":    {with(`"stdin":"a","payload":[98]`), []string{"payload"}, "contradicts stdin"},
		"env type":          {with(`"env":{"A":1}`), []string{"env"}, "object of strings"},
		"env pair":          {with(`"env":[["A"]]`), []string{"env"}, "pairs"},
		"env name":          {with(`"env":{"A=B":"c"}`), []string{"env"}, "not a variable"},
		"env empty":         {with(`"env":{"":"c"}`), []string{"env"}, "not a variable"},
		"env twice":         {with(`"env":[["A","b"],["A","c"]]`), []string{"env"}, "twice"},
		"env conflict":      {with(`"env":{"A":"b"},"env_vars":{"A":"c"}`), []string{"env_vars"}, "contradicts env"},
		"working_dir":       {with(`"working_dir":"a"`), []string{"working_dir"}, "absolute"},
		"files type":        {with(`"files":["a"]`), []string{"files"}, "object"},
		"files content":     {with(`"files":{"a":{"hex":"00"}}`), []string{"files"}, "base64"},
		"files both":        {with(`"files":{"a":{"text":"a","base64":"YQ=="}}`), []string{"files"}, "base64"},
		"files base64":      {with(`"files":{"a":{"base64":"*"}}`), []string{"files"}, "base64"},
		"files directory":   {with(`"files":{"a/":"x"}`), []string{"files"}, "not the path of a file"},
		"timeout zero":      {with(`"timeout_ms":0`), []string{"timeout_ms"}, "above 0"},
		"timeout fraction":  {with(`"timeout_ms":1.5`), []string{"timeout_ms"}, "whole"},
		"timeout huge":      {with(`"timeout_secs":1e9`), []string{"timeout_secs"}, "at most"},
		"timeout endless":   {with(`"timeout_secs":1e300`), []string{"timeout_secs"}, "above 0"},
		"timeout conflict":  {with(`"timeout_secs":2,"timeout_ms":2001`), []string{"timeout_ms"}, "contradicts timeout_secs"},
		"cpu":               {with(`"cpu_cores":0`), []string{"cpu_cores"}, "above 0"},
		"memory":            {with(`"memory_mb":0`), []string{"memory_mb"}, "at least 1"},
		"memory overflow":   {with(`"memory_mb":9223372036854775807`), []string{"memory_mb"}, "at least 1"},
		"disk":              {with(`"disk_mb":"1"`), []string{"disk_mb"}, "whole number"},
		"pids":              {with(`"pids":-1`), []string{"pids"}, "at least 1"},
		"network mode":      {with(`"network":"all"`), []string{"network"}, "no mode"},
		"network field":     {with(`"network":{"mode":"egress","deny":[]}`), []string{"network"}, "no such field in it: \"deny"},
		"network cidr":      {with(`"network":{"mode":"egress","allow":["x"]}`), []string{"network"}, "CIDR"},
		"network allow":     {with(`"network":{"mode":"none","allow":["10.0.0.0/8"]}`), []string{"network"}, "egress only"},
		"ttl":               {with(`"cache_ttl_ms":-1`), []string{"cache_ttl_ms"}, "above 0"},
		"snapshot conflict": {with(`"snapshot_id":"a","checkpoint_id":"b"`), []string{"checkpoint_id"}, "contradicts snapshot_id"},
		"degraded":          {with(`"allow_degraded":"yes"`), []string{"allow_degraded"}, "true or false"},
		"labels":            {with(`"labels":{"a":1}`), []string{"labels"}, "object of strings"},
		"image nul":         {with(`"image":"a\u0000"`), []string{"image"}, "NUL"},
		"user type":         {with(`"user":1000`), []string{"user"}, "string"},
		"several":           {`{"command":7,"pids":0,"oops":1}`, []string{"command", "pids", "oops"}, "string or an array"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := decodeExecute([]byte(test.body))
			if err == nil {
				t.Fatal("accepted")
			}
			problem, _ := problemOf(err, "r")
			if problem.Code != faas.KindInvalidArgument {
				t.Errorf("code %s", problem.Code)
			}
			fields := test.fields
			if fields == nil {
				fields = []string{"body"}
			}
			var got []string
			for _, f := range problem.Errors {
				got = append(got, f.Field)
			}
			if !slices.Equal(got, fields) {
				t.Errorf("fields %v, want %v", got, fields)
			}
			if !strings.Contains(problem.Errors[0].Reason, test.reason) {
				t.Errorf("reason %q, want %q in it", problem.Errors[0].Reason, test.reason)
			}
		})
	}
}

// The decoder and the documented type know the same fields.
func TestExecuteFieldsAreDocumented(t *testing.T) {
	var documented []string
	for field := range reflect.TypeFor[api.ExecuteRequest]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		documented = append(documented, name)
	}
	var known []string
	for name := range executeFields {
		known = append(known, name)
	}
	slices.Sort(documented)
	slices.Sort(known)
	if diff := cmp.Diff(documented, known); diff != "" {
		t.Error(diff)
	}
}

// What the SDK encodes is what the gateway decodes.
func TestRequestRoundTrip(t *testing.T) {
	stdin := "in"
	encoded, err := json.Marshal(api.ExecuteRequest{
		Command: api.Command{Args: []string{"a"}}, Stdin: &stdin, EnvVars: map[string]string{"A": "b"},
		Files: map[string]api.File{"t": []byte("text"), "b": {0xff}}, TimeoutMS: 5,
		Network: &faas.NetworkPolicy{Mode: faas.NetworkNone},
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := decodeExecute(encoded)
	if err != nil {
		t.Fatalf("%v: %s", err, encoded)
	}
	want := map[string][]byte{"t": []byte("text"), "b": {0xff}}
	if diff := cmp.Diff(want, e.req.Files); diff != "" {
		t.Error(diff)
	}
}

func FuzzDecodeExecute(f *testing.F) {
	f.Add([]byte(`{"command":"echo","env":[["A","b"]],"files":{"a":{"base64":"AA=="}},"payload":[1,2]}`))
	f.Add([]byte(`{"command":["a"],"network":"none","timeout_secs":1.5,"cpu_cores":1e-9}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := decodeExecute(body)
		if err != nil {
			if problem, _ := problemOf(err, ""); problem.Code != faas.KindInvalidArgument || len(problem.Errors) == 0 {
				t.Fatalf("%v makes %+v", err, problem)
			}
			return
		}
		if len(e.req.Command) == 0 || e.req.Timeout < 0 || e.req.Resources.MemoryMB < 0 {
			t.Fatalf("%q gives %+v", body, e.req)
		}
	})
}
