package guest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// abortTimeout bounds how long an agent may keep an abort from being sent.
const abortTimeout = 2 * time.Second

// operation is one stream other than a command's: a request, perhaps a body
// in one or both directions, a result.
type operation struct {
	client  *Client
	session *session
	stream  *wire.Stream
	bulk    bool
	in      *wire.Inbox
	out     *wire.Outbox

	mu       sync.Mutex
	response [2]wire.Response // reply, result
	err      error            // the connection's, or why it was given up
	detached bool
	replied  chan struct{} // closed at the reply, or the end
	done     chan struct{} // closed at the end
}

// shape says which directions of an operation carry data.
type shape struct{ in, out, bulk bool }

// attempts is how often a request is sent that was surely not taken.
const attempts = 3

// sendable says whether a request that could not be sent may go out on another
// connection. What was written in part was not taken, so only what is wrong
// with the request itself is final.
func sendable(err error) bool {
	var e *faas.Error
	return !errors.As(err, &e)
}

// open sends a request, on a new connection when an old one has ended.
func (c *Client) open(ctx context.Context, op string, args any, sh shape) (*operation, error) {
	for try := 1; ; try++ {
		s, err := c.session(ctx, sh.bulk)
		if err != nil {
			return nil, err
		}
		c.resumeHeld()
		o := &operation{client: c, session: s, bulk: sh.bulk, replied: make(chan struct{}), done: make(chan struct{})}
		ends := wire.Ends{Handler: o, Opened: func(st *wire.Stream) { o.stream = st }}
		if sh.in {
			o.in = wire.NewInbox(0)
			ends.In[0] = o.in
		}
		if sh.out {
			o.out = wire.NewOutbox(0)
			ends.Out[0] = o.out
		}
		s.guard(ctx, func() { _, err = s.Open(wire.Outgoing{Op: op, Args: args}, ends, false) })
		if err == nil {
			return o, nil
		}
		o.end(err)
		if try == attempts || !sendable(err) || ctx.Err() != nil {
			return nil, err
		}
	}
}

// Message is called by the connection's reader.
func (o *operation) Message(t wire.FrameType, payload []byte) {
	switch t {
	case wire.FrameReply, wire.FrameResult:
		var r wire.Response
		if err := json.Unmarshal(payload, &r); err != nil {
			o.end(faas.Errorf(faas.KindInternal, "the agent's answer cannot be read: %v", err))
			return
		}
		o.mu.Lock()
		select {
		case <-o.replied:
		default:
			o.response[0] = r
			close(o.replied)
		}
		o.response[1] = r
		o.mu.Unlock()
		if t == wire.FrameResult {
			o.end(nil)
		}
	case wire.FrameDetach:
		o.mu.Lock()
		o.detached = true
		o.mu.Unlock()
		o.client.mu.Lock()
		o.client.away = true
		o.client.mu.Unlock()
		o.end(errQuiesced())
	}
}

func errQuiesced() *faas.Error {
	return &faas.Error{
		Kind: faas.KindUnavailable, Detail: "the connection was ended for a checkpoint of the sandbox", Remedy: "try again",
	}
}

// Closed is called when the connection has ended.
func (o *operation) Closed(err error) { o.end(err) }

// end closes the operation; nil means that its result is there.
func (o *operation) end(err error) {
	o.mu.Lock()
	select {
	case <-o.done:
		o.mu.Unlock()
		return
	default:
	}
	o.err = err
	if err == nil && o.response[1].Error != nil {
		err = o.response[1].Error.Decode()
	}
	select {
	case <-o.replied:
	default:
		close(o.replied)
	}
	close(o.done)
	o.mu.Unlock()
	if o.in != nil {
		if err == nil {
			o.in.Fail(io.EOF)
		} else {
			o.in.Fail(err)
		}
	}
	if o.out != nil {
		if err == nil {
			err = wire.ErrStopped
		}
		o.out.Fail(err)
	}
	if o.bulk {
		o.client.release(o.session)
	}
}

// abort gives the operation up and tells the agent.
func (o *operation) abort(err error) {
	select {
	case <-o.done:
		return
	default:
	}
	o.end(err)
	send(o.session, func() { o.stream.Message(wire.FrameReset, nil) }) //nolint:errcheck // the connection has ended then
	o.stream.End()
}

// guard runs a write that ends with ctx: an agent that does not read loses the
// connection, but not before a healthy one has had time to.
func (s *session) guard(ctx context.Context, write func()) {
	done := make(chan struct{})
	defer close(done)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-done:
		case <-time.After(abortTimeout):
			s.Close()
		}
	})
	defer stop()
	write()
}

// send runs a write that must not hold up its caller for long: an agent that
// does not read loses the connection.
func send(s *session, write func()) {
	t := time.AfterFunc(abortTimeout, s.Close)
	defer t.Stop()
	write()
}

// wait waits for the reply (or the result) and decodes its value.
func (o *operation) wait(ctx context.Context, on chan struct{}, index int, value any) error {
	select {
	case <-on:
	case <-ctx.Done():
		select {
		case <-on:
		default:
			o.abort(ctx.Err())
		}
	}
	o.mu.Lock()
	r, err := o.response[index], o.err
	o.mu.Unlock()
	switch {
	case r.Error != nil:
		return r.Error.Decode()
	case err != nil && (index == 1 || r.Value == nil):
		return err
	case value == nil || r.Value == nil:
		return nil
	}
	if err := json.Unmarshal(r.Value, value); err != nil {
		return faas.Errorf(faas.KindInternal, "the agent's answer cannot be read: %v", err)
	}
	return nil
}

// call makes one request with one answer.
func (c *Client) call(ctx context.Context, op string, args, value any) error {
	for {
		o, err := c.open(ctx, op, args, shape{})
		if err == nil {
			err = o.wait(ctx, o.done, 1, value)
		}
		if errors.Is(err, wire.ErrGoingAway) && ctx.Err() == nil {
			continue
		}
		return err
	}
}

// begin opens an operation with a body and waits for the reply.
func (c *Client) begin(ctx context.Context, op string, args any, sh shape, value any) (*operation, error) {
	for {
		o, err := c.open(ctx, op, args, sh)
		if err == nil {
			err = o.wait(ctx, o.replied, 0, value)
		}
		if errors.Is(err, wire.ErrGoingAway) && ctx.Err() == nil {
			continue
		}
		return o, err
	}
}

// Hello opens a connection, proves both ends, and returns what the agent says
// of itself. Drivers call it to learn that a new sandbox is ready.
func (c *Client) Hello(ctx context.Context) (Info, error) {
	var info Info
	return info, failure("greet agent", c.call(ctx, wire.OpHello, nil, &info))
}

// Configure applies a configuration.
func (c *Client) Configure(ctx context.Context, cfg Configuration) (Configured, error) {
	if len(cfg.Secret) > 0 {
		c.mu.Lock()
		c.pending = cfg.Secret
		c.mu.Unlock()
	}
	var out Configured
	if err := c.call(ctx, wire.OpConfigure, cfg, &out); err != nil {
		return out, failure("configure sandbox", err)
	}
	if len(cfg.Secret) > 0 {
		c.setSecret(cfg.Secret)
	}
	return out, nil
}

// Stats reads the sandbox's consumption from inside.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var out Stats
	return out, failure("read sandbox statistics", c.call(ctx, wire.OpStats, nil, &out))
}

// Shutdown asks the agent to end every process and then itself. It returns
// when the processes have ended.
func (c *Client) Shutdown(ctx context.Context) error {
	err := c.call(ctx, wire.OpShutdown, nil, nil)
	if errors.Is(err, io.EOF) { // it ended before its answer had got through
		return nil
	}
	return failure("shut sandbox down", err)
}
