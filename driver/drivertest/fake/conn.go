package fake

import (
	"net"
	"sync"
)

// conn is the host's end of a connection to an agent.
type conn struct {
	net.Conn
	sandbox *sandbox
	once    sync.Once
	closed  chan struct{}
	left    int64 // bytes to the host until it breaks; 0: no limit. Used by one reader at a time.
}

// Read delivers nothing while the sandbox is paused, but its end.
func (c *conn) Read(p []byte) (int, error) {
	if c.left > 0 && int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.Conn.Read(p)
	c.sandbox.mu.Lock()
	thawed := c.sandbox.thawed
	c.sandbox.mu.Unlock()
	select {
	case <-thawed:
	case <-c.closed:
		return 0, net.ErrClosed
	}
	if c.left > 0 {
		if c.left -= int64(n); c.left == 0 {
			c.Close() //nolint:errcheck // a pipe
		}
	}
	return n, err
}

// Close closes the connection and forgets it.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.sandbox.mu.Lock()
		delete(c.sandbox.conns, c)
		c.sandbox.mu.Unlock()
		close(c.closed)
	})
	return c.Conn.Close()
}
