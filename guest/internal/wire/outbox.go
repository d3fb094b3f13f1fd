package wire

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
)

// ErrStopped is returned for bytes that the receiver no longer wants.
var ErrStopped = errors.New("the receiver closed the stream")

// Outbox is the sending end of one channel. While its stream is detached,
// writers wait for the next. Several goroutines may use it.
type Outbox struct {
	channel uint8

	mu      sync.Mutex
	stream  *Stream // nil: detached, or not yet attached
	credit  int
	sending int   // sends under way on stream
	err     error // why nothing can be sent any more
	changed chan struct{}
	idle    chan struct{} // closed when a detaching outbox has no send under way
}

// NewOutbox returns a detached outbox for a channel.
func NewOutbox(channel uint8) *Outbox {
	return &Outbox{channel: channel, changed: make(chan struct{})}
}

// wake lets every waiter look again; the lock is held.
func (o *Outbox) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// Attach lets the outbox send on st, up to credit bytes for now.
func (o *Outbox) Attach(st *Stream, credit int) {
	o.mu.Lock()
	o.stream, o.credit = st, credit
	o.wake()
	o.mu.Unlock()
}

// Detach stops sending; it returns once no frame is under way, and says
// whether there is anything left to send later.
func (o *Outbox) Detach() (open bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stream, o.credit = nil, 0
	for o.sending > 0 {
		if o.idle == nil {
			o.idle = make(chan struct{})
		}
		idle := o.idle
		o.mu.Unlock()
		<-idle
		o.mu.Lock()
	}
	return o.err == nil
}

// Fail ends the outbox: nothing can be sent any more. The first reason stays.
func (o *Outbox) Fail(err error) {
	o.mu.Lock()
	if o.err == nil {
		o.err = err
		o.wake()
	}
	o.mu.Unlock()
}

func (o *Outbox) grant(n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n <= 0 || n > Window-o.credit {
		return errWindow
	}
	if o.stream != nil {
		o.credit += n
		o.wake()
	}
	return nil
}

// wait returns with the lock held once ready holds.
func (o *Outbox) wait(ready func() bool, done <-chan struct{}) error {
	o.mu.Lock()
	for {
		if o.err != nil {
			o.mu.Unlock()
			return o.err
		}
		if ready() {
			return nil
		}
		changed := o.changed
		o.mu.Unlock()
		select {
		case <-changed:
		case <-done:
			return os.ErrDeadlineExceeded
		}
		o.mu.Lock()
	}
}

// Room waits until at least one byte may be sent and returns how many may.
func (o *Outbox) Room(done <-chan struct{}) (int, error) {
	if err := o.wait(func() bool { return o.credit > 0 }, done); err != nil {
		return 0, err
	}
	defer o.mu.Unlock()
	return o.credit, nil
}

// begin waits for a stream, and for room when most > 0; it takes up to most
// bytes of it. Every begin is followed by an end.
func (o *Outbox) begin(most int, done <-chan struct{}) (*Stream, int, error) {
	if err := o.wait(func() bool { return o.stream != nil && (most == 0 || o.credit > 0) }, done); err != nil {
		return nil, 0, err
	}
	defer o.mu.Unlock()
	n := min(most, o.credit)
	o.credit -= n
	o.sending++
	return o.stream, n, nil
}

func (o *Outbox) end() {
	o.mu.Lock()
	o.sending--
	if o.sending == 0 && o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
	o.mu.Unlock()
}

// WriteFramed sends buf[HeaderSize:]; the bytes before it are overwritten with
// headers, which saves a copy or a second system call.
func (o *Outbox) WriteFramed(buf []byte, done <-chan struct{}) (int, error) {
	total := 0
	for len(buf) > HeaderSize {
		st, n, err := o.begin(min(len(buf)-HeaderSize, MaxData), done)
		if err != nil {
			return total, err
		}
		Header{FrameData, o.channel, st.id, uint32(n)}.Put(buf)
		err = st.session.write(buf[:HeaderSize+n])
		o.end()
		if err != nil {
			return total, err
		}
		total += n
		buf = buf[n:]
	}
	return total, nil
}

var frameBuffers = sync.Pool{New: func() any { b := make([]byte, HeaderSize+MaxData); return &b }}

// Write sends a copy of p.
func (o *Outbox) Write(p []byte) (int, error) { return o.WriteUntil(p, nil) }

// WriteUntil is Write until done is closed.
func (o *Outbox) WriteUntil(p []byte, done <-chan struct{}) (int, error) {
	if len(p) <= smallChunk {
		buf := make([]byte, HeaderSize+len(p))
		copy(buf[HeaderSize:], p)
		return o.WriteFramed(buf, done)
	}
	bp := frameBuffers.Get().(*[]byte)
	defer frameBuffers.Put(bp)
	total := 0
	for total < len(p) {
		n := copy((*bp)[HeaderSize:], p[total:])
		sent, err := o.WriteFramed((*bp)[:HeaderSize+n], done)
		total += sent
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Pipe is the reading end of a pipe, from which bytes can be moved without
// being copied through this process.
type Pipe interface {
	io.Reader
	// Prepare is called before each wait for bytes.
	Prepare()
	// Moved is called with how many bytes a wait found.
	Moved(n int)
	SyscallConn() (syscall.RawConn, error)
}

// ReadFrom sends everything that r has. It reads only when there is room, so
// that a receiver that does not read stops the source.
func (o *Outbox) ReadFrom(r io.Reader) (int64, error) {
	if p, ok := r.(Pipe); ok {
		return o.sendPipe(p)
	}
	return o.copyFrom(r)
}

func (o *Outbox) copyFrom(r io.Reader) (int64, error) {
	bp := frameBuffers.Get().(*[]byte)
	defer frameBuffers.Put(bp)
	var total int64
	for {
		room, err := o.Room(nil)
		if err != nil {
			return total, err
		}
		n, rerr := r.Read((*bp)[HeaderSize : HeaderSize+min(room, MaxData)])
		if n > 0 {
			sent, err := o.WriteFramed((*bp)[:HeaderSize+n], nil)
			total += int64(sent)
			if err != nil {
				return total, err
			}
		}
		if rerr == io.EOF {
			return total, nil
		}
		if rerr != nil {
			return total, rerr
		}
	}
}

// CloseWrite tells the receiver that the channel ends here.
func (o *Outbox) CloseWrite() error {
	st, _, err := o.begin(0, nil)
	if err != nil {
		return err
	}
	defer o.end()
	return st.sendEmpty(FrameEnd, o.channel)
}

// Final sends the last message of the stream and ends the outbox.
func (o *Outbox) Final(t FrameType, v any) error {
	st, _, err := o.begin(0, nil)
	if err != nil {
		return err
	}
	defer o.end()
	err = st.Message(t, v)
	o.Fail(ErrStopped)
	return err
}

// Message sends a message of the stream, after all data that was sent before.
func (o *Outbox) Message(t FrameType, v any) error {
	st, _, err := o.begin(0, nil)
	if err != nil {
		return err
	}
	defer o.end()
	return st.Message(t, v)
}
