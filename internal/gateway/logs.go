package gateway

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/executor/stream"
)

// Streams is what the gateway needs of what goes on.
type Streams interface {
	Logs(ctx context.Context, project, id string, from faas.LogPosition, follow bool, each func(faas.LogPiece) error) (*faas.Execution, error)
	LastEvent(project string) int64
	NextEvents(ctx context.Context, project string, since int64) (found []stream.Entry[faas.Event], at int64, lost bool, err error)
	OpenStream(ctx context.Context, project, id string, opts stream.Options) (*stream.Conn, error)
}

// lastEventID is the header with which a reader continues an event stream.
const lastEventID = "Last-Event-ID"

func (g *Gateway) registerLogs() {
	handle(g, huma.Operation{
		OperationID: "get-execution-logs", Method: http.MethodGet, Path: api.PathExecutions + "/{id}/logs", Tags: []string{"executions"},
		Summary:     "Show what an execution has written so far",
		Description: "Of a running one what the server holds of it, of an ended one what its record keeps: the first 64 KiB of each stream.",
		Errors:      readErrors,
	}, &api.Logs{ExecutionID: exampleExecution.ID, Status: faas.ExecutionSucceeded, Stdout: "42\n"}, g.executionLogs)
	event := g.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.ServerFrame](), true, "ServerFrame")
	handleRaw(g, huma.Operation{
		OperationID: "stream-execution-logs", Method: http.MethodGet, Path: api.PathLogs + "/{id}/stream", Tags: []string{"executions"},
		Summary: "Follow the output of an execution as server-sent events",
		Description: "Events `stdout` and `stderr` {data or data_base64} from the beginning, or from `Last-Event-ID` (or `since`), live until the end; then `exit` {code, signal}, or `error` where the command did not run. " +
			"`lost` counts bytes before `data` that are not kept: an execution's beginning is, and what comes while somebody follows.",
		Parameters: []*huma.Param{
			pathID("Id of the execution."),
			{Name: lastEventID, In: "header", Description: "Continue after the event of this id.", Schema: stringForm()},
			inQuery("since", "The same, where a header cannot be sent.", stringForm(), false),
		},
		Responses: map[string]*huma.Response{"200": {Description: "The events.", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: event}}}},
		Errors:    readErrors,
	}, g.followLogs)
}

func (g *Gateway) executionLogs(ctx context.Context, in *executionInput) (*api.Logs, error) {
	if _, err := g.execution(ctx, in.ID); err != nil {
		return nil, err
	}
	var stdout, stderr []byte
	truncated := false
	x, err := g.opts.Executor.Logs(ctx, identity(ctx).Project, in.ID, faas.LogPosition{}, false, func(p faas.LogPiece) error {
		truncated = truncated || p.Lost > 0
		if p.Stderr {
			stderr = append(stderr, p.Data...)
		} else {
			stdout = append(stdout, p.Data...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if x.Result != nil {
		truncated = truncated || x.Result.Truncated
	}
	return api.NewLogs(x, stdout, stderr, truncated), nil
}

// logID is the id of an event of a log: the place behind it.
func logID(at faas.LogPosition) string { return fmt.Sprintf("%d-%d", at.Stdout, at.Stderr) }

func parseLogID(id string) (at faas.LogPosition, err error) {
	if id == "" {
		return at, nil
	}
	stdout, stderr, ok := strings.Cut(id, "-")
	var errs [2]error
	at.Stdout, errs[0] = strconv.ParseInt(stdout, 10, 64)
	at.Stderr, errs[1] = strconv.ParseInt(stderr, 10, 64)
	if !ok || errs[0] != nil || errs[1] != nil || at.Stdout < 0 || at.Stderr < 0 {
		return at, faas.InvalidField(lastEventID, "is not the id of an event of this stream")
	}
	return at, nil
}

// sinceOf returns where a reader of an event stream continues: what the header
// says, which a browser sends when it connects again, else the query.
func sinceOf(r *http.Request) (string, error) {
	query, err := queryOf(r, "since")
	if id := r.Header.Get(lastEventID); id != "" {
		return id, err
	}
	return query.Get("since"), err
}

func (g *Gateway) followLogs(w http.ResponseWriter, r *http.Request) {
	since, err := sinceOf(r)
	var at faas.LogPosition
	if err == nil {
		at, err = parseLogID(since)
	}
	id := r.PathValue("id")
	if err == nil {
		_, err = g.execution(r.Context(), id)
	}
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
	texts := map[bool]*stream.TextWriter{}
	for _, stderr := range []bool{false, true} {
		kind := api.FrameStdout
		if stderr {
			kind = api.FrameStderr
		}
		texts[stderr] = &stream.TextWriter{Send: func(p []byte) error {
			frame := api.ServerFrame{Type: kind}
			frame.SetData(p)
			return s.sendAs(logID(at), frame)
		}}
	}
	x, err := g.opts.Executor.Logs(ctx, identity(ctx).Project, id, at, true, func(p faas.LogPiece) error {
		at = p.After
		if p.Lost > 0 {
			kind := api.FrameStdout
			if p.Stderr {
				kind = api.FrameStderr
			}
			if err := s.sendAs("", api.ServerFrame{Type: kind, Lost: p.Lost}); err != nil {
				return err
			}
		}
		_, err := texts[p.Stderr].Write(p.Data)
		return err
	})
	for _, t := range texts {
		_ = t.Flush() //nolint:errcheck // a client that is gone needs nothing
	}
	g.endLog(s, r, logID(at), x, err)
}

// endLog tells how the execution of a log ended.
func (g *Gateway) endLog(s *eventStream, r *http.Request, id string, x *faas.Execution, err error) {
	frame := api.ServerFrame{Type: api.FrameError}
	switch {
	case r.Context().Err() != nil:
		return
	case err != nil:
		frame.Error, _ = problemOf(err, requestID(r.Context()))
	case x.Result != nil:
		frame = api.ServerFrame{Type: api.FrameExit, Code: &x.Result.ExitCode, Signal: x.Result.Signal}
	default:
		frame.Error, _ = problemOf(faas.Errorf(faas.KindFailedPrecondition, "the execution is %s: %s", x.Status, x.Error), requestID(r.Context()))
	}
	_ = s.sendAs(id, frame) //nolint:errcheck // a client that is gone needs nothing
}
