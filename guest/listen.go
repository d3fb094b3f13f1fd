package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// takeTimeout bounds how long taking one connection may need.
const takeTimeout = 10 * time.Second

// maxIncomingLine bounds one line about a connection.
const maxIncomingLine = 4 << 10

// portListener takes connections that programs inside make.
type portListener struct {
	client *Client
	ctx    context.Context // ends with the listener
	cancel context.CancelFunc
	args   wire.ListenArgs
	addr   portAddr
	next   chan net.Conn
	done   chan struct{} // closed when no more come

	mu  sync.Mutex
	err error
}

// Listen takes connections inside: network is "tcp" (host:port, where port 0
// asks for a free one) or "unix" (a path, or empty for a socket in a directory
// of its own, which belongs to user). It lasts until Close or the end of ctx,
// and goes on after a checkpoint of the sandbox; copies of the sandbox do not
// have it. An agent that is older than this operation refuses it with
// faas.ErrCapabilityUnavailable.
func (c *Client) Listen(ctx context.Context, network, address, user string) (net.Listener, error) {
	l := &portListener{
		client: c, args: wire.ListenArgs{Network: network, Address: address, User: user},
		next: make(chan net.Conn), done: make(chan struct{}),
	}
	l.ctx, l.cancel = context.WithCancel(ctx)
	o, err := l.begin()
	if err != nil {
		l.cancel()
		return nil, failure("listen", err)
	}
	l.addr = portAddr{network, l.args.Address}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.owned.Add(1)
	}
	c.mu.Unlock()
	if closed {
		l.cancel()
		o.abort(errClosed())
		return nil, failure("listen", errClosed())
	}
	go func() {
		defer c.owned.Done()
		l.run(o)
	}()
	return l, nil
}

// begin asks the agent to listen, at the address that it gave before, if any.
func (l *portListener) begin() (*operation, error) {
	var at wire.Listening
	o, err := l.client.begin(l.ctx, wire.OpListen, l.args, shape{in: true}, &at)
	if err == nil {
		l.args.Address = at.Address
	}
	return o, err
}

// run takes connections until the listener ends, beginning again after each
// checkpoint.
func (l *portListener) run(o *operation) {
	defer close(l.done)
	defer l.cancel()
	for {
		err := l.take(o)
		if !o.wasDetached() || !l.client.awaitResume(l.ctx) {
			l.fail(err)
			return
		}
		if o, err = l.begin(); err != nil {
			l.fail(err)
			return
		}
	}
}

func (l *portListener) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

// take hands out the connections of one operation.
func (l *portListener) take(o *operation) error {
	b := newBody(l.ctx, o, "listen")
	defer b.Close()
	lines := bufio.NewScanner(b)
	lines.Buffer(make([]byte, 0, maxIncomingLine), maxIncomingLine)
	var taking sync.WaitGroup
	defer taking.Wait()
	for lines.Scan() {
		var in wire.Incoming
		if err := json.Unmarshal(lines.Bytes(), &in); err != nil {
			return faas.Errorf(faas.KindInternal, "the agent's answer cannot be read: %v", err)
		}
		taking.Go(func() {
			conn, err := l.client.takeIncoming(l.ctx, l.args.Network, in)
			if err != nil {
				return // it has ended meanwhile
			}
			select {
			case l.next <- conn:
			case <-l.ctx.Done():
				conn.Close()
			}
		})
	}
	return lines.Err()
}

// takeIncoming takes a connection that waits inside.
func (c *Client) takeIncoming(ctx context.Context, network string, in wire.Incoming) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	o, err := c.begin(ctx, wire.OpAccept, wire.AcceptArgs{ID: in.ID}, shape{in: true, out: true, bulk: true}, nil)
	if err != nil {
		return nil, err
	}
	return &portConn{o: o, address: portAddr{network, in.Remote}, read: newDeadline(), write: newDeadline()}, nil
}

// Accept implements net.Listener.
func (l *portListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.next:
		return conn, nil
	case <-l.done:
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.err == nil || errors.Is(l.err, net.ErrClosed) {
			return nil, net.ErrClosed
		}
		return nil, failure("accept", l.err)
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *portListener) Close() error {
	l.fail(net.ErrClosed) // before the end of the context is taken for one
	l.cancel()
	<-l.done
	return nil
}

// Addr implements net.Listener.
func (l *portListener) Addr() net.Addr { return l.addr }
