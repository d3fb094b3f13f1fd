package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// StreamOptions says how an instance is joined. Every field may be left empty.
type StreamOptions struct {
	Processes bool   // report processes that come and go
	Session   string // continue this session, after Since
	Since     int64
	// Everything follows what every client of the instance does, after Since;
	// 0: from the beginning of what is kept.
	Everything bool
}

// Stream is a place in an instance: commands and terminals in it, files that
// change, its state. It outlives lost connections: Frames connects again by
// itself and misses nothing. Safe for concurrent use, Frames by one at a time.
type Stream struct {
	client   *Client
	instance string
	opts     StreamOptions

	mu      sync.Mutex
	conn    *websocket.Conn // nil while it is lost
	session string
	seq     int64
	closed  bool
}

// Stream joins an instance, by its id or name. ctx bounds the joining only.
func (c *Client) Stream(ctx context.Context, instance string, opts StreamOptions) (*Stream, error) {
	s := &Stream{client: c, instance: instance, opts: opts, session: opts.Session, seq: opts.Since}
	if err := s.connect(ctx, opts.Everything || opts.Session != ""); err != nil {
		return nil, err
	}
	return s, nil
}

// connect opens a connection; with resume it continues after the last frame.
func (s *Stream) connect(ctx context.Context, resume bool) error {
	query := url.Values{}
	if s.opts.Processes {
		query.Set("processes", "1")
	}
	s.mu.Lock()
	if resume {
		query.Set("since", strconv.FormatInt(s.seq, 10))
		if s.session != "" && !s.opts.Everything {
			query.Set("session", s.session)
		}
	}
	s.mu.Unlock()
	header := http.Header{}
	s.client.headers(header)
	address := s.client.base.String() + instancePath(s.instance) + "/stream?" + query.Encode()
	conn, response, err := websocket.Dial(ctx, address, &websocket.DialOptions{ //nolint:bodyclose // the library's
		HTTPClient: s.client.http, HTTPHeader: header, CompressionMode: websocket.CompressionDisabled,
	})
	switch {
	case err == nil:
	case response != nil && response.StatusCode != http.StatusSwitchingProtocols:
		return problem(response)
	default:
		return s.client.unreachable(err)
	}
	conn.SetReadLimit(maxAnswer)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.CloseNow() //nolint:errcheck // nobody wants it any more
		return errStreamClosed
	}
	s.conn = conn
	return nil
}

var errStreamClosed = &faas.Error{Kind: faas.KindUnavailable, Op: "use stream", Detail: "the stream is closed"}

// Session is the name under which another Stream can continue this one, after
// Seq, once the first frame has come.
func (s *Stream) Session() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session
}

// Seq is the number of the last frame that Frames returned.
func (s *Stream) Seq() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

// Frames returns what comes, heartbeats left out, until ctx ends, the stream is
// closed, or the instance is gone. A lost connection is taken up again; a frame
// of type error says when something could not be kept that long.
func (s *Stream) Frames(ctx context.Context) iter.Seq2[*api.StreamFrame, error] {
	return func(yield func(*api.StreamFrame, error) bool) {
		pause := firstPause
		for {
			err := s.read(ctx, func(f *api.StreamFrame) bool {
				pause = firstPause
				return yield(f, nil)
			})
			for err != nil && s.lost(ctx, err) {
				if !wait(ctx, pause) {
					break
				}
				pause = min(2*pause, longestPause)
				err = s.connect(ctx, true)
			}
			switch {
			case errors.Is(err, errEnough):
				return
			case ctx.Err() != nil:
				yield(nil, ctx.Err())
				return
			case err != nil:
				yield(nil, err)
				return
			}
		}
	}
}

// lost says whether a failure is one of the connection, which can be made anew.
func (s *Stream) lost(ctx context.Context, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed && ctx.Err() == nil && !errors.Is(err, errEnough) && faas.KindOf(err) == faas.KindUnavailable
}

// read reads one connection's frames until each wants no more.
func (s *Stream) read(ctx context.Context, each func(*api.StreamFrame) bool) error {
	s.mu.Lock()
	conn, closed := s.conn, s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return errStreamClosed
	case conn == nil:
		return s.client.unreachable(io.ErrUnexpectedEOF)
	}
	var last error // what the server said before it closed
	for {
		quiet, cancel := context.WithTimeout(ctx, silence)
		_, body, err := conn.Read(quiet)
		cancel()
		if err != nil {
			s.mu.Lock()
			s.conn = nil
			s.mu.Unlock()
			conn.CloseNow() //nolint:errcheck // it is lost
			if websocket.CloseStatus(err) == websocket.StatusNormalClosure && last != nil {
				return last
			}
			return s.client.unreachable(lostStream(err))
		}
		frame := new(api.StreamFrame)
		if err := json.Unmarshal(body, frame); err != nil {
			return faas.Errorf(faas.KindInternal, "the server's frame is not understood: %w", err)
		}
		s.mu.Lock()
		s.seq = max(s.seq, frame.Seq)
		if frame.Session != "" {
			s.session = frame.Session
		}
		s.mu.Unlock()
		if frame.Type == api.FrameError && frame.Error != nil {
			last = frame.Error.Err(0)
		}
		if frame.Type != api.FrameHeartbeat && !each(frame) {
			return errEnough
		}
	}
}

// Send sends one frame. An error of kind unavailable says that the connection
// was lost: the frame may not have arrived, and Frames connects again.
func (s *Stream) Send(ctx context.Context, frame api.StreamRequest) error { return s.send(ctx, frame) }

func (s *Stream) send(ctx context.Context, frame any) error {
	encoded, err := json.Marshal(frame)
	if err != nil {
		return faas.Errorf(faas.KindInvalidArgument, "encode frame: %w", err)
	}
	s.mu.Lock()
	conn, closed := s.conn, s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return errStreamClosed
	case conn == nil:
		return s.client.unreachable(io.ErrUnexpectedEOF)
	}
	if err := conn.Write(ctx, websocket.MessageText, encoded); err != nil {
		return s.client.unreachable(lostStream(err))
	}
	return nil
}

// Exec starts a command; a frame of type started names it. With a terminal its
// size is that of tty.
func (s *Stream) Exec(ctx context.Context, request api.ExecRequest, tty *faas.TerminalSize) error {
	frame := struct {
		api.ExecRequest
		api.StreamRequest
	}{request, api.StreamRequest{Type: api.FrameExec}}
	if tty != nil {
		frame.TTY, frame.Cols, frame.Rows = true, tty.Cols, tty.Rows
	}
	return s.send(ctx, frame)
}

// Close leaves the instance. What was started goes on for a while, so that it
// can be continued; see Session.
func (s *Stream) Close() error {
	s.mu.Lock()
	conn := s.conn
	s.conn, s.closed = nil, true
	s.mu.Unlock()
	if conn == nil {
		return nil
	}
	return ignoreClosed(conn.Close(websocket.StatusNormalClosure, ""))
}

func ignoreClosed(err error) error {
	if err == nil || websocket.CloseStatus(err) != -1 || errors.Is(err, io.EOF) || strings.Contains(err.Error(), "closed") {
		return nil
	}
	return err
}

// TerminalOptions joins a terminal in an instance to the caller's.
type TerminalOptions struct {
	Command []string // empty: a login shell
	Size    faas.TerminalSize
	Stdin   io.Reader
	Stdout  io.Writer
	Resize  <-chan faas.TerminalSize
	Env     map[string]string
}

// Terminal runs a command in a terminal of an instance until it ends, and
// returns its exit code. A lost connection is taken up again; what was typed
// meanwhile waits. A read from Stdin that is under way at the end is not waited
// for.
func (c *Client) Terminal(ctx context.Context, instance string, opts TerminalOptions) (int, error) {
	s, err := c.Stream(ctx, instance, StreamOptions{})
	if err != nil {
		return 0, err
	}
	defer s.Close() //nolint:errcheck // the command has ended
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	command := api.Command{Args: opts.Command}
	if len(opts.Command) == 0 {
		command = api.Command{Shell: "exec \"${SHELL:-sh}\" -l"}
	}
	if err := s.Exec(ctx, api.ExecRequest{Command: command, EnvVars: opts.Env}, &opts.Size); err != nil {
		return 0, err
	}
	var id string
	for frame, err := range s.Frames(ctx) {
		switch {
		case err != nil:
			return 0, err
		case frame.Type == api.FrameStarted && id == "":
			id = frame.ID
			go s.typed(ctx, id, opts.Stdin)
			go s.resized(ctx, id, opts.Resize)
		case frame.Type == api.FrameStdout && frame.ID == id:
			if _, err := opts.Stdout.Write(frame.Output()); err != nil {
				return 0, err
			}
		case frame.Type == api.FrameExit && frame.ID == id:
			return *frame.Code, nil
		case frame.Type == api.FrameError && (frame.ID == id || id == ""):
			return 0, frame.Error.Err(0)
		}
	}
	return 0, ctx.Err()
}

// typed sends what is typed, again where the connection was lost before.
func (s *Stream) typed(ctx context.Context, id string, from io.Reader) {
	if from == nil {
		return
	}
	piece := make([]byte, inputPiece)
	for {
		n, err := from.Read(piece)
		if n > 0 {
			s.persist(ctx, api.StreamRequest{Type: api.FrameStdin, ID: id, DataBase64: piece[:n]})
		}
		if err != nil || ctx.Err() != nil {
			return // a terminal is not closed: its program decides
		}
	}
}

func (s *Stream) resized(ctx context.Context, id string, sizes <-chan faas.TerminalSize) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-sizes:
			if !ok {
				return
			}
			s.persist(ctx, api.StreamRequest{Type: api.FrameResize, ID: id, Cols: size.Cols, Rows: size.Rows})
		}
	}
}

// persist sends a frame once there is a connection.
func (s *Stream) persist(ctx context.Context, frame api.StreamRequest) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if err := s.send(ctx, frame); faas.KindOf(err) != faas.KindUnavailable || errors.Is(err, errStreamClosed) {
			return
		}
		if !wait(ctx, pause) {
			return
		}
	}
}
