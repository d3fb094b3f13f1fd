package sshd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/internal/audit"
	"github.com/faas-platform/faas/internal/sshkey"
)

const (
	// wakeTimeout bounds the waking of an instance.
	wakeTimeout = 2 * time.Minute
	// wakeAttempts is how often an instance is woken that pauses again meanwhile.
	wakeAttempts = 3
	// missedSigns is how many signs of life may stay out.
	missedSigns = 3
	// refuseTime is how long a client has to hear why it is refused.
	refuseTime = 5 * time.Second
)

// connection is an authenticated connection.
type connection struct {
	server   *Server
	ssh      *ssh.ServerConn
	channels <-chan ssh.NewChannel
	requests <-chan *ssh.Request
	login    *sshkey.Login
	target   target
	depth    int // of jumps

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	work   sync.WaitGroup
	room   chan struct{} // one token a channel

	accountOnce sync.Once
	account     account
	accountErr  error

	forwards forwards
}

func newConnection(s *Server, sc *ssh.ServerConn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request, p proved, via *jump) *connection {
	c := &connection{
		server: s, ssh: sc, channels: channels, requests: requests, login: p.login, target: p.target,
		room: make(chan struct{}, s.opts.Limits.Channels), forwards: forwards{open: map[string]net.Listener{}},
	}
	if via != nil {
		c.depth = via.depth
	}
	actor := audit.Actor{Project: c.target.project, KeyID: c.login.KeyID, Remote: hostOf(sc.RemoteAddr())}
	c.ctx, c.cancel = context.WithCancel(audit.WithActor(s.ctx, actor))
	return c
}

// serve serves the connection until its end.
func (c *connection) serve() {
	defer c.work.Wait()
	defer c.cancel()
	defer c.ssh.Close()
	if err := c.server.enter(c); err != nil {
		c.audit("ssh-connect", audit.OutcomeRefused, map[string]string{"reason": err.Error()})
		c.refuse(err)
		return
	}
	defer c.server.leave(c)
	started := time.Now()
	if c.login.Recorded {
		if err := c.server.opts.Keys.Used(c.ctx, c.login.KeyID, hostOf(c.ssh.RemoteAddr())); err != nil {
			c.server.log.Warn("the use of an SSH key could not be noted", "key", c.login.KeyID, "error", err)
		}
		if !c.server.opts.Keys.Valid(c.ctx, c.login.KeyID) { // revoked before it was counted in
			return
		}
	}
	c.audit("ssh-connect", audit.OutcomeDone, map[string]string{"client": string(c.ssh.ClientVersion()), "fingerprint": c.login.Fingerprint})
	c.work.Go(c.keepAlive)
	c.work.Go(c.globalRequests)
	c.announceHostKeys()
	for channel := range c.channels {
		c.accept(channel)
	}
	c.cancel()
	c.forwards.closeAll()
	c.server.log.LogAttrs(c.ctx, slog.LevelInfo, "SSH connection ended", slog.String("instance", c.target.id), slog.String("project", c.target.project),
		slog.String("key", c.login.KeyID), slog.String("remote", c.ssh.RemoteAddr().String()), slog.Int64("duration_ms", time.Since(started).Milliseconds()))
}

// accept starts the handling of a channel, if there is room for it.
func (c *connection) accept(channel ssh.NewChannel) {
	handle := map[string]func(ssh.NewChannel){
		"session":                        c.session,
		"direct-tcpip":                   c.directTCP,
		"direct-streamlocal@openssh.com": c.directSocket,
	}[channel.ChannelType()]
	if handle == nil {
		channel.Reject(ssh.UnknownChannelType, "there are no channels of this type here") //nolint:errcheck // the connection ends by itself
		return
	}
	select {
	case c.room <- struct{}{}:
	default:
		channel.Reject(ssh.ResourceShortage, "the connection has as many channels as it may") //nolint:errcheck // the connection ends by itself
		return
	}
	c.work.Go(func() {
		defer func() { <-c.room }()
		handle(channel)
	})
}

// refuse tells a client why it is not served, as the answer to what it asks
// first.
func (c *connection) refuse(why error) {
	c.work.Go(func() { ssh.DiscardRequests(c.requests) })
	limit := time.NewTimer(refuseTime)
	defer limit.Stop()
	select {
	case channel := <-c.channels:
		if channel != nil {
			channel.Reject(ssh.ResourceShortage, why.Error()) //nolint:errcheck // it is being given up
		}
		// The client hangs up once it has read it.
		select {
		case <-c.channels:
		case <-limit.C:
		}
	case <-limit.C:
	case <-c.ctx.Done():
	}
}

// end ends the connection from this side.
func (c *connection) end(why string) {
	c.server.log.Info("an SSH connection is ended", "instance", c.target.id, "key", c.login.KeyID, "reason", why)
	c.ssh.Close()
}

// keepAlive asks the client for signs of life, and ends the connection when
// too many stay out.
func (c *connection) keepAlive() {
	every := c.server.opts.Limits.KeepAlive
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
		}
		limit := time.AfterFunc(missedSigns*every, func() { c.end("the client gives no sign of life") })
		_, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil)
		limit.Stop()
		if err != nil {
			return
		}
	}
}

// audit writes one event about the instance.
func (c *connection) audit(action, outcome string, details map[string]string) {
	c.server.opts.Audit.Record(c.ctx, audit.Event{Action: action, Object: c.target.id, Outcome: outcome, Details: details})
}

// guest calls f with the client of the connection's instance, which it wakes
// when it stands still. The instance is in use until f returns.
func (c *connection) guest(ctx context.Context, f func(*guest.Client) error) error {
	return c.server.guest(ctx, c.target, f)
}

func (s *Server) guest(ctx context.Context, t target, f func(*guest.Client) error) error {
	for try := 1; ; try++ {
		if err := s.wake(ctx, t); err != nil {
			return err
		}
		reached := false
		err := s.opts.Instances.Guest(ctx, t.project, t.id, func(g *guest.Client) error {
			reached = true
			return f(g)
		})
		if reached || !errors.Is(err, faas.ErrFailedPrecondition) || try == wakeAttempts {
			return err
		}
	}
}

// wake lets a paused instance go on and starts a stopped one.
func (s *Server) wake(ctx context.Context, t target) error {
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	found, err := s.opts.Instances.Instance(ctx, t.project, t.id)
	if err != nil {
		return err
	}
	switch found.Status {
	case faas.InstancePaused, faas.InstancePausing:
		_, err = s.opts.Instances.ResumeInstance(ctx, t.project, t.id)
	case faas.InstanceStopped, faas.InstanceStopping:
		_, err = s.opts.Instances.StartInstance(ctx, t.project, t.id)
	}
	return err
}
