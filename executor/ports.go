package executor

import (
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

// subdomain is what a DNS label may be.
var subdomain = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

const (
	// maxPorts bounds the ports that one instance exposes.
	maxPorts = 64
	// maxForwarded bounds the connections of one TCP port.
	maxForwarded = 1024
	// dialTimeout bounds a connection to a port, waking the instance included.
	dialTimeout = time.Minute
	// acceptRetry is how long a listener waits that could not accept.
	acceptRetry = 100 * time.Millisecond
)

// ExposePort lets a port of an instance be reached. Nothing need listen on it
// yet. Of a faas.Port the project, the instance, the port, the protocol, the
// access and the subdomain are read; what is empty becomes http, by key, and
// the port and the instance as a name.
func (e *Executor) ExposePort(ctx context.Context, p faas.Port) (*faas.Port, error) {
	p.Project = orDefault(p.Project)
	if err := completePort(&p); err != nil {
		return nil, err
	}
	x, release, err := e.take(ctx, p.Project, p.InstanceID, "expose a port of")
	if err != nil {
		return nil, err
	}
	defer release() // it is not deleted meanwhile
	others, err := e.store.Ports(ctx, p.Project, x.id)
	if err != nil {
		return nil, err
	}
	if len(others) >= maxPorts {
		return nil, faas.Errorf(faas.KindResourceExhausted, "an instance exposes at most %d ports", maxPorts)
	}
	p.ID, p.CreatedAt, p.HostPort = faas.NewID(faas.PrefixPort), time.Now().UTC().Truncate(time.Microsecond), 0
	if p.Protocol == faas.PortTCP {
		if p.HostPort, err = e.ports.open(e, p); err != nil {
			return nil, err
		}
	}
	if err := e.store.CreatePort(ctx, p); err != nil {
		e.ports.close(p.ID)
		return nil, err
	}
	return &p, nil
}

func completePort(p *faas.Port) error {
	if p.Port < 1 || p.Port > 65535 {
		return faas.InvalidField("internal_port", "%d is not between 1 and 65535", p.Port)
	}
	if p.Access == "" {
		p.Access = faas.PortKey
	}
	if p.Access != faas.PortKey && p.Access != faas.PortPublic {
		return faas.InvalidField("access", "%q is not one of key, public", clip(string(p.Access)))
	}
	switch p.Protocol {
	case faas.PortHTTP, faas.PortH2C:
	case "":
		p.Protocol = faas.PortHTTP
	case faas.PortTCP:
		switch {
		case p.Access != faas.PortPublic:
			return faas.InvalidField("access", "a raw TCP port cannot ask for a key: choose public, or the protocol http")
		case p.Subdomain != "":
			return faas.InvalidField("subdomain", "a raw TCP port has none: it is a port of this machine")
		}
		return nil
	default:
		return faas.InvalidField("protocol", "%q is not one of http, h2c, tcp", clip(string(p.Protocol)))
	}
	if p.Subdomain == "" {
		p.Subdomain = strconv.Itoa(p.Port) + "-" + p.InstanceID
	}
	if !subdomain.MatchString(p.Subdomain) {
		return faas.InvalidField("subdomain", "%q is not a DNS label: 1 to 63 lower-case letters, digits and hyphens", clip(p.Subdomain))
	}
	return nil
}

// Ports lists a project's exposed ports, or those of one instance of it.
func (e *Executor) Ports(ctx context.Context, project, instanceID string) ([]faas.Port, error) {
	return e.store.Ports(ctx, orDefault(project), instanceID)
}

// Port returns a project's exposed port.
func (e *Executor) Port(ctx context.Context, project, id string) (*faas.Port, error) {
	return e.store.Port(ctx, orDefault(project), id)
}

// PortOf returns the exposed port that a subdomain names, whichever project's.
func (e *Executor) PortOf(ctx context.Context, subdomain string) (*faas.Port, error) {
	return e.store.PortOf(ctx, subdomain)
}

// PublicPort returns an instance's exposed port of that number when everyone
// may use it, whichever project's.
func (e *Executor) PublicPort(ctx context.Context, instanceID string, port int) (*faas.Port, error) {
	return e.store.PublicPort(ctx, instanceID, port)
}

// ClosePort ends the exposure of a port. Connections that are open go on.
func (e *Executor) ClosePort(ctx context.Context, project, id string) error {
	if _, err := e.store.Port(ctx, orDefault(project), id); err != nil {
		return err
	}
	if err := e.store.DeletePort(ctx, id); err != nil {
		return err
	}
	e.ports.close(id)
	return nil
}

// DialPort connects to a port of an instance, on its loopback interface, and
// wakes it where it sleeps. It needs no network of the
// instance's, which does not fall asleep until the connection is closed.
func (e *Executor) DialPort(ctx context.Context, project, id string, port int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	_, s, leave, err := e.enter(ctx, orDefault(project), id, "connect to a port of")
	if err != nil {
		return nil, err
	}
	conn, err := dialInside(ctx, s.Client, strconv.Itoa(port))
	if err != nil {
		leave()
		return nil, err
	}
	return &usedConn{Conn: conn, leave: sync.OnceFunc(leave)}, nil
}

// dialInside connects to a port on either loopback address.
func dialInside(ctx context.Context, c *guest.Client, port string) (net.Conn, error) {
	conn, err := c.DialPort(ctx, "tcp", port)
	if err == nil || faas.KindOf(err) != faas.KindUnavailable {
		return conn, err
	}
	if other, otherErr := c.DialPort(ctx, "tcp", net.JoinHostPort("::1", port)); otherErr == nil {
		return other, nil
	}
	return nil, err
}

// usedConn keeps its instance awake until it is closed.
type usedConn struct {
	net.Conn
	leave func()
}

// CloseWrite says that nothing more comes.
func (c *usedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close implements net.Conn.
func (c *usedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// ports are the listeners of exposed TCP ports.
type ports struct {
	mu        sync.Mutex
	listeners map[string]*portListener
	closed    bool
}

type portListener struct {
	instance string
	listener net.Listener
	cancel   context.CancelFunc // ends its connections
}

func newPorts() *ports { return &ports{listeners: map[string]*portListener{}} }

// open listens for a TCP port, on the same port of this machine as before when
// it had one, and returns which.
func (l *ports) open(e *Executor, p faas.Port) (int, error) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(p.HostPort))
	listener, err := (&net.ListenConfig{}).Listen(e.ctx, "tcp", address)
	if err != nil {
		return 0, &faas.Error{Kind: faas.KindUnavailable, Op: "expose port", Detail: "no port of this machine could be opened", Err: err}
	}
	ctx, cancel := context.WithCancel(e.ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		cancel()
		listener.Close() //nolint:errcheck // nobody has connected
		return 0, errClosing
	}
	l.listeners[p.ID] = &portListener{p.InstanceID, listener, cancel}
	e.tasks.Go(func() { e.accept(ctx, listener, p) })
	return listener.Addr().(*net.TCPAddr).Port, nil //nolint:forcetypeassert // of a TCP listener
}

// close ends the listener of a port, if it has one.
func (l *ports) close(id string) {
	l.end(func(port string, _ *portListener) bool { return port == id }, false)
}

// closeOf ends the listeners of an instance and their connections.
func (l *ports) closeOf(instance string) {
	l.end(func(_ string, p *portListener) bool { return p.instance == instance }, true)
}

func (l *ports) closeAll() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.end(func(string, *portListener) bool { return true }, true)
}

func (l *ports) end(which func(id string, p *portListener) bool, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, p := range l.listeners {
		if !which(id, p) {
			continue
		}
		delete(l.listeners, id)
		p.listener.Close() //nolint:errcheck // it accepts nothing more, whatever it says
		if cut {
			p.cancel()
		}
	}
}

// reopen listens again for the TCP ports of an instance that was taken over.
func (e *Executor) reopen(ctx context.Context, x *instance) {
	list, err := e.store.Ports(ctx, x.project, x.id)
	if err != nil {
		e.log.Error("the ports of an instance are not known", "instance", x.id, "error", err)
	}
	for _, p := range list {
		if p.Protocol != faas.PortTCP {
			continue
		}
		if _, err := e.ports.open(e, p); err != nil {
			e.log.Error("a TCP port of an instance cannot be opened again", "instance", x.id, "port", p.ID, "host_port", p.HostPort, "error", err)
		}
	}
}

// accept passes on the connections of a TCP port until its listener is closed.
// Those that are there then go on until ctx ends.
func (e *Executor) accept(ctx context.Context, listener net.Listener, p faas.Port) {
	places := make(chan struct{}, maxForwarded)
	for {
		outside, err := listener.Accept()
		if err != nil {
			if !isTemporary(err) {
				return
			}
			select {
			case <-time.After(acceptRetry): // out of descriptors, most likely
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case places <- struct{}{}:
		default:
			outside.Close() //nolint:errcheck // too many
			continue
		}
		e.tasks.Go(func() {
			defer func() { <-places }()
			if err := e.forward(ctx, outside, p); err != nil {
				e.log.Info("a connection to a port was refused", "instance", p.InstanceID, "port", p.Port, "error", err)
			}
		})
	}
}

// isTemporary says whether a listener that failed may work again.
func isTemporary(err error) bool {
	timeout, ok := err.(interface{ Temporary() bool }) //nolint:errorlint // net's own
	return ok && timeout.Temporary()
}

// forward copies one connection both ways until both have ended.
func (e *Executor) forward(ctx context.Context, outside net.Conn, p faas.Port) error {
	defer outside.Close() //nolint:errcheck // both ways have ended
	inside, err := e.DialPort(ctx, p.Project, p.InstanceID, p.Port)
	if err != nil {
		return fmt.Errorf("forward to %s: %w", p.ID, err)
	}
	defer inside.Close() //nolint:errcheck // both ways have ended
	stop := context.AfterFunc(ctx, func() {
		outside.Close() //nolint:errcheck // ends the copies
		inside.Close()  //nolint:errcheck // ends the copies
	})
	defer stop()
	var ways sync.WaitGroup
	ways.Go(func() { copyHalf(inside, outside) })
	ways.Go(func() { copyHalf(outside, inside) })
	ways.Wait()
	return nil
}

// copyHalf copies one way and says at its end that nothing more comes. When
// the other end does not take it any more both ways are over.
func copyHalf(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
		half.CloseWrite() //nolint:errcheck // it may have ended
		return
	}
	to.Close()   //nolint:errcheck // see above
	from.Close() //nolint:errcheck // see above
}
