package stream

import (
	"context"
	"sort"

	"github.com/faas-platform/faas"
)

// Conn is one client of an instance. Its methods may be called from different
// goroutines; Next from one at a time.
type Conn struct {
	hub       *Hub
	session   *session // nil: it follows everything and starts nothing of its own
	all       bool
	processes bool
	run       func(ctx context.Context, req faas.Request) (*faas.Result, error)
	cursor    int64  // the newest frame that Next returned
	taken     int64  // of session.frames.total
	begun     bool   // Next has looked
	lost      bool   // what it asked for is surely not all there
	forgotten string // the session that it asked for, which is not there any more
	dropped   error  // why the session's last client was dropped
	wake      chan struct{}
	gone      chan struct{} // closed when it has left
}

// Session returns the name under which the client's session can be continued;
// "" for one that follows everything.
func (c *Conn) Session() string {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if c.session == nil {
		return ""
	}
	return c.session.id
}

// Seq returns the number of the newest frame that Next returned.
func (c *Conn) Seq() int64 {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	return c.cursor
}

func (c *Conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// batchBytes is how much Next returns at about most.
const batchBytes = 128 << 10

// ErrSlow is what Next ends with when frames were dropped that the client had
// not taken.
var ErrSlow = &faas.Error{
	Kind: faas.KindResourceExhausted, Op: "read stream", Detail: "the client reads too slowly: frames were dropped that it did not get",
	Remedy: "read faster, or follow one session instead of all",
}

// Next waits for frames and returns them in order. Before the first frame it
// tells, once and in a frame of kind Failed, what a client that resumed has
// missed. After an error there is nothing more.
func (c *Conn) Next(ctx context.Context) ([]*Frame, error) {
	for {
		c.hub.mu.Lock()
		found, err := c.take()
		closed := c.hub.closed
		c.hub.mu.Unlock()
		switch {
		case err != nil || len(found) > 0:
			return found, err
		case closed != nil:
			return nil, closed
		}
		select {
		case <-c.wake:
		case <-c.gone:
			return nil, &faas.Error{Kind: faas.KindUnavailable, Op: "read stream", Detail: "the stream is closed"}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take returns the next frames; the lock is held.
func (c *Conn) take() ([]*Frame, error) {
	rings := c.rings()
	found, err := c.missed(rings)
	if err != nil {
		return nil, err
	}
	at := make([]int, len(rings))
	for i, r := range rings {
		at[i] = r.after(c.cursor)
	}
	for bytes := 0; bytes < batchBytes; {
		next := -1
		for i, r := range rings {
			if at[i] < len(r.entries) && (next < 0 || r.entries[at[i]].seq < rings[next].entries[at[next]].seq) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		e := rings[next].entries[at[next]]
		at[next]++
		bytes += e.size
		c.cursor = e.seq
		found = append(found, e.value)
	}
	if c.session != nil && len(found) > 0 {
		c.taken = c.session.frames.upTo(c.cursor)
		c.session.moveRoom()
	}
	return found, nil
}

// missed is what a client that resumed is told of what is gone. One that was
// too slow gets an error. The lock is held.
func (c *Conn) missed(rings []*ring[*Frame]) ([]*Frame, error) {
	everything := c.cursor == 0 && !c.begun
	lost := c.lost
	for _, r := range rings {
		if c.cursor < r.dropped {
			lost, c.cursor = true, r.dropped
		}
	}
	first, forgotten, dropped := !c.begun, c.forgotten, c.dropped
	c.begun, c.lost, c.forgotten, c.dropped = true, false, "", nil
	switch {
	case dropped != nil && !lost:
		return []*Frame{{Seq: c.cursor, Kind: Failed, Err: dropped}}, nil
	case forgotten != "":
		return c.note("the session " + forgotten + " is not kept any more; this is a new one"), nil
	case !lost || everything:
		return nil, nil
	case first:
		return c.note("frames since then are not kept any more; the stream goes on with those that are"), nil
	}
	return nil, ErrSlow
}

func (c *Conn) note(detail string) []*Frame {
	return []*Frame{{Seq: c.cursor, Kind: Failed, Err: &faas.Error{
		Kind: faas.KindFailedPrecondition, Op: "resume stream", Detail: detail, Remedy: "ask for the state anew",
	}}}
}

// rings are those that the client follows; the lock is held.
func (c *Conn) rings() []*ring[*Frame] {
	rings := []*ring[*Frame]{&c.hub.shared}
	if !c.all {
		return append(rings, &c.session.frames)
	}
	ids := make([]string, 0, len(c.hub.sessions))
	for id := range c.hub.sessions {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	for _, id := range ids {
		rings = append(rings, &c.hub.sessions[id].frames)
	}
	return rings
}

// Tell sends a frame to the client's session, or to itself alone when it
// follows everything.
func (c *Conn) Tell(f Frame) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.own().append(&f)
}

// own returns the client's session, which begins now for one that follows
// everything; the lock is held.
func (c *Conn) own() *session {
	if c.session == nil {
		c.session = c.hub.newSession()
		c.session.join(c)
	}
	return c.session
}

// Drop is Leave for a client that is not heard of why: whoever continues its
// session is told.
func (c *Conn) Drop(cause error) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if c.session != nil {
		c.session.dropped = cause
	}
	c.hub.leave(c)
}

// Leave ends the client's part. What it started goes on for as long as Grace,
// so that it can come back.
func (c *Conn) Leave() {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.hub.leave(c)
}
