package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"syscall"

	"github.com/coder/websocket"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// RunOptions joins a running command to the caller's streams. Every field may
// be left empty.
type RunOptions struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            *faas.TerminalSize // not nil: run in a terminal
	Resize         <-chan faas.TerminalSize
	Signals        <-chan syscall.Signal // by Linux's numbers
}

// Run runs a command with live input and output over a WebSocket and returns
// its result without the output. The command is ended when ctx is.
//
// Run does not wait for a read from Stdin that is under way when the command
// ends.
func (c *Client) Run(ctx context.Context, request api.ExecuteRequest, opts RunOptions) (*api.ExecuteResponse, error) {
	return c.runAt(ctx, api.PathExecuteSocket, request, request.Mode, opts)
}

// runAt runs the command of a request over the WebSocket of a route.
func (c *Client) runAt(ctx context.Context, path string, request any, mode faas.Mode, opts RunOptions) (*api.ExecuteResponse, error) {
	result, err := c.runOnce(ctx, path, request, opts)
	if err != nil {
		return nil, err
	}
	return c.finish(mode, result), nil
}

func (c *Client) runOnce(ctx context.Context, path string, request any, opts RunOptions) (*api.ExecuteResponse, error) {
	conn, err := c.dial(ctx, path)
	if err != nil {
		return nil, err
	}
	defer conn.CloseNow() //nolint:errcheck // closed in order already, or beyond saving
	conn.SetReadLimit(maxAnswer)
	ctx, cancel := context.WithCancel(ctx)
	r := &run{client: c, conn: conn, opts: opts, window: newWindow()}
	var senders sync.WaitGroup
	defer senders.Wait()
	defer r.window.close()
	defer cancel()
	if err := r.begin(ctx, request); err != nil {
		if ctx.Err() != nil { // the connection is closed when ctx ends, and says only that
			return nil, ctx.Err()
		}
		return nil, c.unreachable(err)
	}
	if opts.Stdin != nil {
		go r.sendInput(ctx) // not waited for: a read from a terminal cannot be cut short
	}
	senders.Go(func() { r.sendControl(ctx) })
	return r.receive(ctx)
}

// dial opens the WebSocket; a refusal is the problem that the server sent.
func (c *Client) dial(ctx context.Context, path string) (*websocket.Conn, error) {
	address := *c.base
	address.Path += path
	address.RawQuery = "binary=1"
	header := http.Header{}
	c.headers(header)
	conn, response, err := websocket.Dial(ctx, address.String(), &websocket.DialOptions{ //nolint:bodyclose // the library's
		HTTPClient: c.http, HTTPHeader: header, CompressionMode: websocket.CompressionDisabled,
	})
	switch {
	case err == nil:
		return conn, nil
	case response != nil && response.StatusCode != http.StatusSwitchingProtocols:
		return nil, problem(response)
	default:
		return nil, c.unreachable(err)
	}
}

// run is one execution over one connection.
type run struct {
	client *Client
	conn   *websocket.Conn
	opts   RunOptions
	window *window
}

// begin sends the exec frame: the request's fields with the terminal's.
func (r *run) begin(ctx context.Context, request any) error {
	exec := api.ClientFrame{Type: api.FrameExec}
	if r.opts.TTY != nil {
		exec.TTY, exec.Cols, exec.Rows = true, r.opts.TTY.Cols, r.opts.TTY.Rows
	}
	frame := map[string]json.RawMessage{}
	for _, part := range []any{request, exec} {
		encoded, err := json.Marshal(part)
		if err == nil {
			err = json.Unmarshal(encoded, &frame)
		}
		if err != nil {
			return err
		}
	}
	if err := r.write(ctx, frame); err != nil {
		return err
	}
	if r.opts.Stdin == nil && frame["stdin"] == nil && frame["stdin_base64"] == nil {
		return r.write(ctx, api.ClientFrame{Type: api.FrameCloseStdin})
	}
	return nil
}

func (r *run) write(ctx context.Context, frame any) error {
	encoded, err := json.Marshal(frame)
	if err != nil {
		return err
	}
	return r.conn.Write(ctx, websocket.MessageText, encoded)
}

// inputPiece is the largest frame of standard input.
const inputPiece = 32 << 10

// sendInput copies standard input, never more than the window allows, so that
// signals do not queue behind it.
func (r *run) sendInput(ctx context.Context) {
	piece := make([]byte, inputPiece)
	for {
		n, err := r.opts.Stdin.Read(piece)
		if n > 0 {
			if !r.window.take(int64(n)) || r.conn.Write(ctx, websocket.MessageBinary, piece[:n]) != nil {
				return
			}
		}
		if err != nil {
			_ = r.write(ctx, api.ClientFrame{Type: api.FrameCloseStdin}) //nolint:errcheck // receive notices a dead connection
			return
		}
	}
}

// sendControl forwards sizes and signals until ctx ends.
func (r *run) sendControl(ctx context.Context) {
	for {
		var frame api.ClientFrame
		select {
		case <-ctx.Done():
			return
		case size, ok := <-r.opts.Resize:
			if !ok {
				r.opts.Resize = nil
				continue
			}
			frame = api.ClientFrame{Type: api.FrameResize, Cols: size.Cols, Rows: size.Rows}
		case signal, ok := <-r.opts.Signals:
			if !ok {
				r.opts.Signals = nil
				continue
			}
			frame = api.ClientFrame{Type: api.FrameSignal, Signal: strconv.Itoa(int(signal))}
		}
		if r.write(ctx, frame) != nil {
			return
		}
	}
}

// receive takes frames until the result.
func (r *run) receive(ctx context.Context) (*api.ExecuteResponse, error) {
	var refused error
	buffer := make([]byte, 256<<10)
	for {
		kind, content, err := r.conn.Reader(ctx)
		if err == nil && kind == websocket.MessageBinary {
			if err = r.copyOutput(content, buffer); err != nil {
				return nil, err
			}
			continue
		}
		var frame api.ServerFrame
		if err == nil {
			err = json.NewDecoder(content).Decode(&frame)
		}
		switch {
		case err != nil && refused != nil:
			return nil, refused
		case err != nil && ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, r.client.unreachable(err)
		}
		result, err := r.frame(&frame, &refused)
		if result != nil || err != nil {
			return result, err
		}
		if _, err := io.Copy(io.Discard, content); err != nil { // what follows the value: its line's end
			return nil, r.client.unreachable(err)
		}
	}
}

// frame does what one text frame says; the result is the last.
func (r *run) frame(frame *api.ServerFrame, refused *error) (*api.ExecuteResponse, error) {
	switch frame.Type {
	case api.FrameStderr:
		if r.opts.Stderr != nil {
			_, err := r.opts.Stderr.Write(frame.Output())
			return nil, err
		}
	case api.FrameStdinAck:
		r.window.acknowledge(frame.Bytes)
	case api.FrameResult:
		_ = r.conn.Close(websocket.StatusNormalClosure, "") //nolint:errcheck // everything has been said
		return frame.Result, nil
	case api.FrameError:
		// The last word, or about one frame of ours: what follows tells.
		if frame.Error != nil {
			*refused = frame.Error.Err(0)
		}
	}
	return nil, nil
}

// copyOutput copies one binary frame to standard output.
func (r *run) copyOutput(content io.Reader, buffer []byte) error {
	to := r.opts.Stdout
	if to == nil {
		to = io.Discard
	}
	body := &readError{from: content}
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, body, buffer)
	if body.err != nil {
		return r.client.unreachable(body.err)
	}
	return err
}

// window counts input that was sent and not yet consumed.
type window struct {
	mu     sync.Mutex
	moved  *sync.Cond
	sent   int64
	taken  int64
	closed bool
}

func newWindow() *window {
	w := &window{}
	w.moved = sync.NewCond(&w.mu)
	return w
}

// take waits until n more bytes fit; false when the run is over.
func (w *window) take(n int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closed && w.sent+n-w.taken > api.StdinWindow {
		w.moved.Wait()
	}
	w.sent += n
	return !w.closed
}

func (w *window) acknowledge(total int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken = max(w.taken, total)
	w.moved.Broadcast()
}

func (w *window) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.moved.Broadcast()
}
