package sshd

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/internal/audit"
)

const (
	// maxForwards bounds the listeners of one connection.
	maxForwards = 32
	// listenTimeout bounds the opening of one, the waking of its instance
	// included: the client's other requests wait meanwhile.
	listenTimeout = 30 * time.Second
)

// forwards are the listeners inside that a client asked for (-R).
type forwards struct {
	mu   sync.Mutex
	open map[string]net.Listener // nil: being opened
}

// reserve takes the place of a listener; false: there is one, or no room.
func (f *forwards) reserve(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, taken := f.open[key]; taken || len(f.open) >= maxForwards {
		return false
	}
	f.open[key] = nil
	return true
}

func (f *forwards) put(key string, l net.Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[key] = l
}

// drop gives a listener's place back and closes it.
func (f *forwards) drop(key string) bool {
	f.mu.Lock()
	l, ok := f.open[key]
	delete(f.open, key)
	f.mu.Unlock()
	if l != nil {
		l.Close()
	}
	return ok
}

func (f *forwards) closeAll() {
	f.mu.Lock()
	var keys []string
	for key := range f.open {
		keys = append(keys, key)
	}
	f.mu.Unlock()
	for _, key := range keys {
		f.drop(key)
	}
}

type tcpForward struct {
	Host string
	Port uint32
}

// forwardTCP listens on a port inside and brings its connections to the
// client. The answer to a request for any port holds the port.
func (c *connection) forwardTCP(payload []byte) (bool, []byte) {
	var asked tcpForward
	if ssh.Unmarshal(payload, &asked) != nil || asked.Port > 65535 || len(asked.Host) > 255 || c.login.NoForwarding {
		return false, nil
	}
	address := net.JoinHostPort(listenHost(asked.Host), strconv.FormatUint(uint64(asked.Port), 10))
	key := "tcp " + net.JoinHostPort(asked.Host, strconv.FormatUint(uint64(asked.Port), 10))
	l, err := c.listen(key, "tcp", address, func(conn net.Conn, l net.Listener) {
		from := hostPort(conn.RemoteAddr())
		port, _ := strconv.ParseUint(from[1], 10, 16)                //nolint:errcheck // 0 then
		bound, _ := strconv.ParseUint(hostPort(l.Addr())[1], 10, 16) //nolint:errcheck // 0 then
		c.toClient(conn, "forwarded-tcpip", ssh.Marshal(struct {
			Host     string
			Port     uint32
			FromHost string
			FromPort uint32
		}{asked.Host, uint32(bound), from[0], uint32(port)}))
	})
	if err != nil {
		c.server.log.Debug("a port could not be forwarded", "instance", c.target.id, "error", err)
		return false, nil
	}
	if asked.Port != 0 {
		return true, nil
	}
	bound, err := strconv.ParseUint(hostPort(l.Addr())[1], 10, 16)
	if err != nil {
		return false, nil
	}
	// It is cancelled by the port that it got.
	c.forwards.rename(key, "tcp "+net.JoinHostPort(asked.Host, strconv.FormatUint(bound, 10)))
	return true, ssh.Marshal(struct{ Port uint32 }{uint32(bound)})
}

// rename gives a listener another key.
func (f *forwards) rename(key, other string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[other] = f.open[key]
	delete(f.open, key)
}

// listenHost turns what a client says of where to listen into an address.
func listenHost(host string) string {
	switch host {
	case "", "*":
		return "0.0.0.0"
	case "localhost":
		return "127.0.0.1"
	}
	return host
}

func (c *connection) cancelTCP(payload []byte) bool {
	var asked tcpForward
	return ssh.Unmarshal(payload, &asked) == nil &&
		c.forwards.drop("tcp "+net.JoinHostPort(asked.Host, strconv.FormatUint(uint64(asked.Port), 10)))
}

// forwardSocket listens on a unix socket inside.
func (c *connection) forwardSocket(payload []byte) bool {
	var asked struct{ Path string }
	if ssh.Unmarshal(payload, &asked) != nil || asked.Path == "" || c.login.NoForwarding {
		return false
	}
	_, err := c.listen("unix "+asked.Path, "unix", asked.Path, func(conn net.Conn, _ net.Listener) {
		c.toClient(conn, "forwarded-streamlocal@openssh.com", ssh.Marshal(struct{ Path, Reserved string }{asked.Path, ""}))
	})
	return err == nil
}

func (c *connection) cancelSocket(payload []byte) bool {
	var asked struct{ Path string }
	return ssh.Unmarshal(payload, &asked) == nil && c.forwards.drop("unix "+asked.Path)
}

var errTaken = errors.New("it is forwarded already, or as many are as may be")

// listen opens a listener inside under a key and has every connection served.
func (c *connection) listen(key, network, address string, serve func(net.Conn, net.Listener)) (net.Listener, error) {
	if !c.forwards.reserve(key) {
		return nil, errTaken
	}
	c.audit("ssh-forward", audit.OutcomeDone, map[string]string{"from": clip(address)})
	type opened struct {
		l   net.Listener
		err error
	}
	answer := make(chan opened, 1)
	opening, cancelOpening := context.WithTimeout(c.ctx, listenTimeout)
	defer cancelOpening()
	c.work.Go(func() {
		err := c.guest(c.ctx, func(g *guest.Client) error {
			l, err := g.Listen(c.ctx, network, address, c.target.user)
			if err != nil {
				return err
			}
			defer l.Close()
			c.forwards.put(key, l)
			answer <- opened{l: l}
			if opening.Err() != nil {
				return nil // the client was told that it failed
			}
			c.acceptAll(l, serve)
			return nil
		})
		if err != nil {
			answer <- opened{err: err}
		}
	})
	select {
	case o := <-answer:
		if o.err != nil {
			c.forwards.drop(key)
		}
		return o.l, o.err
	case <-opening.Done():
		c.forwards.drop(key)
		return nil, opening.Err()
	}
}

// acceptAll serves the connections of a listener until it ends.
func (c *connection) acceptAll(l net.Listener, serve func(net.Conn, net.Listener)) {
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case c.room <- struct{}{}:
		default: // as many channels as there may be
			conn.Close()
			continue
		}
		serving.Go(func() {
			defer func() { <-c.room }()
			defer conn.Close()
			serve(conn, l)
		})
	}
}

// toClient opens a channel to the client for a connection from inside.
func (c *connection) toClient(conn net.Conn, kind string, payload []byte) {
	stop := context.AfterFunc(c.ctx, func() { conn.Close() })
	defer stop()
	channel, requests, err := c.ssh.OpenChannel(kind, payload)
	if err != nil {
		return // the client refuses it, or has gone
	}
	defer channel.Close()
	c.work.Go(func() { ssh.DiscardRequests(requests) })
	join(channel, conn)
}

// forwardAgent makes a socket inside that leads to the client's agent.
func (s *session) forwardAgent(g *guest.Client, who account) (socket string, stop func(), err error) {
	l, err := g.Listen(s.ctx, "unix", "", who.user)
	if err != nil {
		return "", nil, err
	}
	s.audit("ssh-agent", audit.OutcomeDone, nil)
	s.work.Go(func() {
		s.acceptAll(l, func(conn net.Conn, _ net.Listener) { s.toClient(conn, "auth-agent@openssh.com", nil) })
	})
	return l.Addr().String(), func() { l.Close() }, nil
}
