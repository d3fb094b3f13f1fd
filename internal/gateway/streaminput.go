package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/coder/websocket"
	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/executor/stream"
)

// streamQuery reads how a client joins an instance.
func (g *Gateway) streamQuery(r *http.Request) (opts stream.Options, binary bool, err error) {
	query, err := queryOf(r, "binary", "since", "session", "processes")
	if err != nil {
		return opts, false, err
	}
	flags := map[string]bool{}
	for _, name := range []string{"binary", "processes"} {
		switch query.Get(name) {
		case "", "0":
		case "1":
			flags[name] = true
		default:
			return opts, false, faas.InvalidField(name, "must be 0 or 1")
		}
	}
	opts.Processes, opts.Session = flags["processes"], query.Get("session")
	if opts.Session != "" && !faas.ValidID(stream.PrefixSession, opts.Session) {
		return opts, false, faas.InvalidField("session", "is not the name of a session")
	}
	if since := query.Get("since"); since != "" {
		opts.Resume = true
		if opts.Since, err = strconv.ParseInt(since, 10, 64); err != nil || opts.Since < 0 {
			return opts, false, faas.InvalidField("since", "must be the seq of a frame, or 0")
		}
	}
	switch {
	case opts.Session != "" && !opts.Resume:
		return opts, false, faas.InvalidField("session", "is continued with since")
	case g.draining.Load():
		return opts, false, errDraining
	case !strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		return opts, false, faas.InvalidField("Upgrade", "this route is a WebSocket")
	}
	return opts, flags["binary"], nil
}

// read takes frames until the connection or ctx ends, and waits for what they
// began. Input for a command that does not read holds up what comes behind it.
func (s *streamSocket) read(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		kind, body, err := s.ws.Read(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageBinary {
			err = s.input(&api.StreamRequest{}, body)
		} else {
			err = s.request(ctx, &tasks, body)
		}
		if err != nil {
			s.conn.Tell(stream.Frame{Kind: stream.Failed, Err: err})
		}
	}
}

// request does what one text frame says. Its error is told to the client.
func (s *streamSocket) request(ctx context.Context, tasks *sync.WaitGroup, body []byte) error {
	var named struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(body, &named); err != nil {
		return faas.InvalidField("body", "is not a frame: %v", err)
	}
	if named.Type == api.FrameExec {
		return s.exec(body)
	}
	var frame api.StreamRequest
	if err := decodeBody(body, &frame); err != nil {
		return err
	}
	switch frame.Type {
	case api.FrameGetState:
		return s.tellState(ctx, nil)
	case api.FrameWatch:
		if err := checkPath("path", frame.Path); err != nil {
			return err
		}
		return s.conn.Watch(ctx, frame.Path, frame.Recursive)
	}
	if s.readOnly != nil {
		return s.readOnly
	}
	switch frame.Type {
	case api.FrameStdin:
		return s.input(&frame, frame.Input())
	case api.FrameCheckpoint, api.FrameStop:
		tasks.Go(func() {
			// What is begun is finished, whether or not the client stays.
			if err := s.change(context.WithoutCancel(ctx), &frame); err != nil {
				s.conn.Tell(stream.Frame{Kind: stream.Failed, Err: err})
			}
		})
		return nil
	}
	return s.control(&frame)
}

// exec starts the command of an exec frame.
func (s *streamSocket) exec(body []byte) error {
	if s.readOnly != nil {
		return s.readOnly
	}
	if s.g.draining.Load() {
		return errDraining
	}
	e, err := decodeExec(body, execFields)
	if err != nil {
		return err
	}
	e.req.Project = s.who
	if e.req.Timeout == 0 {
		// A terminal lasts as long as its user wants; the session's end is its.
		e.req.Timeout = faas.MaxTimeout
	}
	_, err = s.conn.Exec(e.req, e.input == nil)
	return err
}

func (s *streamSocket) input(frame *api.StreamRequest, content []byte) error {
	if s.readOnly != nil {
		return s.readOnly
	}
	cmd, err := s.conn.Command(frame.ID)
	if err != nil {
		return err
	}
	cmd.Input(content)
	return nil
}

// control does what concerns a running command besides its input.
func (s *streamSocket) control(frame *api.StreamRequest) error {
	cmd, err := s.conn.Command(frame.ID)
	if err != nil {
		return err
	}
	switch frame.Type {
	case api.FrameCloseStdin:
		cmd.CloseInput()
	case api.FrameResize:
		cmd.Resize(faas.TerminalSize{Cols: frame.Cols, Rows: frame.Rows})
	case api.FrameSignal:
		number, err := signalOf(frame.Signal)
		if err != nil {
			return faas.InvalidField("signal", "%v", err)
		}
		return cmd.Signal(syscall.Signal(number))
	}
	return nil
}

// change takes a snapshot of the instance, or stops it.
func (s *streamSocket) change(ctx context.Context, frame *api.StreamRequest) error {
	if frame.Type == api.FrameStop {
		_, err := s.g.opts.Executor.StopInstance(ctx, s.who, s.instance)
		return err // every client is told the new state
	}
	taken, err := s.g.opts.Executor.Snapshot(ctx, s.who, s.instance, faas.SnapshotRequest{Name: frame.Name, Kind: frame.Kind})
	if err != nil {
		return err
	}
	return s.tellState(ctx, taken)
}

// tellState tells the client how its instance stands.
func (s *streamSocket) tellState(ctx context.Context, taken *faas.Snapshot) error {
	x, err := s.g.opts.Executor.Instance(ctx, s.who, s.instance)
	if err != nil {
		return err
	}
	s.conn.Tell(stream.Frame{Kind: stream.State, Instance: x, Snapshot: taken})
	return nil
}

func (g *Gateway) registerStreams() {
	schemas := g.api.OpenAPI().Components.Schemas
	for _, frame := range []reflect.Type{reflect.TypeFor[api.StreamRequest](), reflect.TypeFor[api.StreamFrame]()} {
		schemas.Schema(frame, true, frame.Name())
	}
	bit := &huma.Schema{Type: huma.TypeString, Enum: []any{"0", "1"}}
	for _, route := range []struct{ id, path, summary string }{
		{"stream-instance", api.PathStream, "Join an instance over a WebSocket: commands, terminals, files, state"},
		{"stream-container", api.PathContainersStream, "Join an instance over a WebSocket (the same, for older clients)"},
	} {
		handleRaw(g, huma.Operation{
			OperationID: route.id, Method: http.MethodGet, Path: route.path, Tags: []string{"instances"}, Summary: route.summary,
			Description: "JSON text frames: `StreamRequest` from the client, `StreamFrame` from the server, which begins with a `state`. " +
				"A client gets the frames of what it started, of what concerns the instance, and of nothing else that others started. " +
				"Commands go on when the connection is lost: connect again with `since` and the `session` of the first `state`, and nothing is missed. Without a session it gets the frames of all of them. " +
				"A command waits for its client, up to 1 MiB ahead; a client that takes nothing for 20 s is dropped, and told so when it comes back. Without any client commands end after 15 minutes. " +
				"With `binary=1` standard input and output are binary frames. docs/streams.md tells all of it.",
			Parameters: []*huma.Param{
				pathID("Id of the instance, or its name."),
				inQuery("since", "Continue after the frame of this seq; 0: from the beginning of what is kept.", stringForm(), false),
				inQuery("session", "Continue this session.", stringForm(), false),
				inQuery("binary", "1: raw standard input and output as binary frames.", bit, false),
				inQuery("processes", "1: report processes that come and go.", bit, false),
			},
			Responses: map[string]*huma.Response{"101": {Description: "The connection is a WebSocket now."}},
			Errors:    readErrors,
		}, g.openStream)
	}
}
