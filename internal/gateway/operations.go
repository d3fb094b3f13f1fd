package gateway

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/faas-platform/faas/api"
)

// answer is the output of an operation with a JSON body.
type answer[T any] struct{ Body T }

// handle registers an operation without a body, with typed input and output,
// and an example of its answer.
func handle[I, T any](g *Gateway, op huma.Operation, example T, run func(context.Context, *I) (T, error)) {
	huma.Register(g.api, g.document(op), func(ctx context.Context, in *I) (*answer[T], error) {
		body, err := run(ctx, in)
		if err != nil {
			return nil, &statusError{err}
		}
		return &answer[T]{body}, nil
	})
	success(described(g.api.OpenAPI().Paths[op.Path], op.Method)).Example = example
}

// handleBody registers an operation that takes a JSON body: I are its path and
// query parameters, B is the body, a struct that decodeBody reads. Examples of
// the body are by name. An operation whose body has no required field may be
// called without one.
func handleBody[I, B, T any](g *Gateway, op huma.Operation, examples map[string]any, example T, run func(context.Context, *I, *B) (T, error)) {
	optional := !slices.ContainsFunc(bodyFields(reflect.TypeFor[B]()), func(f bodyField) bool { return f.required })
	op.Errors = append([]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge}, op.Errors...)
	handle(g, op, example, func(ctx context.Context, in *I) (T, error) {
		var none T
		x, ok := ctx.Value(exchangeKey{}).(exchange)
		if !ok {
			return none, errors.New("an operation without its request")
		}
		raw, err := readBody(x.w, x.r)
		if err != nil {
			return none, err
		}
		body := new(B)
		if len(raw) > 0 || !optional {
			if err := decodeBody(raw, body); err != nil {
				return none, err
			}
		}
		return run(ctx, in, body)
	})
	t := reflect.TypeFor[B]()
	described(g.api.OpenAPI().Paths[op.Path], op.Method).RequestBody = bodyOf(g.api.OpenAPI().Components.Schemas.Schema(t, true, t.Name()), !optional, examples)
}

// described returns the description of the operation just registered.
func described(item *huma.PathItem, method string) *huma.Operation {
	switch method {
	case http.MethodPost:
		return item.Post
	case http.MethodPut:
		return item.Put
	case http.MethodPatch:
		return item.Patch
	case http.MethodDelete:
		return item.Delete
	default:
		return item.Get
	}
}

// success returns the description of an operation's JSON answer.
func success(op *huma.Operation) *huma.MediaType {
	for status, response := range op.Responses {
		if status[0] == '2' {
			return response.Content["application/json"]
		}
	}
	return nil
}

// handleRaw registers an operation that reads and writes HTTP itself: one that
// streams, or whose body needs a decoder of its own. Its parameters, body and
// answers are described by op alone, and checked by run.
func handleRaw(g *Gateway, op huma.Operation, run http.HandlerFunc) {
	body := op.RequestBody
	op.RequestBody, op.SkipValidateParams = nil, true // huma would read it
	huma.Register(g.api, g.document(op), func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			r, w := humago.Unwrap(ctx)
			run(w, r)
		}}, nil
	})
	if body != nil {
		described(g.api.OpenAPI().Paths[op.Path], op.Method).RequestBody = body
	}
}

// areas register the operations of the API, one function a file.
var areas = []func(*Gateway){
	(*Gateway).registerExecute,
	(*Gateway).registerExecutions,
	(*Gateway).registerImages,
	(*Gateway).registerKeys,
	(*Gateway).registerAccounts,
	(*Gateway).registerTickets,
	(*Gateway).registerInstances,
	(*Gateway).registerResident,
	(*Gateway).registerSnapshots,
	(*Gateway).registerTransfers,
	(*Gateway).registerBranches,
	(*Gateway).registerForks,
	(*Gateway).registerPools,
	(*Gateway).registerSSH,
	(*Gateway).registerLogs,
	(*Gateway).registerEvents,
	(*Gateway).registerFiles,
	(*Gateway).registerStreams,
	(*Gateway).registerPorts,
	(*Gateway).registerConsole,
	(*Gateway).registerServer,
	(*Gateway).registerObservation,
}

func (g *Gateway) register() {
	for _, area := range areas {
		area(g)
	}
	tidySchemas(g.api.OpenAPI().Components.Schemas.Map())
	g.mux.HandleFunc("GET "+api.PathOpenAPI, g.serveOpenAPI)
	g.mux.HandleFunc("GET "+api.PathDocs, serveDocs)
}

func (g *Gateway) serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "application/vnd.oai.openapi+json")
	header.Set("Content-Length", strconv.Itoa(len(g.openapi)))
	_, _ = w.Write(g.openapi)
}
