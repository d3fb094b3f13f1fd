package guest

import (
	"context"
	"slices"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// attachTimeout bounds one attempt to take up a command's streams again.
const attachTimeout = 10 * time.Second

// Quiesce makes the agent end every host connection in an orderly way, with
// all output that was under way delivered first, so that a checkpoint finds
// none open. Running commands go on; their Exec streams resume by themselves
// on new connections when the agent answers again.
//
// Nothing is dialled after Quiesce until the next call on the client, or
// Resume: whoever takes the checkpoint makes no call in between. The streams
// resume with that call. Requests that were under way are answered first;
// file transfers, watches and ports end with KindUnavailable (a watch resumes,
// with an overflow event).
func (c *Client) Quiesce(ctx context.Context) error {
	var done wire.Quiesced
	err := c.call(ctx, wire.OpQuiesce, nil, &done)
	if err != nil {
		return failure("quiesce agent", err)
	}
	c.mu.Lock()
	sessions := slices.Clone(c.sessions)
	c.mu.Unlock()
	for _, s := range sessions {
		if done.EndUnseen {
			s.Close()
		}
		select {
		case <-s.Done():
		case <-ctx.Done():
			return failure("quiesce agent", ctx.Err())
		}
	}
	return nil
}

// Resume lets the streams of commands that Quiesce detached continue now, and
// returns once the agent has answered.
func (c *Client) Resume(ctx context.Context) error {
	_, err := c.Hello(ctx)
	return err
}

// suspending marks the context of the one call that Suspend makes.
type suspending struct{}

// Suspend is Quiesce for a client that others use at the same time: calls that
// begin meanwhile wait for resume, which is to be called once, whatever became
// of the checkpoint. After an error of Suspend itself there is nothing to
// resume. One Suspend at a time.
func (c *Client) Suspend(ctx context.Context) (resume func(context.Context) error, err error) {
	c.mu.Lock()
	if c.parked != nil {
		c.mu.Unlock()
		return nil, faas.Errorf(faas.KindConflict, "the client is suspended already")
	}
	if !c.closed {
		c.parked = make(chan struct{})
	}
	c.mu.Unlock()
	release := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.unpark()
	}
	if err := c.Quiesce(context.WithValue(ctx, suspending{}, true)); err != nil {
		release()
		return nil, err
	}
	return func(ctx context.Context) error {
		release()
		return c.Resume(ctx)
	}, nil
}

// unpark lets calls go on; the lock is held.
func (c *Client) unpark() {
	if c.parked != nil {
		close(c.parked)
		c.parked = nil
	}
}

// own runs f in a goroutine that Close waits for.
func (c *Client) own(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.owned.Add(1)
	go func() {
		defer c.owned.Done()
		f()
	}()
}

// detach ends a command's stream on one connection, with nothing lost: the
// agent has sent all that it will, and what this end sends is complete.
func (e *Exec) detach(l *execLink) {
	if e.in != nil {
		e.in.Detach()
	}
	e.unlink(l)
	l.stream.End() // the agent closes the connection once it has the answer
	e.client.hold(e)
	send(l.session, func() { l.stream.Message(wire.FrameDetach, nil) }) //nolint:errcheck // the agent knows that it detached
	l.release()
}

// hold keeps a detached command until the agent answers again.
func (c *Client) hold(e *Exec) {
	c.mu.Lock()
	closed := c.closed
	if !closed && !isClosed(e.ended) {
		c.held = append(c.held, e)
	}
	c.mu.Unlock()
	if closed {
		e.fail(errClosed())
	}
}

func (c *Client) unhold(e *Exec) {
	c.mu.Lock()
	c.held = slices.DeleteFunc(c.held, func(x *Exec) bool { return x == e })
	c.mu.Unlock()
}

// resumeHeld takes up the streams of every held command. It is called when a
// connection is there, so the agent answers.
func (c *Client) resumeHeld() {
	c.mu.Lock()
	held := c.held
	c.held, c.away = nil, false
	c.wakeResumed()
	c.mu.Unlock()
	for _, e := range held {
		c.own(e.attach)
	}
}

// attach opens a new stream for a detached command.
func (e *Exec) attach() {
	ctx, cancel := context.WithTimeout(context.Background(), attachTimeout)
	defer cancel()
	args := wire.Attach{ID: e.ID}
	for i := range e.out {
		args.Room[i] = e.out[i].Rebase()
	}
	for try := 1; ; try++ {
		err := e.open(ctx, wire.Outgoing{Op: wire.OpAttach, Args: args}, true)
		switch {
		case err == nil:
			return
		case try == attempts, ctx.Err() != nil:
			e.client.hold(e)
			return
		}
	}
}

// wakeResumed lets watches begin again; the lock is held.
func (c *Client) wakeResumed() {
	if c.resumed != nil {
		close(c.resumed)
		c.resumed = nil
	}
}

// awaitResume waits until the agent answers again after a Quiesce. It returns
// false when ctx ends or the client is closed first.
func (c *Client) awaitResume(ctx context.Context) bool {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return false
	}
	if !c.away {
		c.mu.Unlock()
		return true
	}
	if c.resumed == nil {
		c.resumed = make(chan struct{})
	}
	resumed := c.resumed
	c.mu.Unlock()
	select {
	case <-resumed:
	case <-ctx.Done():
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed
}
