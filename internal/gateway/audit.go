package gateway

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/faas-platform/faas/internal/audit"
)

// unaudited are the areas whose requests change nothing but what has a record
// of its own: executions.
var unaudited = []string{"execute"}

// audited writes an event of every request that changes something, refused ones
// included.
func (g *Gateway) audited(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	c := callerOf(ctx.Context())
	if g.opts.Audit == nil || c == nil || !changes(op.Method) || slices.ContainsFunc(op.Tags, func(tag string) bool { return slices.Contains(unaudited, tag) }) {
		next(ctx)
		return
	}
	object := objectOf(op, ctx)
	c.answer.keep = op.Method == http.MethodPost
	defer func() {
		status := c.answer.status
		if made := idIn(c.answer.kept.Bytes()); made != "" && status < http.StatusBadRequest {
			object = made
		}
		g.opts.Audit.Record(ctx.Context(), audit.Event{Action: op.OperationID, Object: object, Outcome: outcomeOf(status)})
	}()
	next(ctx)
}

func changes(method string) bool { return method != http.MethodGet && method != http.MethodHead }

// objectOf returns what the path names: the first of its parameters.
func objectOf(op *huma.Operation, ctx huma.Context) string {
	r, _ := humago.Unwrap(ctx)
	for part := range strings.SplitSeq(op.Path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			return r.PathValue(strings.TrimRight(strings.TrimSuffix(name, "}"), "."))
		}
	}
	return ""
}

func outcomeOf(status int) string {
	switch {
	case status >= http.StatusInternalServerError || status == 0:
		return audit.OutcomeFailed
	case status >= http.StatusBadRequest:
		return audit.OutcomeRefused
	}
	return audit.OutcomeDone
}

// idIn returns the id of the object that an answer shows.
func idIn(answer []byte) string {
	if !bytes.HasPrefix(bytes.TrimSpace(answer), []byte("{")) {
		return ""
	}
	var object struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(answer, &object) != nil {
		return ""
	}
	return object.ID
}
