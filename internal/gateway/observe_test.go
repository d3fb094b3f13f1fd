package gateway

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

func TestObservation(t *testing.T) {
	f := start(t, func(o *Options) {
		o.Counters = func() *api.ExecutorMetrics { return &api.ExecutorMetrics{PoolHits: 7} }
	})
	f.fake.run = func(_ context.Context, req faas.Request) (*faas.Result, error) {
		return &faas.Result{ID: req.ID, RuntimeUsed: faas.RuntimeNative, QueuedMS: 4, DurationMS: 100, Usage: faas.Usage{CPUMS: 30}}, nil
	}
	f.fake.instances = []faas.Instance{
		{ID: "inst-1", Project: faas.DefaultProject, Status: faas.InstanceRunning}, {ID: "inst-2", Project: faas.DefaultProject, Status: faas.InstanceStopped},
	}
	for range 3 {
		f.do(t, "POST", api.PathExecute, `{"command":"x"}`)
	}
	m := decode[api.Metrics](t, f.do(t, "GET", api.PathMetrics, ""))
	if m.ActiveInstances != 1 || m.ActiveContainers != 1 || m.MemoryUsageMB != 10 || m.TotalRequests != 3 {
		t.Errorf("%+v", m)
	}
	d := decode[api.DetailedMetrics](t, f.do(t, "GET", api.PathMetricsDetailed, ""))
	if run := d.Stages["run"]; run.Count != 3 || run.P50MS != 100 || run.MaxMS != 100 || d.Stages["queue"].P99MS != 4 || d.Stages["total"].Count != 3 {
		t.Errorf("%+v", d)
	}
	a := f.as(t, f.keys[auth.RoleReadOnly], "GET", "/metrics", "")
	for _, want := range []string{
		`faas_executions_total{project="default",runtime="native"} 3`, `faas_execution_stage_seconds_count{stage="run"} 3`,
		`faas_http_requests_total{operation="execute",status="200"} 3`, "faas_pool_hits_total 7", "faas_cpu_seconds_total{project=\"default\"} 0.09",
	} {
		if !strings.Contains(string(a.body), want+"\n") {
			t.Errorf("no %s in\n%s", want, a.body)
		}
	}
	dashboard, err := os.ReadFile("../../deploy/grafana.json")
	if err != nil || !json.Valid(dashboard) {
		t.Fatalf("the dashboard: %v", err)
	}
	names := regexp.MustCompile(`faas_\w+`).FindAllString(string(dashboard), -1)
	for _, name := range names {
		if !strings.Contains(string(a.body), name) {
			t.Errorf("the dashboard shows %s, which is not told", name)
		}
	}
	if len(names) < 10 {
		t.Errorf("the dashboard shows %v", names)
	}
	for _, test := range []struct {
		role   auth.Role
		path   string
		status int
	}{
		{auth.RoleUser, "/metrics", 403}, // another project's
		{auth.RoleReadOnly, "/debug/pprof/", 403},
		{auth.RoleAdmin, "/debug/pprof/", 200},
		{auth.RoleAdmin, "/debug/pprof/goroutine?debug=1", 200},
	} {
		if a := f.as(t, f.keys[test.role], "GET", test.path, ""); a.status != test.status {
			t.Errorf("%s %s: %d %.200s", test.role, test.path, a.status, a.body)
		}
	}
}
