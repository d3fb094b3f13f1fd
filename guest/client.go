package guest

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// Dialer opens one connection to the agent.
type Dialer func(ctx context.Context) (net.Conn, error)

// Options configures a Client.
type Options struct {
	Secret    []byte // the sandbox's channel secret
	Multiplex bool   // carry every stream over one connection of the Dialer
}

const (
	// handshakeTimeout bounds the opening of a connection once it is dialled.
	handshakeTimeout = 10 * time.Second
	// idleSessions is how many connections are kept that carry nothing.
	idleSessions = 2
)

// Client speaks to one agent. It opens connections as it needs them, keeps
// them for what follows, and is safe for concurrent use. One sandbox has one
// Client: it is who knows which commands go on after a Quiesce.
type Client struct {
	dial      Dialer
	multiplex bool

	mu       sync.Mutex
	secret   []byte
	pending  []byte // a new secret of which it is not known whether it is in force
	sessions []*session
	dialing  chan struct{} // not nil: one dial of a multiplexed client is under way
	held     []*Exec       // detached commands that wait for the agent
	away     bool          // it has quiesced, and nobody has called it since
	resumed  chan struct{} // not nil: closed when it answers again
	parked   chan struct{} // not nil: calls wait until it is closed; see Suspend
	closed   bool
	owned    sync.WaitGroup // readers of connections, and commands being attached
}

// session is a connection with what the client knows of it.
type session struct {
	*wire.Session
	version int
	bulk    int // operations that want a connection of their own; Client.mu
}

// NewClient returns a client; nothing is dialled before the first call.
func NewClient(dial Dialer, opts Options) *Client {
	return &Client{dial: dial, multiplex: opts.Multiplex, secret: slices.Clone(opts.Secret)}
}

// Close closes every connection of the client and ends its commands' streams.
// The agent kills commands whose connection is closed; those that were
// detached by Quiesce go on.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	sessions, held := c.sessions, c.held
	c.sessions, c.held = nil, nil
	c.wakeResumed()
	c.unpark()
	c.mu.Unlock()
	for _, s := range sessions {
		s.Close()
	}
	for _, e := range held {
		e.fail(errClosed())
	}
	c.owned.Wait()
	return nil
}

func errClosed() *faas.Error {
	return &faas.Error{Kind: faas.KindUnavailable, Detail: "the client of the sandbox's agent is closed"}
}

// session returns a connection to open a stream on. With bulk it is one that
// carries no other bulk stream, where the transport has many.
func (c *Client) session(ctx context.Context, bulk bool) (*session, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, errClosed()
		}
		if parked := c.parked; parked != nil && ctx.Value(suspending{}) == nil {
			c.mu.Unlock()
			select {
			case <-parked:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		for _, s := range c.sessions {
			if s.Usable() && (c.multiplex || !bulk || s.bulk == 0) {
				if bulk {
					s.bulk++
				}
				c.mu.Unlock()
				return s, nil
			}
		}
		dialing := c.dialing
		if c.multiplex && dialing == nil {
			c.dialing = make(chan struct{})
		}
		c.mu.Unlock()
		if !c.multiplex {
			return c.connect(ctx, bulk)
		}
		if dialing == nil {
			s, err := c.connect(ctx, bulk)
			c.mu.Lock()
			close(c.dialing)
			c.dialing = nil
			c.mu.Unlock()
			return s, err
		}
		select {
		case <-dialing:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// release gives back what session reserved for a bulk stream.
func (c *Client) release(s *session) {
	var surplus *session
	c.mu.Lock()
	s.bulk--
	if s.Usable() && s.Streams() == 0 && c.idle() > idleSessions {
		surplus = s
		c.sessions = slices.DeleteFunc(c.sessions, func(x *session) bool { return x == s })
	}
	c.mu.Unlock()
	if surplus != nil {
		surplus.Close()
	}
}

// idle counts the connections that carry nothing; the lock is held.
func (c *Client) idle() int {
	n := 0
	for _, s := range c.sessions {
		if s.bulk == 0 && s.Streams() == 0 {
			n++
		}
	}
	return n
}

// connect dials, proves both ends and starts the connection's reader.
func (c *Client) connect(ctx context.Context, bulk bool) (*session, error) {
	c.mu.Lock()
	secret, pending := c.secret, c.pending
	c.mu.Unlock()
	s, err := c.connectWith(ctx, secret)
	if pending != nil && errors.Is(err, faas.ErrUnauthenticated) {
		// The answer to Configure was lost: the new secret may be in force.
		if s, err = c.connectWith(ctx, pending); err == nil {
			c.setSecret(pending)
		}
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		s.Close()
		return nil, errClosed()
	}
	if bulk {
		s.bulk++
	}
	c.sessions = append(c.sessions, s)
	c.owned.Add(1)
	c.mu.Unlock()
	go func() {
		defer c.owned.Done()
		s.Serve() //nolint:errcheck // every stream has been told
		c.mu.Lock()
		c.sessions = slices.DeleteFunc(c.sessions, func(x *session) bool { return x == s })
		c.mu.Unlock()
	}()
	return s, nil
}

func (c *Client) connectWith(ctx context.Context, secret []byte) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // it is being given up
	version, proof, err := wire.ClientHandshake(conn, secret, wire.Supported())
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close() //nolint:errcheck
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	s := &session{version: version}
	s.Session = wire.NewClientSession(conn, proof, nil)
	return s, nil
}

func (c *Client) setSecret(secret []byte) {
	c.mu.Lock()
	c.secret, c.pending = slices.Clone(secret), nil
	c.mu.Unlock()
}

// failure makes the *faas.Error that a method returns.
func failure(op string, err error) error {
	if err == nil {
		return nil
	}
	var e *faas.Error
	switch {
	case errors.As(err, &e):
		if e.Op == "" && e == err {
			named := *e
			named.Op = op
			return &named
		}
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return &faas.Error{Kind: faas.KindDeadlineExceeded, Op: op, Detail: "the sandbox's agent did not answer in time", Err: err}
	case errors.Is(err, context.Canceled):
		return &faas.Error{Kind: faas.KindUnavailable, Op: op, Detail: "cancelled", Err: err}
	default:
		return &faas.Error{Kind: faas.KindUnavailable, Op: op, Detail: "the connection to the sandbox's agent failed", Err: err}
	}
}
