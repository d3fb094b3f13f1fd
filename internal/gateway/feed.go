package gateway

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

func (g *Gateway) registerEvents() {
	event := g.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.Event](), true, "Event")
	handleRaw(g, huma.Operation{
		OperationID: "stream-events", Method: http.MethodGet, Path: api.PathEvents, Tags: []string{"events"},
		Summary: "Follow what changes in the project, as server-sent events",
		Description: "Instances, snapshots and executions as they are made, change and go; the type of an event is its name too. From now on, or from `Last-Event-ID` (or `since`). " +
			"A reader who comes back too late gets the event `lost` first, and lists anew.",
		Parameters: []*huma.Param{
			{Name: lastEventID, In: "header", Description: "Continue after the event of this id.", Schema: stringForm()},
			inQuery("since", "The same, where a header cannot be sent; 0: everything that is kept.", stringForm(), false),
			inQuery("types", "Only events whose type begins with one of these, separated by commas.", stringForm(), false),
		},
		Responses: map[string]*huma.Response{"200": {Description: "The events.", Content: map[string]*huma.MediaType{"text/event-stream": {
			Schema: event, Example: api.Event{Seq: 1767225600000001, Type: faas.EventExecutionStarted, ID: exampleExecution.ID, Time: exampleTime, Execution: &exampleExecution},
		}}}},
		Errors: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable},
	}, g.followEvents)
}

// eventQuery is what a reader of the project's events asks for.
type eventQuery struct {
	since int64
	types []string
}

func (g *Gateway) eventQuery(r *http.Request) (q eventQuery, err error) {
	query, err := queryOf(r, "since", "types")
	if err != nil {
		return q, err
	}
	if types := query.Get("types"); types != "" {
		q.types = strings.Split(types, ",")
	}
	since := r.Header.Get(lastEventID)
	if since == "" {
		since = query.Get("since")
	}
	if since == "" {
		q.since = g.opts.Executor.LastEvent(identity(r.Context()).Project)
		return q, nil
	}
	if q.since, err = strconv.ParseInt(since, 10, 64); err != nil || q.since < 0 {
		return q, faas.InvalidField("since", "is not the id of an event of this stream")
	}
	return q, nil
}

func (q *eventQuery) wants(kind faas.EventType) bool {
	return len(q.types) == 0 || slices.ContainsFunc(q.types, func(t string) bool {
		return string(kind) == t || strings.HasPrefix(string(kind), t+".")
	})
}

func (g *Gateway) followEvents(w http.ResponseWriter, r *http.Request) {
	q, err := g.eventQuery(r)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	ctx, cancel := g.streaming(r.Context())
	defer cancel()
	s := &eventStream{w: w, control: http.NewResponseController(w)}
	s.open()
	stopBeating := s.beat(heartbeatPeriod)
	defer stopBeating()
	everything := q.since == 0
	for {
		found, at, lost, err := g.opts.Executor.NextEvents(ctx, identity(ctx).Project, q.since)
		if err != nil {
			return // the client or the server is going away; it comes back with its id
		}
		if lost && !everything {
			if s.event("", api.EventsLost, api.Event{Seq: q.since, Type: api.EventsLost, Time: time.Now().UTC()}) != nil {
				return
			}
		}
		everything = false
		for _, e := range found {
			if !q.wants(e.Value.Type) {
				continue
			}
			if s.event(strconv.FormatInt(e.Seq, 10), string(e.Value.Type), api.NewEvent(e.Seq, e.Value)) != nil {
				return
			}
		}
		q.since = at
	}
}

// streaming returns the context of a stream that has no end of its own: it
// ends when the server begins to go away, since its reader can continue.
func (g *Gateway) streaming(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(g.leaving, func() { cancel(errStopped) })
	return ctx, func() { stop(); cancel(nil) }
}
