//go:build unix

package agent

import (
	"context"
	"encoding/json"
	"syscall"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// quiesce ends every connection in an orderly way. Requests that are under way
// are answered; transfers are cut; the streams of commands are detached.
func (a *Agent) quiesce(r *request) error {
	a.mu.Lock()
	if a.quiescing {
		a.mu.Unlock()
		return faas.Errorf(faas.KindConflict, "the agent is already quiescing")
	}
	a.quiescing, a.thawed = true, false
	sessions := make([]*wire.Session, 0, len(a.sessions))
	result := wire.Quiesced{}
	for s, conn := range a.sessions {
		sessions = append(sessions, s)
		result.EndUnseen = result.EndUnseen || endUnseen(conn)
	}
	for c := range a.pending {
		c.Close() //nolint:errcheck // it has proved nothing
	}
	for c := range a.waiting {
		c.Close() //nolint:errcheck // nor has it
	}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.quiescing = false
		a.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(r.ctx, quiesceTimeout)
	defer cancel()
	r.stream.End() // the only stream that its connection does not wait for
	drained := make([]<-chan struct{}, 0, len(sessions))
	for _, s := range sessions {
		drained = append(drained, s.Drain())
	}
	if err := a.detachAll(ctx, r); err != nil {
		return err
	}
	for i, s := range sessions {
		select {
		case <-drained[i]:
		case <-ctx.Done():
			return faas.Errorf(faas.KindDeadlineExceeded, "%d requests did not end in time", s.Streams())
		}
	}
	for _, s := range sessions {
		if s != r.session {
			s.Close()
		}
	}
	a.mu.Lock()
	a.cfg.Protection.reveal()
	a.quiescing = false // the host may come back as soon as it has the answer
	a.mu.Unlock()
	r.stream.Message(wire.FrameResult, wire.Answer{Value: result}) //nolint:errcheck // the host learns by the end of the connection
	r.session.Close()
	return nil
}

// detachAll cuts transfers and detaches commands.
func (a *Agent) detachAll(ctx context.Context, own *request) error {
	a.mu.Lock()
	var requests []*request
	for r := range a.requests {
		if r.cut && r != own {
			requests = append(requests, r)
		}
	}
	var commands []*command
	for _, c := range a.commands {
		commands = append(commands, c)
	}
	a.mu.Unlock()
	for _, r := range requests {
		r.interrupt()
	}
	for _, c := range commands {
		if err := c.detach(ctx); err != nil {
			return err
		}
	}
	return nil
}

// detach ends the command's stream on its connection. What was sent before is
// complete, and what the client sent has arrived when it returns.
func (c *command) detach(ctx context.Context) error {
	select {
	case <-c.ready:
	case <-ctx.Done():
		return faas.Errorf(faas.KindDeadlineExceeded, "a command did not start in time")
	}
	c.mu.Lock()
	if c.process == nil || c.detached || c.released {
		c.mu.Unlock()
		return nil // it never ran, or has lost its host: its stream ends by itself
	}
	c.detached = true
	echoed := make(chan struct{})
	c.echoed = echoed
	st := c.stream
	c.mu.Unlock()
	for _, out := range c.out {
		out.Detach()
	}
	if !c.notice.Detach() {
		return nil // its last message is out, or the client has left: it ends by itself
	}
	if st.Message(wire.FrameDetach, nil) == nil {
		select {
		case <-echoed:
		case <-st.Session().Done():
		case <-ctx.Done():
			return faas.Errorf(faas.KindDeadlineExceeded, "the host did not take leave of a command's streams in time")
		}
	}
	st.End()
	return nil
}

// attachTo lets a detached command go on with a new stream; nil: there is
// none. It is called by the connection's reader, so that nothing of the stream
// is read before it is complete; the client's reader never waits.
func (a *Agent) attachTo(st *wire.Stream, raw json.RawMessage) *command {
	var args wire.Attach
	if json.Unmarshal(raw, &args) != nil {
		return nil
	}
	a.mu.Lock()
	c := a.commands[args.ID]
	a.mu.Unlock()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.detached || c.released || c.echoed != nil {
		return nil
	}
	if c.orphan != nil {
		c.orphan.Stop()
		c.orphan = nil
	}
	c.detached, c.stream = false, st
	room := c.stdin.Rebase()
	st.Message(wire.FrameReply, wire.Answer{Value: wire.Attached{Stdin: &room}}) //nolint:errcheck // Closed tells
	st.Use([2]*wire.Inbox{c.stdin}, c.out)
	c.attach(st, args.Room)
	return c
}

// thaw is called with the lock held when a connection has come. The first
// after a Quiesce starts the time that detached output waits.
func (a *Agent) thaw() {
	if a.thawed {
		return
	}
	a.thawed = true
	a.cfg.Protection.conceal()
	for _, c := range a.commands {
		c.mu.Lock()
		if c.detached && c.orphan == nil {
			c.orphan = time.AfterFunc(detachedTimeout, c.orphaned)
		}
		c.mu.Unlock()
	}
}

// orphaned drops the output of a command whose host did not come back.
func (c *command) orphaned() {
	c.mu.Lock()
	detached := c.detached
	c.mu.Unlock()
	if detached {
		c.release(context.Canceled)
		if c.args.Session {
			c.process.signal(syscall.SIGHUP)
		}
	}
}

// orphanDetached lets every detached command go on without a host: those of a
// copy belong to nobody who could take them up.
func (a *Agent) orphanDetached() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.commands {
		a.owned.Go(c.orphaned)
	}
}
