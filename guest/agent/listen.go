//go:build unix

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

const (
	// prefixIncoming begins the ids of connections that wait to be taken.
	prefixIncoming = "in"
	// acceptTimeout is how long one waits.
	acceptTimeout = 15 * time.Second
	// maxIncoming bounds how many wait, over all listeners.
	maxIncoming = 128
)

// listen takes connections inside and tells the client of each, until it has
// enough or is gone.
func (r *request) listen(args wire.ListenArgs) (any, error) {
	listener, cleanup, err := r.agent.listenOn(r.ctx, args)
	if err != nil {
		return nil, err
	}
	defer cleanup()
	defer listener.Close()                                        //nolint:errcheck // it has ended
	stop := context.AfterFunc(r.ctx, func() { listener.Close() }) //nolint:errcheck // ends Accept
	defer stop()
	address := listener.Addr().String()
	if args.Network == "unix" {
		address = r.agent.inside(address)
	}
	if err := r.reply(wire.Listening{Address: address}); err != nil {
		return nil, err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			if r.ctx.Err() == nil && temporary(err) {
				select {
				case <-time.After(10 * time.Millisecond):
					continue
				case <-r.ctx.Done():
				}
			}
			return nil, nil //nolint:nilerr // the client has ended it
		}
		line, err := json.Marshal(wire.Incoming{ID: r.agent.keep(r.ctx, conn), Remote: conn.RemoteAddr().String()})
		if err == nil {
			_, err = r.out.Write(append(line, '\n'))
		}
		if err != nil {
			return nil, err
		}
	}
}

// listenOn opens a listener inside.
func (a *Agent) listenOn(ctx context.Context, args wire.ListenArgs) (listener net.Listener, cleanup func(), err error) {
	who, err := a.lookupUser(args.User)
	if err != nil {
		return nil, nil, err
	}
	config := net.ListenConfig{}
	cleanup = func() {}
	switch args.Network {
	case "tcp":
		if _, _, err := net.SplitHostPort(args.Address); err != nil {
			return nil, nil, faas.InvalidField("address", "%q is not host:port", args.Address)
		}
		listener, err = config.Listen(ctx, "tcp", args.Address)
	case "unix":
		listener, cleanup, err = a.listenSocket(ctx, args.Address, who)
	default:
		return nil, nil, faas.InvalidField("network", "%q is neither tcp nor unix", args.Network)
	}
	if err == nil {
		return listener, cleanup, nil
	}
	var known *faas.Error
	if errors.As(err, &known) {
		return nil, nil, err
	}
	e := &faas.Error{Kind: faas.KindUnavailable, Detail: "listen on " + args.Network + " " + args.Address + ": " + reason(err)}
	if errors.Is(err, syscall.EADDRINUSE) {
		e.Kind, e.Remedy = faas.KindConflict, "choose another address"
	}
	return nil, nil, e
}

// listenSocket makes a socket that belongs to who, at an address or in a new
// directory that nobody else may look into.
func (a *Agent) listenSocket(ctx context.Context, address string, who user) (net.Listener, func(), error) {
	cleanup, path := func() {}, ""
	if address == "" {
		dir, err := os.MkdirTemp(filepath.Join(a.cfg.Root, "/tmp"), "faas-")
		if err != nil {
			return nil, nil, err
		}
		cleanup = func() { os.RemoveAll(dir) } //nolint:errcheck // the sandbox's own
		if err := os.Lchown(dir, who.uid, who.gid); err != nil && os.Geteuid() == 0 {
			cleanup()
			return nil, nil, err
		}
		path = filepath.Join(dir, "socket")
	} else {
		var err error
		if path, err = a.path(address); err != nil {
			return nil, nil, err
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err == nil {
		err = os.Chmod(path, 0o600)
		if err == nil && os.Geteuid() == 0 {
			err = os.Lchown(path, who.uid, who.gid)
		}
		if err != nil {
			listener.Close() //nolint:errcheck // given up
		}
	}
	if err != nil {
		cleanup()
		return nil, nil, err
	}
	return listener, cleanup, nil
}

// inside is how a path of this machine is called in the sandbox.
func (a *Agent) inside(path string) string {
	if rel, err := filepath.Rel(a.cfg.Root, path); a.cfg.Root != "" && err == nil {
		return filepath.Join("/", rel)
	}
	return path
}

// keep lets a connection wait for the client to take it, as long as its
// listener lives.
func (a *Agent) keep(ctx context.Context, conn net.Conn) string {
	id := faas.NewID(prefixIncoming)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.incoming) >= maxIncoming {
		conn.Close() //nolint:errcheck // refused; the client learns when it asks
		return id
	}
	drop := func() {
		if c := a.takeIncoming(id); c != nil {
			c.Close() //nolint:errcheck // nobody wanted it
		}
	}
	limit := time.AfterFunc(acceptTimeout, drop)
	context.AfterFunc(ctx, func() {
		limit.Stop()
		drop()
	})
	a.incoming[id] = conn
	return id
}

func (a *Agent) takeIncoming(id string) net.Conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	conn := a.incoming[id]
	delete(a.incoming, id)
	return conn
}

// acceptIncoming joins a waiting connection to the request.
func (r *request) acceptIncoming(args wire.AcceptArgs) (any, error) {
	conn := r.agent.takeIncoming(args.ID)
	if conn == nil {
		return nil, faas.Errorf(faas.KindNotFound, "the connection does not wait any more")
	}
	return nil, r.join(conn)
}
