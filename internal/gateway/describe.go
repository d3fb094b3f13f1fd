package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// humaConfig describes the API as a whole.
func (g *Gateway) humaConfig() huma.Config {
	format := huma.Format{
		Marshal: func(w io.Writer, v any) error {
			encoded, err := encodeJSON(v)
			if err != nil {
				return err
			}
			_, err = w.Write(encoded)
			return err
		},
		Unmarshal: json.Unmarshal,
	}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "faas", Version: api.Version,
				Description: "Run commands in sandboxes. Errors are problem+json with a stable `code`; every answer carries `X-Request-Id`.",
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Servers: []*huma.Server{{URL: "http://127.0.0.1:8080", Description: "the default address"}},
			Tags: []*huma.Tag{
				{Name: "execute", Description: "Run commands"},
				{Name: "executions", Description: "What ran"},
				{Name: "instances", Description: "Sandboxes that live until told otherwise"},
				{Name: "files", Description: "Files of an instance"},
				{Name: "ports", Description: "Ports of an instance"},
				{Name: "events", Description: "What changes in the project"},
				{Name: "snapshots", Description: "Saved states, and what starts from them"},
				{Name: "branches", Description: "Named heads in the tree of snapshots"},
				{Name: "images", Description: "What sandboxes are made of"},
				{Name: "api-keys", Description: "Who may use the server"},
				{Name: "audit", Description: "Who changed what"},
				{Name: "usage", Description: "What keys used"},
				{Name: "tickets", Description: "Keys for browsers' streams"},
				{Name: serverArea, Description: "The server itself"},
				{Name: "ssh", Description: "Keys that log in to instances, and the SSH server"},
			},
			Security: []map[string][]string{{"bearer": {}}, {"apiKey": {}}},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"bearer": {Type: "http", Scheme: "bearer"},
					"apiKey": {Type: "apiKey", In: "header", Name: "X-API-Key"},
				},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{g.transform},
	}
}

// errorText describes the statuses of our kinds.
var errorText = map[int]string{
	http.StatusBadRequest:            "The input was refused; errors names each field.",
	http.StatusUnauthorized:          "The key is missing or not known.",
	http.StatusForbidden:             "The key, the host name or the origin may not do this.",
	http.StatusNotFound:              "There is no such thing in the project.",
	http.StatusConflict:              "The state of things does not allow it.",
	http.StatusRequestEntityTooLarge: "Body or query are too large.",
	http.StatusUnprocessableEntity:   "No runtime here can do it; remedy says what would make it possible.",
	http.StatusTooManyRequests:       "Something is used up; Retry-After says when to try again.",
	http.StatusInternalServerError:   "The platform failed; the log has the cause.",
	http.StatusServiceUnavailable:    "The server cannot do it now.",
	http.StatusGatewayTimeout:        "It took too long.",
}

// everyStatus are the ways in which any operation can fail: unknown parameters,
// a foreign host name or origin, a query that is too long, a fault.
var everyStatus = []int{http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusInternalServerError}

// keyedStatus are the further ways of operations that need a key: its want, its
// quota, and a data directory that cannot be read.
var keyedStatus = []int{http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusServiceUnavailable}

// document adds to an operation how it can fail.
func (g *Gateway) document(op huma.Operation) huma.Operation {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	registry := g.api.OpenAPI().Components.Schemas
	problem := registry.Schema(reflect.TypeFor[api.Problem](), true, "Problem")
	statuses := append(op.Errors, everyStatus...)
	if op.Security == nil {
		statuses = append(statuses, keyedStatus...)
	}
	if op.Method == http.MethodPost {
		op.Parameters = append(op.Parameters, idempotencyParam())
		statuses = append(statuses, http.StatusConflict)
	}
	op.Errors = nil
	for _, status := range statuses {
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: errorText[status],
			Content: map[string]*huma.MediaType{problemType: {
				Schema: problem, Example: exampleProblem(status),
			}},
		}
	}
	return op
}

// exampleProblem shows one problem of each status.
func exampleProblem(status int) api.Problem {
	p := api.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, RequestID: "req-0c7v4g6k1w0003f9a2m5d8r1t6"}
	for _, kind := range faas.Kinds() {
		if api.Status(kind) == status {
			p.Code = kind
			break
		}
	}
	p.Detail = errorText[status]
	if status == http.StatusBadRequest {
		p.Detail = "memory_mb: must be a whole number, at least 1"
		p.Errors = []api.FieldError{{Field: "memory_mb", Reason: "must be a whole number, at least 1"}}
	}
	return p
}

// executeSchema describes api.ExecuteRequest, or another type with some of its
// fields, with the forms that its Go types cannot tell.
func (g *Gateway) executeSchema(t reflect.Type) *huma.Schema {
	registry := g.api.OpenAPI().Components.Schemas
	ref := registry.Schema(t, true, t.Name())
	schema := registry.SchemaFromRef(ref.Ref)
	set := func(name string, forms ...*huma.Schema) {
		if was := schema.Properties[name]; was != nil {
			schema.Properties[name] = &huma.Schema{Description: was.Description, Examples: was.Examples, OneOf: forms}
		}
	}
	set("command", stringForm(), listOf(stringForm()))
	variables := (*variablesForm)(nil).Schema(registry).OneOf
	set("env_vars", variables...)
	set("env", variables...)
	set("network", (*networkForm)(nil).Schema(registry).OneOf...)
	content := &huma.Schema{OneOf: []*huma.Schema{
		stringForm(),
		{Type: huma.TypeObject, Properties: map[string]*huma.Schema{"text": stringForm()}, Required: []string{"text"}, AdditionalProperties: false},
		{Type: huma.TypeObject, Properties: map[string]*huma.Schema{"base64": {Type: huma.TypeString, ContentEncoding: "base64"}}, Required: []string{"base64"}, AdditionalProperties: false},
	}}
	schema.Properties["files"] = &huma.Schema{Type: huma.TypeObject, Description: schema.Properties["files"].Description, AdditionalProperties: content}
	low, high := 0.0, 255.0
	schema.Properties["payload"].Items = &huma.Schema{Type: huma.TypeInteger, Minimum: &low, Maximum: &high}
	return ref
}

// bodyOf describes a JSON body by its schema, with examples by name.
func bodyOf(schema *huma.Schema, required bool, examples map[string]any) *huma.RequestBody {
	named := make(map[string]*huma.Example, len(examples))
	for name, value := range examples {
		named[name] = &huma.Example{Value: value}
	}
	return &huma.RequestBody{Required: required, Content: map[string]*huma.MediaType{"application/json": {Schema: schema, Examples: named}}}
}

// executeErrors are the statuses with which a command that did not run ends.
var executeErrors = []int{
	http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict,
	http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusTooManyRequests,
	http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

// pathID describes the id in a path.
func pathID(what string) *huma.Param {
	return &huma.Param{Name: "id", In: "path", Required: true, Description: what, Schema: stringForm()}
}

// executeOperation describes a route that runs one command.
func (g *Gateway) executeOperation(id, path, summary string) huma.Operation {
	op := g.runOperation(reflect.TypeFor[api.ExecuteRequest](), map[string]any{
		"shell":     map[string]any{"command": "echo hello; exit 3"},
		"arguments": map[string]any{"command": []string{"python3", "-c", "print(input()[::-1])"}, "stdin": "abc\n", "timeout_ms": 5000, "memory_mb": 256, "env_vars": map[string]string{"LANG": "C.UTF-8"}},
		"files":     map[string]any{"command": "sh run.sh", "working_dir": "/work", "files": map[string]any{"run.sh": "cat data", "data": map[string]string{"base64": "AAEC"}}, "network": map[string]any{"mode": "none"}},
	})
	op.OperationID, op.Path, op.Summary, op.Tags = id, path, summary, []string{"execute"}
	return op
}

// runOperation describes a route that runs one command of a body of type t, in
// whichever form Accept asks for.
func (g *Gateway) runOperation(t reflect.Type, examples map[string]any) huma.Operation {
	registry := g.api.OpenAPI().Components.Schemas
	answered := registry.Schema(reflect.TypeFor[api.ExecuteResponse](), true, "ExecuteResponse")
	event := registry.Schema(reflect.TypeFor[api.ServerFrame](), true, "ServerFrame")
	trailer := func(text string) *huma.Param { return &huma.Param{Description: text, Schema: stringForm()} }
	return huma.Operation{
		Method: http.MethodPost,
		Description: "A command that ran answers 200, whatever its exit code. The caller's leaving ends the command.\n\n" +
			"`Accept` chooses the form: `application/json` (default; output up to 10 MiB a stream), `text/event-stream` (events `started`, `stdout`, `stderr`, `exit`, `result`, `error`), or `application/octet-stream` (raw standard output without a limit, the rest in trailers).",
		RequestBody: bodyOf(g.executeSchema(t), true, examples),
		Responses: map[string]*huma.Response{"200": {
			Description: "The command ran.",
			Headers: map[string]*huma.Param{
				api.HeaderExecutionID: trailer("Id of the execution."),
				api.TrailerExitCode:   trailer("Trailer of a raw answer: the exit code."),
				api.TrailerResult:     trailer("Trailer of a raw answer: the result as JSON, with the first 8 KiB of standard error."),
				api.TrailerError:      trailer("Trailer of a raw answer that broke off: the problem as JSON."),
			},
			Content: map[string]*huma.MediaType{
				"application/json":         {Schema: answered, Example: exampleResponse()},
				"text/event-stream":        {Schema: event},
				"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
			},
		}},
		Errors: slices.Clone(executeErrors),
	}
}

// socketOperation describes a WebSocket that runs one command.
func socketOperation(id, path, tag, summary string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{tag}, Summary: summary,
		Description: "JSON text frames with a `type`. The first from the client is `exec`: the fields of an execute request, and `tty`, `cols`, `rows`. Then `stdin` {data or data_base64}, `close_stdin`, `resize` {cols, rows}, `signal` {signal}. " +
			"From the server: `started` {id}, `stdout`, `stderr` {data or data_base64}, `stdin_ack` {bytes}, `heartbeat`, and at the end `exit` {code, signal} and `result`, or `error`; each with `seq`. " +
			"With `binary=1` standard input and output are binary frames. Send at most 1 MiB of input beyond what `stdin_ack` acknowledged: later frames wait behind it. Closing the connection ends the command.",
		Parameters: []*huma.Param{{
			Name: "binary", In: "query", Description: "1: raw standard input and output as binary frames.",
			Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"0", "1"}},
		}},
		Responses: map[string]*huma.Response{"101": {Description: "The connection is a WebSocket now."}},
		Errors:    []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable},
	}
}
