package gateway

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// registerResident registers what is done inside an instance.
func (g *Gateway) registerResident() {
	op := g.runOperation(reflect.TypeFor[api.ExecRequest](), map[string]any{
		"shell": map[string]any{"command": "echo $HOME; pip list | wc -l"},
		"input": map[string]any{"command": []string{"wc", "-c"}, "stdin": "abc", "timeout_ms": 5000},
	})
	op.OperationID, op.Path, op.Tags = "exec-instance", api.PathInstances+"/{id}/exec", []string{"instances"}
	op.Summary = "Run a command in an instance, beside others that run there"
	op.Parameters = []*huma.Param{pathID("Id of the instance, or its name.")}
	handleRaw(g, op, g.execInstance)
	socket := socketOperation("exec-instance-socket", api.PathInstances+"/{id}/exec/ws", "instances",
		"Run a command in an instance over a WebSocket, with live input, signals and a terminal")
	socket.Parameters = append(socket.Parameters, pathID("Id of the instance, or its name."))
	socket.Errors = append(socket.Errors, http.StatusNotFound)
	handleRaw(g, socket, g.execInstanceSocket)
}

func (g *Gateway) execInstance(w http.ResponseWriter, r *http.Request) {
	id, err := g.instanceID(r.Context(), r.PathValue("id"))
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.executeAs(w, r, execFields, func(req *faas.Request) { req.Mode, req.InstanceID = faas.ModePersistent, id })
}

func (g *Gateway) execInstanceSocket(w http.ResponseWriter, r *http.Request) {
	id, err := g.instanceID(r.Context(), r.PathValue("id"))
	if err == nil {
		_, err = g.opts.Executor.Instance(r.Context(), identity(r.Context()).Project, id)
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.executeSocketIn(w, r, id)
}
