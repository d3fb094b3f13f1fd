package wire

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/faas-platform/faas"
)

// maxStreams bounds the streams that are open at one time on a connection.
const maxStreams = 4096

// Handler is told of what concerns one stream as a whole. Its methods are
// called by the connection's reader and must not wait for anything.
type Handler interface {
	// Message takes a frame of type Reply, Control, Result, Reset or Detach.
	Message(t FrameType, payload []byte)
	// Closed says that the connection has ended and the stream with it.
	Closed(err error)
}

// Accept takes a stream that a client opens. It must not wait.
type Accept func(st *Stream, request []byte) Handler

// Session is one authenticated connection.
type Session struct {
	conn   net.Conn
	reader *bufio.Reader
	accept Accept // nil at the client's end
	goAway func() // called when the agent takes no more streams here; may be nil

	wmu    sync.Mutex
	prefix []byte // goes out ahead of the first frame
	hungUp error  // why nothing can be written any more

	copyOnly atomic.Bool // pages cannot be moved into this connection

	mu       sync.Mutex
	streams  map[uint32]*Stream
	last     uint32 // highest stream id so far
	draining bool
	err      error
	done     chan struct{}
	drained  chan struct{} // closed when draining and without streams
}

// NewClientSession starts the client's end of a connection. proof is what
// ClientHandshake returned. Whoever calls it calls Serve.
func NewClientSession(conn net.Conn, proof []byte, goAway func()) *Session {
	s := newSession(conn)
	s.prefix, s.goAway = proof, goAway
	return s
}

// NewAgentSession starts the agent's end of a connection.
func NewAgentSession(conn net.Conn, accept Accept) *Session {
	s := newSession(conn)
	s.accept = accept
	return s
}

// socketBuffer is asked for each direction of a socket, in bytes: the fewer
// turns between the two ends, the better. The system gives what it allows.
const socketBuffer = 2 << 20

func newSession(conn net.Conn) *Session {
	if sized, ok := conn.(interface {
		SetReadBuffer(bytes int) error
		SetWriteBuffer(bytes int) error
	}); ok {
		sized.SetReadBuffer(socketBuffer)  //nolint:errcheck // it stays as it is
		sized.SetWriteBuffer(socketBuffer) //nolint:errcheck // likewise
	}
	return &Session{
		conn: conn, reader: bufio.NewReaderSize(conn, 16<<10),
		streams: map[uint32]*Stream{}, done: make(chan struct{}), drained: make(chan struct{}),
	}
}

// Stream is one operation on a connection.
type Stream struct {
	session *Session
	id      uint32
	in      [channels]*Inbox  // nil: the peer sends nothing there
	out     [channels]*Outbox // nil: this end sends nothing there
	handler Handler
}

// Ends are what a stream is made of at this end; nil ones are not used.
type Ends struct {
	In      [channels]*Inbox
	Out     [channels]*Outbox
	Handler Handler
	// Opened, if set, gets the stream before anything can come on it. It must
	// not write.
	Opened func(*Stream)
}

// ErrGoingAway is why a connection takes no new stream.
var ErrGoingAway = errors.New("the agent takes no more requests on this connection")

// Open begins a stream with a request. The outboxes are attached with the
// room of a new stream, unless hold is set: then they wait for Attach.
func (s *Session) Open(request any, e Ends, hold bool) (*Stream, error) {
	payload, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	if len(payload) > MaxMessage {
		return nil, &faas.Error{
			Kind:   faas.KindPayloadTooLarge,
			Detail: fmt.Sprintf("the request has %d bytes, the agent takes %d", len(payload), MaxMessage),
			Remedy: "pass large inputs as files or standard input",
		}
	}
	st, err := s.open(payload, e)
	if err != nil {
		return nil, err
	}
	for i := range e.In {
		if e.In[i] != nil {
			e.In[i].flush()
		}
	}
	for i := range e.Out {
		if e.Out[i] != nil && !hold {
			e.Out[i].Attach(st, Window)
		}
	}
	return st, nil
}

// open registers a stream and sends its first frame, both under one lock,
// since streams are numbered in the order of their Open frames.
func (s *Session) open(payload []byte, e Ends) (*Stream, error) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	st, err := s.add(e, 0)
	if err != nil {
		return nil, err
	}
	for i := range e.In {
		if e.In[i] != nil {
			e.In[i].bind(st)
		}
	}
	if e.Opened != nil {
		e.Opened(st)
	}
	if err := s.writeLocked(frame(FrameOpen, 0, st.id, payload)); err != nil {
		s.remove(st)
		return nil, err
	}
	return st, nil
}

// add registers a stream; id 0 takes the next one.
func (s *Session) add(e Ends, id uint32) (*Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return nil, s.err
	case s.draining:
		return nil, ErrGoingAway
	case len(s.streams) >= maxStreams:
		return nil, faas.Errorf(faas.KindResourceExhausted, "%d operations are under way on one connection", maxStreams)
	}
	if id == 0 {
		id = s.last + 1
	}
	s.last = id
	st := &Stream{session: s, id: id, in: e.In, out: e.Out, handler: e.Handler}
	s.streams[id] = st
	return st, nil
}

func (s *Session) remove(st *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[st.id] != st {
		return
	}
	delete(s.streams, st.id)
	s.checkDrained()
}

// checkDrained is called with the lock held.
func (s *Session) checkDrained() {
	if s.draining && len(s.streams) == 0 {
		select {
		case <-s.drained:
		default:
			close(s.drained)
		}
	}
}

// Streams counts what is under way.
func (s *Session) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// Usable says whether a stream can be opened.
func (s *Session) Usable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil && !s.draining
}

// Done is closed when the connection has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err says why the connection ended.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Drain takes no more streams and tells the client so. The channel that it
// returns is closed when the last stream has ended.
func (s *Session) Drain() <-chan struct{} {
	s.mu.Lock()
	first := !s.draining
	s.draining = true
	last := s.last
	s.checkDrained()
	s.mu.Unlock()
	if first && s.accept != nil {
		payload := binary.BigEndian.AppendUint32(nil, last)
		s.write(frame(FrameGoAway, 0, 0, payload)) //nolint:errcheck // a broken connection has ended anyway
	}
	return s.drained
}

// Close ends the connection and every stream on it.
func (s *Session) Close() { s.fail(net.ErrClosed) }

func (s *Session) fail(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	var handlers []Handler
	for _, st := range s.streams {
		if st.handler != nil {
			handlers = append(handlers, st.handler)
		}
	}
	s.streams = map[uint32]*Stream{}
	s.draining = true
	s.checkDrained()
	s.mu.Unlock()
	s.conn.Close() //nolint:errcheck // it is being given up
	for _, h := range handlers {
		h.Closed(err)
	}
	close(s.done)
}

func frame(t FrameType, channel uint8, stream uint32, payload []byte) []byte {
	b := make([]byte, HeaderSize+len(payload))
	Header{t, channel, stream, uint32(len(payload))}.Put(b)
	copy(b[HeaderSize:], payload)
	return b
}

func (s *Session) write(b []byte) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.writeLocked(b)
}

func (s *Session) writeLocked(b []byte) error {
	if s.prefix != nil {
		b = append(s.prefix[:len(s.prefix):len(s.prefix)], b...)
		s.prefix = nil
	}
	if s.hungUp != nil {
		return s.hungUp
	}
	if _, err := s.conn.Write(b); err != nil {
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			// The peer has closed, and what it sent before is still to be
			// read, an answer perhaps. The reader ends the session behind it.
			s.hungUp = err
			return err
		}
		// Part of a frame may be out: nothing can follow it. The reader ends
		// the session, since fail calls handlers that may wait for this lock.
		s.conn.Close() //nolint:errcheck
		return err
	}
	return nil
}

// Serve reads the connection until it ends, and returns why.
func (s *Session) Serve() error {
	var head [HeaderSize]byte
	scratch := make([]byte, smallChunk)
	for {
		if _, err := io.ReadFull(s.reader, head[:]); err != nil {
			s.fail(err)
			return s.Err()
		}
		h, err := ParseHeader(head[:])
		if err == nil {
			err = s.dispatch(h, scratch)
		}
		if err != nil {
			s.fail(fmt.Errorf("guest protocol: %w", err))
			return s.Err()
		}
	}
}

func (s *Session) dispatch(h Header, scratch []byte) error {
	if h.Type == FrameData {
		return s.data(h, scratch)
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(s.reader, payload); err != nil {
		return err
	}
	switch h.Type {
	case FrameOpen:
		return s.opened(h, payload)
	case FrameGoAway:
		return s.goingAway(payload)
	}
	s.mu.Lock()
	st := s.streams[h.Stream]
	s.mu.Unlock()
	if st == nil {
		return nil // it ended at this end while the frame was under way
	}
	switch h.Type {
	case FrameEnd:
		if in := st.in[h.Channel]; in != nil {
			in.finish(io.EOF)
		}
	case FrameWindow:
		if len(payload) != windowSize {
			return errors.New("window update of a wrong size")
		}
		if out := st.out[h.Channel]; out != nil {
			return out.grant(int(binary.BigEndian.Uint32(payload)))
		}
	case FrameStop:
		if out := st.out[h.Channel]; out != nil {
			out.Fail(ErrStopped)
		}
	default:
		if h.Type == FrameResult && s.accept == nil {
			s.remove(st)
		}
		st.handler.Message(h.Type, payload)
	}
	return nil
}

func (s *Session) data(h Header, scratch []byte) error {
	s.mu.Lock()
	st := s.streams[h.Stream]
	s.mu.Unlock()
	if st == nil || st.in[h.Channel] == nil {
		_, err := io.CopyN(io.Discard, s.reader, int64(h.Length))
		return err
	}
	return st.in[h.Channel].receive(s.reader, int(h.Length), scratch)
}

func (s *Session) opened(h Header, payload []byte) error {
	if s.accept == nil {
		return errors.New("the agent tried to open a stream")
	}
	s.mu.Lock()
	draining, last := s.draining, s.last
	s.mu.Unlock()
	if h.Stream <= last {
		return fmt.Errorf("stream %d was opened after %d", h.Stream, last)
	}
	if draining {
		return nil // the client learns from GoAway that it was not taken
	}
	st, err := s.add(Ends{}, h.Stream)
	if errors.Is(err, ErrGoingAway) {
		return nil
	}
	if err != nil {
		return err
	}
	handler := s.accept(st, payload)
	s.mu.Lock()
	st.handler = handler
	err = s.err
	s.mu.Unlock()
	if err != nil { // it failed before it knew the handler
		handler.Closed(err)
	}
	return nil
}

// goingAway ends what the agent has not taken, so that it can be sent again.
func (s *Session) goingAway(payload []byte) error {
	if s.accept != nil || len(payload) != windowSize {
		return errors.New("unexpected end of the connection's service")
	}
	last := binary.BigEndian.Uint32(payload)
	var refused []*Stream
	s.mu.Lock()
	s.draining = true
	for id, st := range s.streams {
		if id > last {
			refused = append(refused, st)
			delete(s.streams, id)
		}
	}
	s.checkDrained()
	s.mu.Unlock()
	if s.goAway != nil {
		s.goAway()
	}
	for _, st := range refused {
		st.handler.Closed(ErrGoingAway)
	}
	return nil
}

// Use sets the agent's ends of a stream that it takes. It is called from
// Accept, before another frame is read.
func (st *Stream) Use(in [channels]*Inbox, out [channels]*Outbox) {
	st.in, st.out = in, out
	for i := range in {
		if in[i] != nil {
			in[i].bind(st)
			in[i].flush()
		}
	}
}

// Message sends a message.
func (st *Stream) Message(t FrameType, v any) error {
	var payload []byte
	if v != nil {
		var err error
		if payload, err = json.Marshal(v); err != nil {
			return err
		}
		if len(payload) > MaxMessage {
			return fmt.Errorf("a message of %d bytes is larger than %d", len(payload), MaxMessage)
		}
	}
	return st.session.write(frame(t, 0, st.id, payload))
}

func (st *Stream) sendEmpty(t FrameType, channel uint8) error {
	return st.session.write(frame(t, channel, st.id, nil))
}

func (st *Stream) sendWindow(channel uint8, n int) error {
	var b [HeaderSize + windowSize]byte
	Header{FrameWindow, channel, st.id, windowSize}.Put(b[:])
	binary.BigEndian.PutUint32(b[HeaderSize:], uint32(n))
	return st.session.write(b[:])
}

// End forgets the stream at this end. Frames that still come are dropped.
func (st *Stream) End() { st.session.remove(st) }

// Session returns the stream's connection.
func (st *Stream) Session() *Session { return st.session }
