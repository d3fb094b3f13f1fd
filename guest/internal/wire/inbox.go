package wire

import (
	"errors"
	"io"
	"os"
	"sync"
)

// smallChunk is the least that is allocated for received bytes: short frames
// are gathered in it, so that a peer that sends single bytes costs no more
// memory than its window.
const smallChunk = 4 << 10

var largeChunks = sync.Pool{New: func() any { b := make([]byte, MaxData); return &b }}

// chunk holds received bytes buf[from:to].
type chunk struct {
	buf      []byte
	pooled   *[]byte
	from, to int
}

func newChunk(n int) *chunk {
	if n > MaxData/8 {
		p := largeChunks.Get().(*[]byte)
		return &chunk{buf: *p, pooled: p}
	}
	return &chunk{buf: make([]byte, max(n, smallChunk))}
}

func (c *chunk) free() {
	if c.pooled != nil {
		largeChunks.Put(c.pooled)
		c.pooled, c.buf = nil, nil
	}
}

// Inbox is the receiving end of one channel: what arrived and was not read,
// at most Window bytes. It outlives its stream when that is detached, and
// goes on with the next. One goroutine at a time may read.
type Inbox struct {
	mu      sync.Mutex
	queue   []*chunk
	unread  int
	freed   int // read since the last window update
	discard bool
	end     error // io.EOF, or why nothing more comes
	notify  chan struct{}
	stream  *Stream
	channel uint8
}

// NewInbox returns an empty inbox for a channel.
func NewInbox(channel uint8) *Inbox {
	return &Inbox{channel: channel, notify: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// bind makes st the source of further bytes.
func (in *Inbox) bind(st *Stream) {
	in.mu.Lock()
	in.stream = st
	in.mu.Unlock()
}

// Rebase unbinds the inbox from a stream that is detached and returns the room
// that the next one begins with.
func (in *Inbox) Rebase() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stream, in.freed = nil, 0
	return Window - in.unread
}

// flush grants what was read while no stream was bound.
func (in *Inbox) flush() {
	in.mu.Lock()
	g := in.consumed(0)
	in.mu.Unlock()
	in.grant(g)
}

var errWindow = errors.New("the peer sent more than its window allows")

// receive takes n bytes from r. It is called by the connection's reader, and
// never holds the lock while it waits for bytes. scratch has smallChunk bytes.
func (in *Inbox) receive(r io.Reader, n int, scratch []byte) error {
	in.mu.Lock()
	if in.discard {
		in.mu.Unlock()
		_, err := io.CopyN(io.Discard, r, int64(n))
		return err
	}
	if in.end != nil || n > Window-in.unread-in.freed {
		in.mu.Unlock()
		return errWindow
	}
	in.mu.Unlock()
	if n <= smallChunk {
		if _, err := io.ReadFull(r, scratch[:n]); err != nil {
			return err
		}
		in.append(scratch[:n])
		return nil
	}
	c := newChunk(n)
	if _, err := io.ReadFull(r, c.buf[:n]); err != nil {
		c.free()
		return err
	}
	c.to = n
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.discard {
		c.free()
		return nil
	}
	in.queue = append(in.queue, c)
	in.unread += n
	signal(in.notify)
	return nil
}

// append adds a few bytes to the last chunk, or to a new one.
func (in *Inbox) append(b []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.discard {
		return
	}
	last := len(in.queue) - 1
	if last < 0 || len(in.queue[last].buf)-in.queue[last].to < len(b) {
		in.queue = append(in.queue, newChunk(len(b)))
		last++
	}
	c := in.queue[last]
	c.to += copy(c.buf[c.to:], b)
	in.unread += len(b)
	signal(in.notify)
}

// finish ends the inbox after what it holds; the first reason stays.
func (in *Inbox) finish(err error) {
	in.mu.Lock()
	if in.end == nil {
		in.end = err
	}
	in.mu.Unlock()
	signal(in.notify)
}

// Fail ends the inbox after what it holds with err.
func (in *Inbox) Fail(err error) { in.finish(err) }

// next waits for the first chunk and returns with the lock held, or without
// it and with the reason why there is none.
func (in *Inbox) next(done <-chan struct{}) (*chunk, error) {
	in.mu.Lock()
	for len(in.queue) == 0 {
		end := in.end
		if end != nil {
			in.mu.Unlock()
			signal(in.notify) // a reader after this one must not wait
			return nil, end
		}
		in.mu.Unlock()
		select {
		case <-in.notify:
		case <-done:
			return nil, os.ErrDeadlineExceeded
		}
		in.mu.Lock()
	}
	return in.queue[0], nil
}

// pop removes the first chunk; the lock is held.
func (in *Inbox) pop() {
	in.queue[0] = nil
	in.queue = in.queue[1:]
	if len(in.queue) == 0 {
		in.queue = nil
	}
}

// Read reads what arrived.
func (in *Inbox) Read(p []byte) (int, error) { return in.ReadUntil(p, nil) }

// ReadUntil reads what arrived, or returns os.ErrDeadlineExceeded when done is
// closed before anything has.
func (in *Inbox) ReadUntil(p []byte, done <-chan struct{}) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c, err := in.next(done)
	if err != nil {
		return 0, err
	}
	n := copy(p, c.buf[c.from:c.to])
	c.from += n
	in.unread -= n
	if c.from == c.to {
		in.pop()
		c.free()
	}
	grant := in.consumed(n)
	in.mu.Unlock()
	in.grant(grant)
	return n, nil
}

// WriteTo hands everything to w without copying it once more.
func (in *Inbox) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		c, err := in.next(nil)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		in.pop()
		in.mu.Unlock()
		n, err := w.Write(c.buf[c.from:c.to])
		size := c.to - c.from
		c.free()
		total += int64(n)
		in.mu.Lock()
		in.unread -= size
		grant := in.consumed(size)
		in.mu.Unlock()
		in.grant(grant)
		if err == nil && n < size {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
}

type windowGrant struct {
	stream *Stream
	n      int
}

// consumed accounts for n bytes read and returns what to grant; lock held.
func (in *Inbox) consumed(n int) windowGrant {
	in.freed += n
	if in.stream == nil || in.end != nil || in.freed < windowUpdate {
		return windowGrant{}
	}
	g := windowGrant{in.stream, in.freed}
	in.freed = 0
	return g
}

func (in *Inbox) grant(g windowGrant) {
	if g.stream != nil {
		g.stream.sendWindow(in.channel, g.n) //nolint:errcheck // a broken connection ends the inbox by itself
	}
}

// Discard drops what is there and what still comes, and tells the sender.
func (in *Inbox) Discard() {
	in.mu.Lock()
	if in.discard {
		in.mu.Unlock()
		return
	}
	in.discard = true
	for _, c := range in.queue {
		c.free()
	}
	in.queue, in.unread = nil, 0
	st, over := in.stream, in.end != nil
	if in.end == nil {
		in.end = io.ErrClosedPipe
	}
	in.mu.Unlock()
	signal(in.notify)
	if st != nil && !over {
		st.sendEmpty(FrameStop, in.channel) //nolint:errcheck // see grant
	}
}
