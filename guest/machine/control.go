package machine

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Places are where an agent finds what Main kept for it.
type Places struct {
	Device string // the control port
	Groups string // the machine's control groups
	Layer  string // the writable layer; empty: there is none
}

// Stats is what the machine's kernel counts of the sandbox.
type Stats struct {
	MemoryBytes    int64 `json:"memory_bytes"`
	MaxMemoryBytes int64 `json:"max_memory_bytes"`
	PIDs           int64 `json:"pids"`
	OOMKills       int64 `json:"oom_kills"`
	PIDsRefused    int64 `json:"pids_refused"`
	DiskBytes      int64 `json:"disk_bytes"` // of the writable layer
}

// The host's requests.
const (
	opStats  = "stats"
	opFreeze = "freeze"
	opThaw   = "thaw"
	opLimit  = "limit"
	opLayer  = "layer" // the layer as a tar in the form of images
)

type request struct {
	Op          string `json:"op"`
	MemoryBytes int64  `json:"memory_bytes,omitempty"` // of opLimit
	PIDs        int64  `json:"pids,omitempty"`         // likewise
}

// answer is a line of JSON; with Body, chunks follow: a length in four bytes,
// big-endian, and so many bytes, until a length of zero and a second answer,
// which says whether the body is whole.
type answer struct {
	Error string `json:"error,omitempty"`
	Stats *Stats `json:"stats,omitempty"`
	Body  bool   `json:"body,omitempty"`
}

const (
	maxChunk  = 64 << 10
	maxAnswer = 64 << 10
)

// Control is the host's end of the control port. Its methods are to be called
// one at a time.
type Control struct {
	conn net.Conn
	in   *bufio.Reader
}

// NewControl speaks over a connection, which Close closes.
func NewControl(conn net.Conn) *Control {
	return &Control{conn: conn, in: bufio.NewReaderSize(conn, maxAnswer)}
}

// Close ends the connection.
func (c *Control) Close() error { return c.conn.Close() }

// ask sends a request and reads the first answer.
func (c *Control) ask(ctx context.Context, r request) (answer, error) {
	op := r.Op
	line, err := json.Marshal(r)
	if err != nil {
		return answer{}, err
	}
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		return answer{}, c.failed(ctx, op, err)
	}
	return c.answer(ctx, op)
}

func (c *Control) answer(ctx context.Context, op string) (a answer, err error) {
	line, err := c.in.ReadSlice('\n')
	if err == nil {
		err = json.Unmarshal(line, &a)
	}
	if err != nil {
		return a, c.failed(ctx, op, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s: the machine says: %s", op, a.Error)
	}
	return a, nil
}

func (c *Control) failed(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%s: %w", op, err)
}

// within ends what is under way on the connection when the context ends.
func (c *Control) within(ctx context.Context) (stop func() bool) {
	if deadline, ok := ctx.Deadline(); ok {
		c.conn.SetDeadline(deadline) //nolint:errcheck // the read tells
	} else {
		c.conn.SetDeadline(time.Time{}) //nolint:errcheck // likewise
	}
	return context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // likewise
}

// Stats asks for the counters.
func (c *Control) Stats(ctx context.Context) (Stats, error) {
	defer c.within(ctx)()
	a, err := c.ask(ctx, request{Op: opStats})
	if err == nil && a.Stats == nil {
		err = errors.New("stats: the machine's answer holds none")
	}
	if err != nil {
		return Stats{}, err
	}
	return *a.Stats, nil
}

// Freeze stops the sandbox's processes, but for the agent, and has all that they
// wrote on the drive of the layer. They stay stopped until Thaw.
func (c *Control) Freeze(ctx context.Context) error {
	defer c.within(ctx)()
	_, err := c.ask(ctx, request{Op: opFreeze})
	return err
}

// Thaw ends Freeze.
func (c *Control) Thaw(ctx context.Context) error {
	defer c.within(ctx)()
	_, err := c.ask(ctx, request{Op: opThaw})
	return err
}

// Limit changes what the sandbox may use within the machine; 0 is all of it.
func (c *Control) Limit(ctx context.Context, memoryBytes, pids int64) error {
	defer c.within(ctx)()
	_, err := c.ask(ctx, request{Op: opLimit, MemoryBytes: memoryBytes, PIDs: pids})
	return err
}

// Layer writes the layer as a tar in the form of images to w.
func (c *Control) Layer(ctx context.Context, w io.Writer) error {
	defer c.within(ctx)()
	if _, err := c.ask(ctx, request{Op: opLayer}); err != nil {
		return err
	}
	buf := make([]byte, maxChunk)
	for {
		var head [4]byte
		if _, err := io.ReadFull(c.in, head[:]); err != nil {
			return c.failed(ctx, opLayer, err)
		}
		n := binary.BigEndian.Uint32(head[:])
		if n == 0 {
			_, err := c.answer(ctx, opLayer)
			return err
		}
		if n > maxChunk {
			return fmt.Errorf("%s: the machine sends a chunk of %d bytes, %d at most", opLayer, n, maxChunk)
		}
		if _, err := io.ReadFull(c.in, buf[:n]); err != nil {
			return c.failed(ctx, opLayer, err)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// chunks writes a body.
type chunks struct{ w io.Writer }

func (c chunks) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		part := p[:min(len(p), maxChunk)]
		if _, err := c.w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))); err != nil { //nolint:gosec // bounded
			return 0, err
		}
		if _, err := c.w.Write(part); err != nil {
			return 0, err
		}
		p = p[len(part):]
	}
	return total, nil
}

func (c chunks) end() error {
	_, err := c.w.Write([]byte{0, 0, 0, 0})
	return err
}
