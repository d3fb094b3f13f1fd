package stream

import (
	"context"
	"time"

	"github.com/faas-platform/faas"
)

// PrefixSession begins the names of sessions.
const PrefixSession = "strm"

// session is what one client started: its commands and their frames. It
// outlasts a lost connection. Every field is guarded by the hub's lock.
type session struct {
	id        string
	hub       *Hub
	frames    ring[*Frame]
	conns     map[*Conn]struct{}
	seen      int64 // of frames.total, what the last client had got when it left
	commands  map[string]*Command
	watches   int
	newest    string // the command that frames without a name are for
	room      chan struct{}
	dropped   error // why its last client was
	awaySince time.Time
	timer     *time.Timer
	ctx       context.Context // of its commands and watches
	stop      context.CancelFunc
}

// newSession makes a session; the lock is held.
func (h *Hub) newSession() *session {
	s := &session{
		id: faas.NewID(PrefixSession), hub: h, frames: ring[*Frame]{limit: keptBytes},
		conns: map[*Conn]struct{}{}, commands: map[string]*Command{}, room: make(chan struct{}),
	}
	s.ctx, s.stop = context.WithCancel(h.ctx)
	h.sessions[s.id] = s
	return s
}

// join adds a client that has the frames up to its cursor; the lock is held.
func (s *session) join(c *Conn) {
	s.conns[c] = struct{}{}
	c.taken = s.frames.upTo(c.cursor)
	c.dropped, s.dropped = s.dropped, nil
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.moveRoom()
}

// leave removes a client; the lock is held. A session that never did anything
// goes with its last one.
func (s *session) leave(c *Conn) {
	delete(s.conns, c)
	s.seen = c.taken
	if len(s.conns) > 0 {
		s.moveRoom()
		return
	}
	s.awaySince = time.Now()
	if len(s.frames.entries) == 0 && len(s.commands) == 0 {
		s.end()
		return
	}
	s.timer = time.AfterFunc(s.hub.grace, func() {
		s.hub.mu.Lock()
		defer s.hub.mu.Unlock()
		if len(s.conns) == 0 {
			s.end()
		}
	})
}

// end forgets a session and ends what it started; the lock is held.
func (s *session) end() {
	delete(s.hub.sessions, s.id)
	s.stop()
	if s.timer != nil {
		s.timer.Stop()
	}
}

// ahead returns how much was added that the slowest client has not got; the
// lock is held.
func (s *session) ahead() int64 {
	if len(s.conns) == 0 {
		return s.frames.total - s.seen
	}
	var most int64
	for c := range s.conns {
		most = max(most, s.frames.total-c.taken)
	}
	return most
}

// moveRoom lets writers look again; the lock is held.
func (s *session) moveRoom() {
	close(s.room)
	s.room = make(chan struct{})
}

// append adds a frame at once, whatever room there is; the lock is held.
func (s *session) append(f *Frame) {
	s.hub.number(f)
	s.frames.add(f.Seq, f.size(), f)
	for c := range s.hub.conns {
		if c.all || c.session == s {
			c.poke()
		}
	}
}

// tell adds a frame without waiting: one of those that are small and few.
func (s *session) tell(f Frame) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.append(&f)
}

// write adds a frame when its clients are near enough; with it waits the
// command that wrote it.
func (s *session) write(f Frame) error {
	for {
		s.hub.mu.Lock()
		room := s.room
		if s.ahead() < aheadBytes {
			s.append(&f)
			s.hub.mu.Unlock()
			return nil
		}
		s.hub.mu.Unlock()
		select {
		case <-room:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}
