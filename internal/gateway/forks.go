package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Forks is what the gateway needs to make copies of states.
type Forks interface {
	Fork(ctx context.Context, req faas.ForkRequest) ([]faas.Forked, error)
	ExecuteFork(ctx context.Context, project, from string, requests []faas.Request) ([]faas.ForkedExecution, error)
}

func (g *Gateway) registerForks() {
	handleBody(g, huma.Operation{
		OperationID: "fork-instance", Method: http.MethodPost, Path: api.PathInstances + "/{id}/fork", Tags: []string{"instances"},
		Summary: "Make copies of an instance, which goes on",
		Description: "The copies share its memory and files copy-on-write and have an identity of their own. " +
			"A copy that cannot be made is among the failures and leaves nothing behind; when none can be made the answer is the first one's error.",
		Errors: slices.Clone(changeErrors),
	}, map[string]any{
		"ten":      map[string]any{"count": 10},
		"variants": map[string]any{"variants": []any{map[string]any{"name": "left"}, map[string]any{"name": "right", "env_vars": map[string]string{"SIDE": "right"}}}},
	}, &api.InstanceFork{Instances: []*api.Instance{exampleInstance()}, Failures: []api.ForkFailure{}, PauseMS: 41.5}, g.forkInstance)

	g.registerExecuteFork("fork", api.PathFork, "execute", "Run commands beside each other, each in a copy of one state", nil,
		func(w http.ResponseWriter, r *http.Request) { g.executeFork(w, r, "") })
	g.registerExecuteFork("fork-execution", api.PathExecutions+"/{id}/fork", "executions", "Run commands beside each other, each in a copy of what an execution left",
		[]*huma.Param{pathID("Id of the execution.")},
		func(w http.ResponseWriter, r *http.Request) { g.executeFork(w, r, r.PathValue("id")) })
}

func (g *Gateway) registerExecuteFork(id, path, tag, summary string, parameters []*huma.Param, run http.HandlerFunc) {
	registry := g.api.OpenAPI().Components.Schemas
	g.executeSchema(reflect.TypeFor[api.ExecuteRequest]())
	schema := g.executeSchema(reflect.TypeFor[api.ForkRequest]())
	registry.SchemaFromRef(schema.Ref).Required = nil
	answered := listOf(registry.Schema(reflect.TypeFor[api.ForkedExecution](), true, "ForkedExecution"))
	examples := map[string]any{"variants": map[string]any{"variants": []any{map[string]any{"command": "make test"}, map[string]any{"command": "make lint"}}}}
	if parameters == nil {
		examples = map[string]any{
			"count":    map[string]any{"snapshot_id": "snap-0c7v4g6k1w0003f9a2m5d8r1t6", "command": "python3 step.py", "count": 4},
			"variants": map[string]any{"branch_from": "main", "timeout_ms": 60000, "variants": []any{map[string]any{"command": "make test"}, map[string]any{"command": "make lint"}}},
		}
	}
	handleRaw(g, huma.Operation{
		OperationID: id, Method: http.MethodPost, Path: path, Tags: []string{tag}, Summary: summary, Parameters: parameters,
		Description: "What the body says holds for every copy; a variant's fields take the place of those. Mode is branched unless the body says otherwise. " +
			"The answer is an array in the order of the request. A copy that could not run has the exit code -1, `error` says why and `problem` is the whole of it.",
		RequestBody: bodyOf(schema, true, examples),
		Responses: map[string]*huma.Response{"200": {Description: "What became of every copy.", Content: map[string]*huma.MediaType{
			"application/json": {Schema: answered, Example: []api.ForkedExecution{{ExecuteResponse: *exampleResponse(), PauseMS: 41.5}}},
		}}},
		Errors: slices.Clone(executeErrors),
	}, run)
}

func (g *Gateway) forkInstance(ctx context.Context, in *instanceInput, body *api.InstanceForkRequest) (*api.InstanceFork, error) {
	id, err := g.instanceID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	req := faas.ForkRequest{Project: identity(ctx).Project, From: id, Count: body.Count}
	if req.Variants, err = g.forkVariants(ctx, body); err != nil {
		return nil, err
	}
	copies, err := g.opts.Executor.Fork(ctx, req)
	if err != nil {
		return nil, err
	}
	out := &api.InstanceFork{Instances: []*api.Instance{}, Failures: []api.ForkFailure{}}
	for i, c := range copies {
		out.PauseMS = c.PauseMS
		if c.Err == nil {
			out.Instances = append(out.Instances, g.instance(ctx, c.Instance))
			continue
		}
		problem, _ := problemOf(c.Err, requestID(ctx))
		g.logFailure(ctx, problem, c.Err)
		out.Failures = append(out.Failures, api.ForkFailure{Index: i, Problem: problem})
	}
	if len(out.Instances) == 0 {
		return nil, copies[0].Err
	}
	return out, nil
}

// forkVariants are the copies that a body asks for, each with what the body
// says of all.
func (g *Gateway) forkVariants(ctx context.Context, body *api.InstanceForkRequest) ([]faas.InstanceRequest, error) {
	variants := body.Variants
	if len(variants) == 0 {
		if body.Name != "" && body.Count > 1 {
			return nil, faas.InvalidField("name", "is one copy's: give each a variant with a name")
		}
		variants = slices.Repeat([]api.InstanceSettings{{}}, max(body.Count, 1))
	}
	list := make([]faas.InstanceRequest, len(variants))
	for i := range variants {
		settings := body.InstanceSettings
		overlay(&settings, &variants[i])
		var err error
		if list[i], err = instanceRequest(ctx, &settings); err != nil {
			return nil, fmt.Errorf("variants[%d]: %w", i, err)
		}
	}
	return list, nil
}

// overlay puts the fields of a variant that are set over those of the whole.
func overlay(to, variant *api.InstanceSettings) {
	from, into := reflect.ValueOf(variant).Elem(), reflect.ValueOf(to).Elem()
	if variant.DiskGB != 0 || variant.DiskMB != 0 {
		to.DiskGB, to.DiskMB = 0, 0
	}
	for i := range from.NumField() {
		if !from.Field(i).IsZero() {
			into.Field(i).Set(from.Field(i))
		}
	}
}

// executeFork runs the commands of a fork; execution names the state when the
// path does.
func (g *Gateway) executeFork(w http.ResponseWriter, r *http.Request, execution string) {
	body, err := readBody(w, r)
	if err == nil && r.URL.RawQuery != "" {
		err = faas.Errorf(faas.KindInvalidArgument, "this route takes no query parameters")
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	f, err := decodeFork(body, execution)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	project := identity(r.Context()).Project
	for i := range f.requests {
		f.requests[i].Project, f.requests[i].ID = project, faas.NewID(faas.PrefixExecution)
	}
	done, err := g.runFork(r.Context(), project, f)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	answer := make([]api.ForkedExecution, len(done))
	for i, d := range done {
		answer[i] = api.ForkedExecution{PauseMS: d.PauseMS}
		if d.Err == nil {
			answer[i].ExecuteResponse = *api.NewExecuteResponse(d.Result)
			continue
		}
		problem, _ := problemOf(d.Err, requestID(r.Context()))
		g.logFailure(r.Context(), problem, d.Err)
		answer[i].Problem = problem
		answer[i].ExecuteResponse = api.ExecuteResponse{RequestID: f.requests[i].ID, ExitCode: -1, Error: &problem.Detail}
	}
	writeJSON(w, http.StatusOK, "application/json", answer)
}

// runFork hands a fork to the executor and counts its executions.
func (g *Gateway) runFork(ctx context.Context, project string, f *forkBody) ([]faas.ForkedExecution, error) {
	if g.draining.Load() {
		return nil, errDraining
	}
	ends := make([]func(*faas.Result, error), len(f.requests))
	for i := range ends {
		ends[i] = g.counters.begin(project)
	}
	done, err := g.opts.Executor.ExecuteFork(ctx, project, f.from, f.requests)
	for i, end := range ends {
		if err != nil || i >= len(done) {
			end(nil, err)
			continue
		}
		end(done[i].Result, done[i].Err)
	}
	return done, err
}

// forkBody is a decoded request to run commands in copies of one state.
type forkBody struct {
	from     string
	requests []faas.Request
}

// forkFields are the fields of a fork besides those of its commands.
type forkFields struct {
	InstanceID  string            `json:"instance_id,omitempty"`
	ContainerID string            `json:"container_id,omitempty" alias:"instance_id"`
	ExecutionID string            `json:"execution_id,omitempty"`
	SnapshotID  string            `json:"snapshot_id,omitempty"`
	Checkpoint  string            `json:"checkpoint_id,omitempty" alias:"snapshot_id"`
	BranchFrom  string            `json:"branch_from,omitempty"`
	Count       int               `json:"count,omitempty" minimum:"1" maximum:"256"`
	Variants    []json.RawMessage `json:"variants,omitempty" maxItems:"256"`
}

// decodeFork reads the body of a fork: the fields of an execute request hold
// for every copy, those of a variant take their place.
func decodeFork(body []byte, execution string) (*forkBody, error) {
	own, shared := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	names := fieldNames(bodyFields(reflect.TypeFor[forkFields]()))
	twice := &inputError{}
	err := eachField(body, func(name string, raw json.RawMessage) {
		into := shared
		if slices.Contains(names, name) {
			into = own
		}
		if _, again := into[name]; again {
			twice.add(name, "is given twice")
		}
		into[name] = raw
	})
	if err == nil {
		err = twice.orNil()
	}
	if err != nil {
		return nil, err
	}
	var fields forkFields
	encoded, err := json.Marshal(own)
	if err != nil {
		return nil, err
	}
	if err := decodeBody(encoded, &fields); err != nil {
		return nil, err
	}
	out := &forkBody{}
	if out.from, err = fields.source(execution); err != nil {
		return nil, err
	}
	out.requests, err = forkRequests(shared, fields)
	return out, err
}

// source is the one state that a fork names.
func (f *forkFields) source(execution string) (string, error) {
	given := slices.DeleteFunc([]string{execution, f.InstanceID, f.ExecutionID, f.SnapshotID, f.BranchFrom}, func(s string) bool { return s == "" })
	if len(given) != 1 {
		field := "branch_from"
		if execution != "" {
			return "", faas.InvalidField(field, "the path names the state already")
		}
		return "", faas.InvalidField(field, "name one state: instance_id, snapshot_id, execution_id or branch_from")
	}
	return given[0], nil
}

// forkRequests are the commands of a fork.
func forkRequests(shared map[string]json.RawMessage, fields forkFields) ([]faas.Request, error) {
	variants := fields.Variants
	if len(variants) == 0 {
		variants = slices.Repeat([]json.RawMessage{json.RawMessage("{}")}, max(fields.Count, 1))
	}
	if fields.Count != 0 && fields.Count != len(variants) {
		return nil, faas.InvalidField("count", "%d copies and %d variants", fields.Count, len(variants))
	}
	list := make([]faas.Request, len(variants))
	for i, variant := range variants {
		prefix := ""
		if len(fields.Variants) > 0 {
			prefix = "variants[" + strconv.Itoa(i) + "]."
		}
		whole := maps.Clone(shared)
		err := eachField(variant, func(name string, raw json.RawMessage) {
			if string(raw) != "null" {
				whole[name] = raw
			}
		})
		if err != nil {
			return nil, faas.InvalidField(strings.TrimSuffix(prefix, "."), "must be an object")
		}
		encoded, err := json.Marshal(whole)
		if err != nil {
			return nil, err
		}
		e, err := decodeExecuteWith(encoded, nil, forkedFields)
		if err != nil {
			return nil, prefixed(prefix, err)
		}
		list[i] = e.req
	}
	return list, nil
}

// forkedFields are those of an execute request that a copy may choose.
var forkedFields = slices.DeleteFunc(slices.Collect(maps.Keys(executeFields)), func(name string) bool {
	return slices.Contains(fieldNames(bodyFields(reflect.TypeFor[forkFields]())), name) || name == "image"
})

// prefixed says where in a body refused fields are.
func prefixed(prefix string, err error) error {
	var input *inputError
	if errors.As(err, &input) {
		for i := range input.fields {
			input.fields[i].Field = prefix + input.fields[i].Field
		}
	}
	return err
}
