package sshd

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/internal/audit"
)

// dialTimeout bounds a connection to a port inside.
const dialTimeout = 15 * time.Second

// directTCP serves a channel to a port (-L, -D, ProxyJump): a port of the
// connection's own instance, something that this instance reaches, or, when
// the host is the name or id of another instance, that one's.
func (c *connection) directTCP(incoming ssh.NewChannel) {
	var asked struct {
		Host     string
		Port     uint32
		FromHost string
		FromPort uint32
	}
	if ssh.Unmarshal(incoming.ExtraData(), &asked) != nil || asked.Port == 0 || asked.Port > 65535 || len(asked.Host) > 255 {
		incoming.Reject(ssh.ConnectionFailed, "the address cannot be read") //nolint:errcheck // the connection ends by itself
		return
	}
	port := strconv.FormatUint(uint64(asked.Port), 10)
	details := map[string]string{"to": net.JoinHostPort(asked.Host, port)}
	if c.login.NoForwarding {
		c.audit("ssh-forward", audit.OutcomeRefused, details)
		incoming.Reject(ssh.Prohibited, "the certificate does not permit port forwarding") //nolint:errcheck // the connection ends by itself
		return
	}
	c.audit("ssh-forward", audit.OutcomeDone, details)
	where := c.target
	address := net.JoinHostPort(asked.Host, port)
	if isLoopback(asked.Host) {
		address = port
	} else if other := c.neighbour(asked.Host); other != nil {
		if asked.Port == sshPort {
			c.jump(incoming, *other)
			return
		}
		if !c.login.Allows(other.id, other.name) {
			incoming.Reject(ssh.Prohibited, "the key may not use that instance") //nolint:errcheck // the connection ends by itself
			return
		}
		where, address = *other, port
	}
	c.direct(incoming, where, "tcp", address)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// neighbour returns the instance of the same project that a host name means;
// nil when it means none.
func (c *connection) neighbour(host string) *target {
	if net.ParseIP(host) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, lookupTimeout)
	defer cancel()
	found, err := lookUp(ctx, c.server.opts.Instances, c.target.project, host)
	if err != nil {
		return nil
	}
	return &target{project: c.target.project, id: found.ID, name: found.Name}
}

// directSocket serves a channel to a unix socket inside.
func (c *connection) directSocket(incoming ssh.NewChannel) {
	var asked struct {
		Path     string
		Reserved string
		Number   uint32
	}
	if ssh.Unmarshal(incoming.ExtraData(), &asked) != nil {
		incoming.Reject(ssh.ConnectionFailed, "the address cannot be read") //nolint:errcheck // the connection ends by itself
		return
	}
	if c.login.NoForwarding {
		incoming.Reject(ssh.Prohibited, "the certificate does not permit port forwarding") //nolint:errcheck // the connection ends by itself
		return
	}
	c.audit("ssh-forward", audit.OutcomeDone, map[string]string{"to": clip(asked.Path)})
	c.direct(incoming, c.target, "unix", asked.Path)
}

// direct joins a channel to what listens inside.
func (c *connection) direct(incoming ssh.NewChannel, where target, network, address string) {
	answered := false
	err := c.server.guest(c.ctx, where, func(g *guest.Client) error {
		ctx, cancel := context.WithTimeout(c.ctx, dialTimeout)
		defer cancel()
		conn, err := g.DialPort(ctx, network, address)
		if err != nil {
			return err
		}
		defer conn.Close()
		answered = true
		channel, requests, err := incoming.Accept()
		if err != nil {
			return nil //nolint:nilerr // the client has gone
		}
		defer channel.Close()
		c.work.Go(func() { ssh.DiscardRequests(requests) })
		stop := context.AfterFunc(c.ctx, func() { conn.Close() })
		defer stop()
		join(channel, conn)
		return nil
	})
	if err != nil && !answered {
		incoming.Reject(ssh.ConnectionFailed, explain(err)) //nolint:errcheck // the connection ends by itself
	}
}

// halfCloser is a stream of which one direction can end before the other.
type halfCloser interface {
	io.ReadWriter
	CloseWrite() error
}

// join copies between a channel and a connection until both directions, or
// either end, have ended.
func join(channel ssh.Channel, conn net.Conn) {
	var other sync.WaitGroup
	other.Go(func() {
		io.Copy(conn, channel) //nolint:errcheck // ends either way
		if half, ok := conn.(halfCloser); ok {
			half.CloseWrite() //nolint:errcheck // it may have ended
		}
	})
	_, err := io.Copy(channel, conn)
	channel.CloseWrite() //nolint:errcheck // it may have ended
	if err != nil && !errors.Is(err, io.EOF) {
		channel.Close() // ends the other direction: nobody reads what it brings
	}
	other.Wait()
}
