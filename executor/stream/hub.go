package stream

import (
	"context"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

// Instance is what a hub needs of its instance.
type Instance interface {
	// Exec runs a command with its record, as the executor's ExecInstance.
	Exec(ctx context.Context, req faas.Request) (*faas.Result, error)
	// Agent returns the client of the agent of the present sandbox, nil when
	// it has none that answers. It neither wakes the instance nor keeps it
	// awake.
	Agent() *guest.Client
}

// Bounds of what one hub keeps.
const (
	// keptBytes is how much of a session's frames is kept for a client that
	// comes back, sent or not.
	keptBytes = 2 << 20
	// aheadBytes is how far a session's commands may be ahead of its clients;
	// then they wait.
	aheadBytes = 1 << 20
	// sharedBytes is how much is kept of what concerns every client.
	sharedBytes = 256 << 10
	// maxAway bounds the sessions without a client; the one that is longest
	// without goes first.
	maxAway = 64
)

// Grace is how long a session's commands go on without any client.
const Grace = 15 * time.Minute

// Hub joins the clients of one instance to what happens in it. Frames have one
// sequence of numbers, whichever client they are for.
type Hub struct {
	instance Instance
	grace    time.Duration
	ctx      context.Context // of the executor
	tasks    *sync.WaitGroup // of the executor

	mu        sync.Mutex
	seq       int64
	shared    ring[*Frame] // for every client
	sessions  map[string]*session
	conns     map[*Conn]struct{}
	closed    error // not nil: why there are no more clients
	observers []*observer
}

// NewHub returns a hub without clients. Commands and observers end with ctx
// and count in tasks.
func NewHub(ctx context.Context, tasks *sync.WaitGroup, instance Instance) *Hub {
	start := firstSeq(time.Now())
	h := &Hub{
		instance: instance, grace: Grace, ctx: ctx, tasks: tasks, seq: start,
		shared:   ring[*Frame]{limit: sharedBytes, dropped: start},
		sessions: map[string]*session{}, conns: map[*Conn]struct{}{},
	}
	h.observers = h.newObservers()
	return h
}

// Options says how a client joins.
type Options struct {
	// Since continues after the frame of that number; 0 with Resume: from the
	// beginning of what is kept.
	Since  int64
	Resume bool
	// Session continues the session of that name. A client that resumes
	// without one gets the frames of all of them.
	Session string
	// Run runs the client's commands in the instance; nil: Instance.Exec.
	Run func(ctx context.Context, req faas.Request) (*faas.Result, error)
	// Processes reports processes that come and go.
	Processes bool
}

// Join adds a client. One that does not resume begins a session of its own:
// what it starts is told to it, and to those who ask for everything.
func (h *Hub) Join(opts Options) (*Conn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed != nil {
		return nil, h.closed
	}
	c := &Conn{hub: h, cursor: h.seq, wake: make(chan struct{}, 1), processes: opts.Processes, run: opts.Run, gone: make(chan struct{})}
	if c.run == nil {
		c.run = h.instance.Exec
	}
	if opts.Resume {
		c.cursor = opts.Since
		c.all = opts.Session == ""
	}
	switch {
	case opts.Session != "":
		if c.session = h.sessions[opts.Session]; c.session == nil {
			c.session, c.forgotten = h.newSession(), opts.Session
		}
	case !c.all:
		c.session = h.newSession()
	}
	if c.cursor > h.seq {
		c.cursor, c.lost = h.seq, true // a number of an earlier process, or none of ours
	}
	if c.session != nil {
		c.session.join(c)
	}
	h.conns[c] = struct{}{}
	h.observe()
	return c, nil
}

// Tell sends a frame to every client.
func (h *Hub) Tell(f Frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.conns) == 0 && len(h.sessions) == 0 {
		return
	}
	h.number(&f)
	h.shared.add(f.Seq, f.size(), &f)
	for c := range h.conns {
		c.poke()
	}
}

// number gives a frame its number; the lock is held.
func (h *Hub) number(f *Frame) {
	h.seq++
	f.Seq = h.seq
}

// Refresh looks again whether the inside can be observed: after the instance
// has got another sandbox.
func (h *Hub) Refresh() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.observers {
		if o.stop != nil {
			o.stop()
			o.stop = nil
		}
	}
	h.observe()
}

// Close ends what the clients started, and them with an error that says why.
func (h *Hub) Close(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = cause
	for _, s := range h.sessions {
		s.end()
	}
	for c := range h.conns {
		c.poke()
	}
	h.observe()
}

// Clients returns how many clients there are.
func (h *Hub) Clients() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

// leave removes a client; the lock is held.
func (h *Hub) leave(c *Conn) {
	if _, here := h.conns[c]; !here {
		return
	}
	delete(h.conns, c)
	close(c.gone)
	if c.session != nil {
		c.session.leave(c)
	}
	h.observe()
	away := 0
	var oldest *session
	for _, s := range h.sessions {
		if len(s.conns) > 0 {
			continue
		}
		away++
		if oldest == nil || s.awaySince.Before(oldest.awaySince) {
			oldest = s
		}
	}
	if away > maxAway {
		oldest.end()
	}
}
