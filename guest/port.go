package guest

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/faas-platform/faas/guest/internal/wire"
)

// DialPort connects to a port inside: network is "tcp" or "unix". The address
// of tcp is a port, which means that of 127.0.0.1, or host:port. ctx bounds
// the dial only. The connection has CloseWrite besides net.Conn's methods.
func (c *Client) DialPort(ctx context.Context, network, address string) (net.Conn, error) {
	o, err := c.begin(ctx, wire.OpDial, wire.DialArgs{Network: network, Address: address}, shape{in: true, out: true, bulk: true}, nil)
	if err != nil {
		return nil, failure("dial port", err)
	}
	return &portConn{
		o: o, address: portAddr{network, address},
		read: newDeadline(), write: newDeadline(),
	}, nil
}

type portAddr struct{ network, address string }

func (a portAddr) Network() string { return a.network }
func (a portAddr) String() string  { return a.address }

// portConn is a connection to a port inside.
type portConn struct {
	o           *operation
	address     portAddr
	read, write *deadline
	wmu         sync.Mutex
	halfClosed  bool
}

func (p *portConn) Read(b []byte) (int, error) {
	n, err := p.o.in.ReadUntil(b, p.read.passed())
	return n, portError(err)
}

func (p *portConn) Write(b []byte) (int, error) {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	if p.halfClosed {
		return 0, net.ErrClosed
	}
	n, err := p.o.out.WriteUntil(b, p.write.passed())
	if errors.Is(err, wire.ErrStopped) {
		err = io.ErrClosedPipe
	}
	return n, portError(err)
}

func portError(err error) error {
	if err == nil || err == io.EOF || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	return failure("use port", err)
}

// CloseWrite tells the program inside that nothing more comes.
func (p *portConn) CloseWrite() error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	if p.halfClosed {
		return nil
	}
	p.halfClosed = true
	return portError(p.o.out.CloseWrite())
}

func (p *portConn) Close() error {
	p.o.abort(net.ErrClosed)
	p.o.in.Discard()
	return nil
}

func (p *portConn) LocalAddr() net.Addr  { return portAddr{p.address.network, "host"} }
func (p *portConn) RemoteAddr() net.Addr { return p.address }

func (p *portConn) SetDeadline(t time.Time) error {
	p.read.set(t)
	p.write.set(t)
	return nil
}

func (p *portConn) SetReadDeadline(t time.Time) error {
	p.read.set(t)
	return nil
}

func (p *portConn) SetWriteDeadline(t time.Time) error {
	p.write.set(t)
	return nil
}

// deadline is a point in time as a channel that closes when it has passed.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	gone  chan struct{}
}

func newDeadline() *deadline { return &deadline{gone: make(chan struct{})} }

func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gone
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if isClosed(d.gone) {
		d.gone = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	gone := d.gone
	d.timer = time.AfterFunc(time.Until(t), func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.gone == gone && !isClosed(gone) {
			close(gone)
		}
	})
}
