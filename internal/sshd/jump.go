package sshd

import (
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// sshPort is the port of another instance at which this server answers in its
// place, so that ProxyJump leads from instance to instance.
const sshPort = 22

// maxJumps bounds connections within connections.
const maxJumps = 4

// jump is what a connection through another one is for.
type jump struct {
	target target
	depth  int
}

// jump serves SSH on a channel, as the server of another instance. Whoever is
// at its end proves themselves again.
func (c *connection) jump(incoming ssh.NewChannel, to target) {
	if c.depth >= maxJumps {
		incoming.Reject(ssh.Prohibited, "too many jumps") //nolint:errcheck // the connection ends by itself
		return
	}
	channel, requests, err := incoming.Accept()
	if err != nil {
		return
	}
	c.work.Go(func() { ssh.DiscardRequests(requests) })
	c.server.serve(&channelConn{Channel: channel, outer: c.ssh}, &jump{target: to, depth: c.depth + 1})
}

// channelConn is a channel as a connection, with the addresses of the
// connection that it is in.
type channelConn struct {
	ssh.Channel
	outer ssh.Conn
}

func (c *channelConn) LocalAddr() net.Addr              { return c.outer.LocalAddr() }
func (c *channelConn) RemoteAddr() net.Addr             { return c.outer.RemoteAddr() }
func (c *channelConn) SetDeadline(time.Time) error      { return nil } // nothing here sets one
func (c *channelConn) SetReadDeadline(time.Time) error  { return nil }
func (c *channelConn) SetWriteDeadline(time.Time) error { return nil }
