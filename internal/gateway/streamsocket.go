package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/executor/stream"
)

// pongTimeout is how long a client may take to answer a ping.
const pongTimeout = 15 * time.Second

// openStream joins a client to an instance over a WebSocket.
func (g *Gateway) openStream(w http.ResponseWriter, r *http.Request) {
	opts, binary, err := g.streamQuery(r)
	id := ""
	if err == nil {
		id, err = g.instanceID(r.Context(), r.PathValue("id"))
	}
	var instance *faas.Instance
	if err == nil {
		instance, err = g.opts.Executor.Instance(r.Context(), identity(r.Context()).Project, id)
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	caller := callerOf(r.Context())
	opts.Run = func(ctx context.Context, req faas.Request) (*faas.Result, error) {
		// It outlives the connection, and is still its caller's.
		req.Mode, req.InstanceID = faas.ModePersistent, id
		return g.run(context.WithValue(ctx, callerKey{}, caller), req)
	}
	conn, err := g.opts.Executor.OpenStream(r.Context(), identity(r.Context()).Project, id, opts)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	defer conn.Leave()
	g.work.Add(1)
	defer g.work.Done()
	// guard has checked the origin already.
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // Accept has answered
	}
	defer ws.CloseNow() //nolint:errcheck // closed in order already, or beyond saving
	s := &streamSocket{
		g: g, ws: ws, conn: conn, binary: binary, instance: id, who: identity(r.Context()).Project,
		requestID: requestID(r.Context()), readOnly: requireUser(r.Context()),
	}
	s.serve(r.Context(), instance)
}

// streamSocket is one client of one instance.
type streamSocket struct {
	g         *Gateway
	ws        *websocket.Conn
	conn      *stream.Conn
	binary    bool
	instance  string
	who       string // the project
	requestID string
	readOnly  error // not nil: why the client may only watch
}

// serve carries frames both ways until the client or the server goes away.
func (s *streamSocket) serve(ctx context.Context, instance *faas.Instance) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.ws.SetReadLimit(s.g.opts.MaxBodyBytes)
	first := s.stateFrame(instance)
	first.Seq, first.Session = s.conn.Seq(), s.conn.Session()
	if s.write(ctx, first) != nil {
		return
	}
	var reader sync.WaitGroup
	defer reader.Wait()
	// A read that is cut short closes the connection, so it ends last.
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReading()
	reader.Go(func() {
		s.read(reading)
		cancel()
	})
	s.end(ctx, s.send(ctx))
}

// send writes frames as they come, and fills silences with heartbeats and
// pings. Its error says why there are no more.
func (s *streamSocket) send(ctx context.Context) error {
	writing := ctx // a frame on its way is not cut short when the server leaves
	ctx, done := s.g.streaming(ctx)
	defer done()
	for {
		waiting, stop := context.WithTimeout(ctx, heartbeatPeriod)
		frames, err := s.conn.Next(waiting)
		silent := err != nil && waiting.Err() != nil && ctx.Err() == nil
		stop()
		switch {
		case ctx.Err() != nil && s.g.leaving.Err() != nil:
			return errStopped
		case silent:
			if err := s.beat(writing); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		raw := false
		for _, f := range frames {
			raw = raw || s.binary && f.Kind == stream.Stdout
			if err := s.frame(writing, f); err != nil {
				return err
			}
		}
		if raw { // binary frames have no number: tell where the client is
			if err := s.write(writing, &api.StreamFrame{Type: api.FrameHeartbeat, Seq: s.conn.Seq()}); err != nil {
				return err
			}
		}
	}
}

// beat tells the client that the server is there, and asks whether it is.
func (s *streamSocket) beat(ctx context.Context) error {
	if err := s.write(ctx, &api.StreamFrame{Type: api.FrameHeartbeat, Seq: s.conn.Seq()}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pongTimeout)
	defer cancel()
	return s.ws.Ping(ctx)
}

// frame writes one frame of the stream.
func (s *streamSocket) frame(ctx context.Context, f *stream.Frame) error {
	if s.binary && f.Kind == stream.Stdout {
		ctx, cancel := context.WithTimeout(ctx, slowReader)
		defer cancel()
		return s.slow(s.ws.Write(ctx, websocket.MessageBinary, f.Data))
	}
	return s.write(ctx, s.encode(f))
}

func (s *streamSocket) write(ctx context.Context, frame *api.StreamFrame) error {
	encoded, err := encodeJSON(frame)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, slowReader)
	defer cancel()
	return s.slow(s.ws.Write(ctx, websocket.MessageText, encoded))
}

// slow leaves word for a client that did not read in time: it is told when it
// comes back, since nothing reaches it now.
func (s *streamSocket) slow(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		s.conn.Drop(stream.ErrSlow)
	}
	return err
}

// encode puts a frame into the form of the wire.
func (s *streamSocket) encode(f *stream.Frame) *api.StreamFrame {
	frame := &api.StreamFrame{
		Type: string(f.Kind), Seq: f.Seq, ID: f.Exec, Bytes: f.Bytes, Path: f.Path, Event: f.Event,
		PID: f.PID, Command: f.Command, Name: f.Name, Data: f.Value,
	}
	switch {
	case f.Kind == stream.Stdout || f.Kind == stream.Stderr:
		frame.SetData(f.Data)
	case f.Result != nil:
		frame.Code, frame.Signal = &f.Result.ExitCode, f.Result.Signal
	case f.Instance != nil:
		frame = s.stateFrame(f.Instance)
		frame.Seq = f.Seq
		if f.Snapshot != nil {
			frame.SnapshotID = f.Snapshot.ID
		}
	case f.Err != nil:
		frame.Error, _ = problemOf(f.Err, s.requestID)
	}
	return frame
}

func (s *streamSocket) stateFrame(x *faas.Instance) *api.StreamFrame {
	return &api.StreamFrame{Type: api.FrameState, State: string(x.Status), Instance: api.NewInstance(x)}
}

// end says why the stream is over, as far as the client still reads.
func (s *streamSocket) end(ctx context.Context, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	status, known := websocket.StatusNormalClosure, &faas.Error{}
	switch {
	case errors.Is(cause, errStopped):
		status = websocket.StatusGoingAway
	case errors.Is(cause, stream.ErrSlow):
		status = websocket.StatusTryAgainLater
	case !errors.As(cause, &known) || ctx.Err() != nil:
		return // the client is gone
	}
	problem, _ := problemOf(cause, s.requestID)
	if s.write(ctx, &api.StreamFrame{Type: api.FrameError, Seq: s.conn.Seq(), Error: problem}) == nil {
		_ = s.ws.Close(status, problem.Detail) //nolint:errcheck // the client may be gone
	}
}
