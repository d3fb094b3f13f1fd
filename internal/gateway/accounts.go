package gateway

import (
	"bytes"
	"context"
	"encoding/csv"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/audit"
	"github.com/faas-platform/faas/internal/auth"
	"github.com/faas-platform/faas/internal/usage"
)

type auditInput struct {
	Limit   int       `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Events on one page."`
	Cursor  string    `query:"cursor" doc:"The next_cursor of the page before."`
	Project string    `query:"project" doc:"Events of this project; * means all. Another than the caller's only for admins of the project default."`
	KeyID   string    `query:"key_id" doc:"Only what this key did."`
	Action  string    `query:"action" doc:"Only this action."`
	Object  string    `query:"object" doc:"Only what was done to this."`
	Since   time.Time `query:"since" doc:"Only from this time on."`
	Until   time.Time `query:"until" doc:"Only before this time."`
}

func (g *Gateway) registerAccounts() {
	handle(g, huma.Operation{
		OperationID: "list-audit-events", Method: http.MethodGet, Path: api.PathAudit, Tags: []string{"audit"},
		Summary:     "List who changed what, newest first",
		Description: "For admins. Every request that changes something is here, refused ones included; executions have records of their own.",
	}, api.AuditList{Events: []api.AuditEvent{{
		ID: "audit-0c7v4g6k1w0003f9a2m5d8r1t6", At: exampleTime, Project: faas.DefaultProject, KeyID: exampleKey.ID, Action: "create-api-key", Object: exampleKey.ID, Outcome: audit.OutcomeDone, Remote: "127.0.0.1",
	}}}, g.listAudit)
	op := huma.Operation{
		OperationID: "get-usage", Method: http.MethodGet, Path: api.PathUsage, Tags: []string{"usage"},
		Summary:     "Export what keys used, by the hour",
		Description: "A key sees its own use; an admin that of the whole project. `format=csv`, or `Accept: text/csv`, answers CSV with one line a record.",
		Errors:      []int{http.StatusBadRequest},
	}
	for _, p := range usageParams {
		op.Parameters = append(op.Parameters, &huma.Param{Name: p.name, In: "query", Description: p.doc, Schema: p.schema()})
	}
	report := g.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.UsageReport](), true, "UsageReport")
	op.Responses = map[string]*huma.Response{"200": {Description: "What was used.", Content: map[string]*huma.MediaType{
		"application/json": {Schema: report, Example: api.UsageReport{Records: []api.UsageRecord{{
			Hour: exampleTime, Project: faas.DefaultProject, KeyID: exampleKey.ID, Executions: 12, CPUMS: 340, MemoryMBSeconds: 1536, SnapshotBytes: 1 << 20,
		}}}},
		"text/csv": {Schema: stringForm(), Example: "hour,project,key_id,executions,cpu_ms,memory_mb_seconds,snapshot_bytes\n2026-03-01T12:00:00Z,default,key-0c7v4g6k1w0003f9a2m5d8r1t6,12,340,1536,1048576\n"},
	}}}
	handleRaw(g, op, g.usage)
}

func (g *Gateway) listAudit(ctx context.Context, in *auditInput) (api.AuditList, error) {
	if err := requireAdmin(ctx); err != nil {
		return api.AuditList{}, err
	}
	project, err := projectOf(ctx, in.Project)
	if err != nil {
		return api.AuditList{}, err
	}
	found, next, err := g.opts.Audit.Events(ctx, audit.Filter{
		Project: project, KeyID: in.KeyID, Action: in.Action, Object: in.Object, Since: in.Since, Until: in.Until, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return api.AuditList{}, err
	}
	list := api.AuditList{Events: make([]api.AuditEvent, 0, len(found)), NextCursor: next}
	for _, e := range found {
		list.Events = append(list.Events, api.AuditEvent(e))
	}
	return list, nil
}

// usage answers what was used, as JSON or CSV.
func (g *Gateway) usage(w http.ResponseWriter, r *http.Request) {
	filter, format, err := usageFilter(r.Context(), r.URL.Query(), r.Header.Get("Accept"))
	if err != nil {
		g.fail(w, r, err)
		return
	}
	records, err := g.opts.Usage.Usage(r.Context(), filter)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	report := api.UsageReport{Records: make([]api.UsageRecord, 0, len(records))}
	for _, u := range records {
		report.Records = append(report.Records, usageView(u))
	}
	if format != "csv" {
		writeJSON(w, http.StatusOK, "application/json", report)
		return
	}
	content := usageCSV(report.Records)
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	_, _ = w.Write(content)
}

func usageView(u usage.Record) api.UsageRecord {
	return api.UsageRecord{
		Hour: u.Hour, Project: u.Project, KeyID: u.KeyID, Executions: u.Executions, CPUMS: u.CPUMS,
		MemoryMBSeconds: float64(u.MemoryMBMS) / 1000, SnapshotBytes: u.SnapshotBytes,
	}
}

func usageCSV(records []api.UsageRecord) []byte {
	var content bytes.Buffer
	lines := csv.NewWriter(&content) // a bytes.Buffer takes everything
	_ = lines.Write([]string{"hour", "project", "key_id", "executions", "cpu_ms", "memory_mb_seconds", "snapshot_bytes"})
	for _, u := range records {
		_ = lines.Write([]string{
			u.Hour.Format(time.RFC3339), u.Project, u.KeyID, strconv.FormatInt(u.Executions, 10), strconv.FormatInt(u.CPUMS, 10),
			strconv.FormatFloat(u.MemoryMBSeconds, 'f', -1, 64), strconv.FormatInt(u.SnapshotBytes, 10),
		})
	}
	lines.Flush()
	return content.Bytes()
}

// queryParam describes a parameter that no struct's tags do.
type queryParam struct {
	name, doc string
	schema    func() *huma.Schema
}

var usageParams = []queryParam{
	{"key_id", "Only what this key used.", stringForm},
	{"project", "Use of this project; * means all. Another than the caller's only for admins of the project default.", stringForm},
	{"since", "From the hour of this time on.", timeForm},
	{"until", "Only hours that began before this time.", timeForm},
	{"format", "json or csv.", func() *huma.Schema { return &huma.Schema{Type: huma.TypeString, Enum: []any{"json", "csv"}} }},
}

func timeForm() *huma.Schema { return &huma.Schema{Type: huma.TypeString, Format: "date-time"} }

// usageFilter reads the query of the usage route. A key that is no admin's
// sees its own use.
func usageFilter(ctx context.Context, query url.Values, accept string) (filter usage.Filter, format string, err error) {
	var refused inputError
	at := func(name string) (t time.Time) {
		if text := query.Get(name); text != "" {
			if t, err = time.Parse(time.RFC3339, text); err != nil {
				refused.add(name, "must be a time, such as 2026-03-01T12:00:00Z")
			}
		}
		return t
	}
	for name, values := range query {
		switch {
		case !slices.ContainsFunc(usageParams, func(p queryParam) bool { return p.name == name }):
			refused.add(name, "there is no such parameter")
		case len(values) > 1:
			refused.add(name, "is given twice")
		}
	}
	filter = usage.Filter{KeyID: query.Get("key_id"), Since: at("since"), Until: at("until")}
	if format = query.Get("format"); format != "" && format != "json" && format != "csv" {
		refused.add("format", "must be json or csv")
	}
	if format == "" && accept == "text/csv" {
		format = "csv"
	}
	if err := refused.orNil(); err != nil {
		return filter, "", err
	}
	filter.Project, err = projectOf(ctx, query.Get("project"))
	if who := identity(ctx); err == nil && !who.Role.Allows(auth.RoleAdmin) {
		if filter.KeyID != "" && filter.KeyID != who.KeyID {
			return filter, "", faas.Errorf(faas.KindPermissionDenied, "only an admin sees what other keys used")
		}
		filter.KeyID = who.KeyID
	}
	return filter, format, err
}
