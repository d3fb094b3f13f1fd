package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/executor/stream"
)

// executeEvents streams an execution as server-sent events: started, stdout and
// stderr as they come, then exit and result, or error.
func (g *Gateway) executeEvents(w http.ResponseWriter, r *http.Request, req faas.Request) {
	s := &eventStream{w: w, control: http.NewResponseController(w)}
	stdout, stderr := &stream.TextWriter{Send: s.output(api.FrameStdout)}, &stream.TextWriter{Send: s.output(api.FrameStderr)}
	req.Stdout, req.Stderr = stdout, stderr
	req.Started = func(e faas.Execution) {
		// The first bytes on a connection find its buffer empty: this does not
		// block.
		_ = s.send(api.ServerFrame{Type: api.FrameStarted, ID: e.ID}) //nolint:errcheck // a client that is gone ends the request's context
	}
	stopBeating := s.beat(heartbeatPeriod)
	result, err := g.run(r.Context(), req)
	stopBeating()
	if err != nil && !s.begun {
		g.fail(w, r, err)
		return
	}
	// What the last piece left of a character is output too. A client that is
	// gone is noticed by the executor through the request's context.
	_ = stdout.Flush() //nolint:errcheck // see above
	_ = stderr.Flush() //nolint:errcheck // see above
	for _, frame := range g.lastFrames(r, result, err) {
		_ = s.send(frame) //nolint:errcheck // see above
	}
}

// lastFrames says how an execution ended.
func (g *Gateway) lastFrames(r *http.Request, result *faas.Result, err error) []api.ServerFrame {
	if err != nil {
		problem, _ := problemOf(err, requestID(r.Context()))
		g.logFailure(r.Context(), problem, err)
		return []api.ServerFrame{{Type: api.FrameError, Error: problem}}
	}
	return []api.ServerFrame{
		{Type: api.FrameExit, Code: &result.ExitCode, Signal: result.Signal},
		{Type: api.FrameResult, Result: api.NewExecuteResponse(result)},
	}
}

// eventStream writes server-sent events, one at a time.
type eventStream struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
	seq     int64
	last    time.Time // of the last write
	// patience is how long one write may take; 0: as long as it wants. A
	// command waits for its reader, what goes on without it does not.
	patience time.Duration
}

// slowReader is how long a reader of what goes on without it may let the server
// wait; then it is dropped, and continues where it was when it likes.
const slowReader = 20 * time.Second

// open begins the stream before there is an event.
func (s *eventStream) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.patience = slowReader
	s.begin()
	_ = s.control.Flush() //nolint:errcheck // a client that is gone ends the request's context
}

func (s *eventStream) begin() {
	if s.begun {
		return
	}
	s.begun = true
	header := s.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // proxies must not hold events back
	s.w.WriteHeader(http.StatusOK)
}

func (s *eventStream) send(frame api.ServerFrame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	frame.Seq = s.seq
	return s.write(strconv.FormatInt(s.seq, 10), frame.Type, frame)
}

// sendAs is send under an id of the caller's; with none the reader keeps that
// of the event before.
func (s *eventStream) sendAs(id string, frame api.ServerFrame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	frame.Seq = s.seq
	return s.write(id, frame.Type, frame)
}

// event sends data that numbers itself.
func (s *eventStream) event(id, name string, data any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(id, name, data)
}

// write writes one event; mu is held.
func (s *eventStream) write(id, name string, data any) error {
	s.begin()
	encoded, err := encodeJSON(data)
	if err != nil {
		return err
	}
	if s.patience > 0 {
		_ = s.control.SetWriteDeadline(time.Now().Add(s.patience)) //nolint:errcheck // not offered by test recorders
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	// encodeJSON ends its line; an empty line ends the event.
	if _, err := fmt.Fprintf(s.w, "%sevent: %s\ndata: %s\n", id, name, encoded); err != nil {
		return err
	}
	s.last = time.Now()
	return s.control.Flush()
}

func (s *eventStream) output(kind string) func([]byte) error {
	return func(p []byte) error {
		frame := api.ServerFrame{Type: kind}
		frame.SetData(p)
		return s.send(frame)
	}
}

// beat fills silences with comments, so that no proxy takes the stream for
// dead. The function that it returns ends that and waits for it.
func (s *eventStream) beat(period time.Duration) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
				s.heartbeat(period)
			}
		}
	}()
	return func() { close(end); <-ended }
}

func (s *eventStream) heartbeat(period time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.last) < period {
		return
	}
	s.begin()
	s.last = time.Now()
	if s.patience > 0 {
		_ = s.control.SetWriteDeadline(time.Now().Add(s.patience)) //nolint:errcheck // not offered by test recorders
	}
	if _, err := io.WriteString(s.w, ": heartbeat\n\n"); err == nil {
		_ = s.control.Flush() //nolint:errcheck // a client that is gone ends the request's context
	}
}
