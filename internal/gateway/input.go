package gateway

import (
	"context"
	"encoding/json"
	"syscall"

	"github.com/coder/websocket"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/executor/stream"
)

// socketInput turns a client's frames into a request's input.
type socketInput struct {
	socket  *socket
	stdin   *stream.Input
	resize  chan faas.TerminalSize
	signals chan syscall.Signal
}

// newSocketInput joins a socket to the request of e.
func newSocketInput(ctx context.Context, s *socket, e *execution) *socketInput {
	in := &socketInput{socket: s, resize: make(chan faas.TerminalSize, 1), signals: make(chan syscall.Signal, 16)}
	e.req.Resize, e.req.Signals = in.resize, in.signals
	if e.input != nil {
		return in // all of it came with the first frame
	}
	in.stdin = stream.NewInput()
	e.req.Stdin = &stream.Acked{Input: in.stdin, Tell: func(total int64) { s.acknowledge(ctx, total) }}
	return in
}

// read takes frames until the connection or ctx ends.
func (in *socketInput) read(ctx context.Context) {
	defer in.close()
	for {
		kind, body, err := in.socket.conn.Read(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageBinary {
			in.write(body)
			continue
		}
		if err := in.frame(body); err != nil {
			problem, _ := problemOf(err, in.socket.requestID)
			if in.socket.send(ctx, api.ServerFrame{Type: api.FrameError, Error: problem}) != nil {
				return
			}
		}
	}
}

// frame does what one text frame says. Its error is told to the client, and
// the command goes on.
func (in *socketInput) frame(body []byte) error {
	var frame api.ClientFrame
	if err := json.Unmarshal(body, &frame); err != nil {
		return faas.InvalidField("body", "is not a frame: %v", err)
	}
	switch frame.Type {
	case api.FrameStdin:
		in.write(frame.Input())
	case api.FrameCloseStdin:
		in.close()
	case api.FrameResize:
		in.resizeTo(faas.TerminalSize{Cols: frame.Cols, Rows: frame.Rows})
	case api.FrameSignal:
		number, err := signalOf(frame.Signal)
		if err != nil {
			return faas.InvalidField("signal", "%v", err)
		}
		select {
		case in.signals <- syscall.Signal(number):
		default:
			return faas.Errorf(faas.KindResourceExhausted, "more signals wait than the command takes")
		}
	default:
		return faas.InvalidField("type", "there is no frame %q", frame.Type)
	}
	return nil
}

// write passes input on; beyond the window it waits while the command does not
// read. Input after the end, or for a command that closed its standard input,
// is dropped.
func (in *socketInput) write(p []byte) {
	if in.stdin != nil {
		in.stdin.Add(p)
	}
}

// close ends standard input.
func (in *socketInput) close() {
	if in.stdin != nil {
		in.stdin.End()
	}
}

// resizeTo keeps the newest size: only that matters.
func (in *socketInput) resizeTo(size faas.TerminalSize) {
	if size.Cols == 0 || size.Rows == 0 {
		return
	}
	for {
		select {
		case in.resize <- size:
			return
		default:
		}
		select {
		case <-in.resize:
		default:
		}
	}
}
