package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/executor/stream"
)

// maxFrame bounds one frame from a client; the exec frame may carry files.
const maxStdinFrame = 1 << 20

// executeSocket runs one command over a WebSocket.
func (g *Gateway) executeSocket(w http.ResponseWriter, r *http.Request) {
	g.executeSocketIn(w, r, "")
}

// executeSocketIn runs one command over a WebSocket, in an instance unless its
// id is empty.
func (g *Gateway) executeSocketIn(w http.ResponseWriter, r *http.Request, instance string) {
	if err := g.socketAllowed(r); err != nil {
		g.fail(w, r, err)
		return
	}
	g.work.Add(1)
	defer g.work.Done()
	id := faas.NewID(faas.PrefixExecution)
	w.Header().Set(api.HeaderExecutionID, id)
	// guard has checked the origin already.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // Accept has answered
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s := &socket{g: g, conn: conn, binary: r.URL.Query().Get("binary") == "1", requestID: requestID(ctx), id: id, instance: instance}
	s.serve(ctx, cancel)
}

func (g *Gateway) socketAllowed(r *http.Request) error {
	for name, values := range r.URL.Query() {
		if name != "binary" || len(values) != 1 || values[0] != "0" && values[0] != "1" {
			return faas.InvalidField(name, "this route takes only binary, 0 or 1")
		}
	}
	if g.draining.Load() {
		return errDraining
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return faas.InvalidField("Upgrade", "this route is a WebSocket")
	}
	return requireUser(r.Context())
}

// socket is one execution over one WebSocket.
type socket struct {
	g         *Gateway
	conn      *websocket.Conn
	binary    bool
	requestID string
	id        string // of the execution
	instance  string // that it runs in; empty: a sandbox of its own

	mu   sync.Mutex // of writes
	seq  int64
	last atomic.Int64 // Unix milliseconds of the last write
}

// serve runs the command of the first frame to its end.
func (s *socket) serve(ctx context.Context, cancel context.CancelFunc) {
	defer s.conn.CloseNow() //nolint:errcheck // closed in order already, or beyond saving
	s.conn.SetReadLimit(s.g.opts.MaxBodyBytes)
	e, err := s.readExec(ctx)
	if err != nil {
		s.finish(ctx, nil, err)
		return
	}
	e.req.Project, e.req.ID = identity(ctx).Project, s.id
	if s.instance != "" {
		e.req.Mode, e.req.InstanceID = faas.ModePersistent, s.instance
	}
	e.req.Started = func(e faas.Execution) {
		// The connection's buffer is empty still: this does not block.
		_ = s.send(ctx, api.ServerFrame{Type: api.FrameStarted, ID: e.ID}) //nolint:errcheck // a client that is gone ends ctx
	}
	s.conn.SetReadLimit(maxStdinFrame * 2)
	input := newSocketInput(ctx, s, e)
	stdout, stderr := &stream.TextWriter{Send: s.output(ctx, api.FrameStdout)}, &stream.TextWriter{Send: s.output(ctx, api.FrameStderr)}
	e.req.Stdout, e.req.Stderr = stdout, stderr
	if s.binary {
		e.req.Stdout = s.binaryOutput(ctx)
	}
	// Reading goes on when ctx ends: a read that is cut short closes the
	// connection, and the client is still to be told why its command ended.
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReading()
	var owned sync.WaitGroup
	owned.Go(func() {
		input.read(reading)
		cancel() // the client is gone: so is its command
	})
	owned.Go(func() { s.beat(ctx) })
	result, err := s.g.run(ctx, e.req)
	if ctx.Err() == nil {
		_ = stdout.Flush() //nolint:errcheck // a client that is gone ends ctx
		_ = stderr.Flush() //nolint:errcheck // see above
	}
	s.finish(ctx, result, err)
	input.close()
	cancel()
	stopReading()
	owned.Wait()
}

// readExec reads the first frame.
func (s *socket) readExec(ctx context.Context) (*execution, error) {
	ctx, cancel := context.WithTimeout(ctx, bodyReadTimeout)
	defer cancel()
	kind, body, err := s.conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageText {
		return nil, faas.InvalidField("type", "the first frame must be an exec frame in JSON")
	}
	if s.instance != "" {
		return decodeExec(body, execFields)
	}
	return decodeExec(body, nil)
}

// decodeExec reads an exec frame: an execute request, of which only allows
// less when it is not nil, and a terminal.
func decodeExec(body []byte, only []string) (*execution, error) {
	var frame api.ClientFrame
	word := func(into any, what string) func(json.RawMessage) error {
		return func(raw json.RawMessage) error {
			if json.Unmarshal(raw, into) != nil {
				return errors.New("must be " + what)
			}
			return nil
		}
	}
	e, err := decodeExecuteWith(body, map[string]func(json.RawMessage) error{
		"type": word(&frame.Type, "a string"),
		"tty":  word(&frame.TTY, "true or false"),
		"cols": word(&frame.Cols, "a number of cells"),
		"rows": word(&frame.Rows, "a number of cells"),
	}, only)
	switch {
	case err != nil:
		return nil, err
	case frame.Type != api.FrameExec:
		return nil, faas.InvalidField("type", "the first frame must be exec")
	}
	if frame.TTY {
		e.req.TTY = &faas.TerminalSize{Cols: orDefault(frame.Cols, 80), Rows: orDefault(frame.Rows, 24)}
	}
	return e, nil
}

func orDefault(n, fallback uint16) uint16 {
	if n == 0 {
		return fallback
	}
	return n
}

// farewell bounds the last words to a client that does not read any more.
const farewell = 5 * time.Second

// finish says how it ended and closes the connection in order. Its words are
// bounded only where ctx has ended: otherwise a slow reader gets all of them.
func (s *socket) finish(ctx context.Context, result *faas.Result, err error) {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
	}
	if err != nil {
		problem, _ := problemOf(err, s.requestID)
		s.g.logFailure(ctx, problem, err)
		if s.send(ctx, api.ServerFrame{Type: api.FrameError, Error: problem}) == nil {
			_ = s.conn.Close(websocket.StatusNormalClosure, "") //nolint:errcheck // the client may be gone
		}
		return
	}
	for _, frame := range []api.ServerFrame{
		{Type: api.FrameExit, Code: &result.ExitCode, Signal: result.Signal},
		{Type: api.FrameResult, Result: api.NewExecuteResponse(result)},
	} {
		if s.send(ctx, frame) != nil {
			return
		}
	}
	_ = s.conn.Close(websocket.StatusNormalClosure, "") //nolint:errcheck // the client may be gone
}

// send writes a text frame. It blocks as long as the client does not read.
func (s *socket) send(ctx context.Context, frame api.ServerFrame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	frame.Seq = s.seq
	encoded, err := encodeJSON(frame)
	if err != nil {
		return err
	}
	s.last.Store(time.Now().UnixMilli())
	return s.conn.Write(ctx, websocket.MessageText, encoded)
}

func (s *socket) output(ctx context.Context, kind string) func([]byte) error {
	return func(p []byte) error {
		frame := api.ServerFrame{Type: kind}
		frame.SetData(p)
		return s.send(ctx, frame)
	}
}

// writerFunc makes an io.Writer of a function.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (s *socket) binaryOutput(ctx context.Context) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seq++
		s.last.Store(time.Now().UnixMilli())
		if err := s.conn.Write(ctx, websocket.MessageBinary, p); err != nil {
			return 0, err
		}
		return len(p), nil
	})
}

// beat fills silences until ctx ends. It is also how a client that vanished
// while its input waits to be read is noticed.
func (s *socket) beat(ctx context.Context) {
	ticker := time.NewTicker(heartbeatPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if time.Since(time.UnixMilli(s.last.Load())) < heartbeatPeriod {
			continue
		}
		if s.send(ctx, api.ServerFrame{Type: api.FrameHeartbeat}) != nil {
			return
		}
	}
}

// signalOf reads a signal's name or number.
func signalOf(name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n < 65 {
		return n, nil
	}
	n, ok := signals[strings.TrimPrefix(strings.ToUpper(name), "SIG")]
	if !ok {
		return 0, fmt.Errorf("there is no signal %q", name)
	}
	return n, nil
}

// signals are Linux's, whatever this program runs on: the sandbox is Linux.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
	"SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "CHLD": 17, "CONT": 18, "STOP": 19, "TSTP": 20,
	"TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29, "PWR": 30, "SYS": 31,
}

// acknowledge tells how much standard input the command has taken. It has no
// time-out of its own: a client that does not read holds up only itself.
func (s *socket) acknowledge(ctx context.Context, bytes int64) {
	_ = s.send(ctx, api.ServerFrame{Type: api.FrameStdinAck, Bytes: bytes}) //nolint:errcheck // a client that is gone ends ctx
}
