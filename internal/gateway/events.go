package gateway

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// executeEvents streams an execution as server-sent events: started, stdout and
// stderr as they come, then exit and result, or error.
func (g *Gateway) executeEvents(w http.ResponseWriter, r *http.Request, req faas.Request) {
	s := &eventStream{w: w, control: http.NewResponseController(w)}
	stdout, stderr := &textOutput{send: s.output(api.FrameStdout)}, &textOutput{send: s.output(api.FrameStderr)}
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
	_ = stdout.flush() //nolint:errcheck // see above
	_ = stderr.flush() //nolint:errcheck // see above
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
	s.begin()
	s.seq++
	frame.Seq = s.seq
	encoded, err := encodeJSON(frame)
	if err != nil {
		return err
	}
	// encodeJSON ends its line; an empty line ends the event.
	if _, err := fmt.Fprintf(s.w, "id: %d\nevent: %s\ndata: %s\n", frame.Seq, frame.Type, encoded); err != nil {
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
	if _, err := io.WriteString(s.w, ": heartbeat\n\n"); err == nil {
		_ = s.control.Flush() //nolint:errcheck // a client that is gone ends the request's context
	}
}

// textOutput passes output on in pieces that do not cut a UTF-8 character in
// two, so that text stays text. Each stream has its own; one writer at a time.
type textOutput struct {
	send  func([]byte) error
	carry []byte // the beginning of a character
}

// Write implements io.Writer.
func (t *textOutput) Write(p []byte) (int, error) {
	piece := p
	if len(t.carry) > 0 {
		piece = append(t.carry, p...)
		t.carry = nil
	}
	whole := len(piece) - incomplete(piece)
	t.carry = append([]byte(nil), piece[whole:]...)
	if whole == 0 {
		return len(p), nil
	}
	if err := t.send(piece[:whole]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// flush sends what is left of a character that never ended.
func (t *textOutput) flush() error {
	if len(t.carry) == 0 {
		return nil
	}
	rest := t.carry
	t.carry = nil
	return t.send(rest)
}

// incomplete returns how many bytes at the end begin a character whose rest
// may still come.
func incomplete(p []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(p); back++ {
		c := p[len(p)-back]
		if utf8.RuneStart(c) {
			if !utf8.FullRune(p[len(p)-back:]) {
				return back
			}
			return 0
		}
	}
	return 0
}
