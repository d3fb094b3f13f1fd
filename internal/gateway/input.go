package gateway

import (
	"context"
	"encoding/json"
	"syscall"

	"github.com/coder/websocket"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// socketInput turns a client's frames into a request's input.
type socketInput struct {
	socket  *socket
	stdin   *inputBuffer
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
	in.stdin = newInputBuffer()
	e.req.Stdin = &ackingReader{ctx: ctx, from: in.stdin, socket: s}
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
		in.stdin.add(p)
	}
}

// close ends standard input.
func (in *socketInput) close() {
	if in.stdin != nil {
		in.stdin.end()
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

// ackEvery is how much input is consumed between two acknowledgements.
const ackEvery = api.StdinWindow / 4

// ackingReader tells the client how much of its input was consumed.
type ackingReader struct {
	ctx    context.Context // of the connection
	from   *inputBuffer
	socket *socket
	done   int64
	told   int64
}

// Read implements io.Reader.
func (a *ackingReader) Read(p []byte) (int, error) {
	n, err := a.from.Read(p)
	a.done += int64(n)
	if a.done-a.told >= ackEvery {
		a.told = a.done
		a.socket.acknowledge(a.ctx, a.done)
	}
	return n, err
}

// Close lets the executor say that nobody reads any more.
func (a *ackingReader) Close() error {
	a.from.drop()
	return nil
}
