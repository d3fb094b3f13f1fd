package sshd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/audit"
	"github.com/faas-platform/faas/internal/sshkey"
)

// maxHandshakeBytes bounds what a client sends before it has proved itself:
// many times what the largest certificates of a full agent take.
const maxHandshakeBytes = 1 << 20

// target is the instance that a connection is for.
type target struct {
	project, id, name string
	user              string // inside; root when empty
}

// handshake is what is known of a connection that has not proved itself.
type handshake struct {
	server *Server
	conn   *boundedConn
	// via is not nil for a connection through another one (ProxyJump): the
	// instance that it is for is known then.
	via *jump
}

// proved is what a key that was accepted carries to its connection.
type proved struct {
	login  *sshkey.Login
	target target
}

type provedKey struct{}

// boundedConn is a connection that bounds what is read of it until lift.
type boundedConn struct {
	net.Conn
	left   atomic.Int64
	lifted atomic.Bool
	read   atomic.Int64
}

var errTooMuch = errors.New("the client sent too much before it logged in")

func (b *boundedConn) Read(p []byte) (int, error) {
	if b.lifted.Load() {
		return b.Conn.Read(p)
	}
	left := b.left.Load()
	if left <= 0 {
		return 0, errTooMuch
	}
	n, err := b.Conn.Read(p[:min(int64(len(p)), left)])
	b.left.Add(-int64(n))
	b.read.Add(int64(n))
	return n, err
}

// serve takes one connection from its first byte to its end.
func (s *Server) serve(conn net.Conn, via *jump) {
	defer conn.Close()
	stop := context.AfterFunc(s.ctx, func() { conn.Close() })
	defer stop()
	c := s.login(conn, via)
	if c == nil {
		return
	}
	c.serve()
}

// login performs the handshake and returns the authenticated connection; nil
// when there is none.
func (s *Server) login(conn net.Conn, via *jump) *connection {
	from := conn.RemoteAddr()
	delay, ok := s.gate.enter(from)
	if !ok {
		return nil
	}
	h := &handshake{server: s, conn: &boundedConn{Conn: conn}, via: via}
	h.conn.left.Store(maxHandshakeBytes)
	limit := time.AfterFunc(s.opts.Limits.LoginTimeout+delay, func() { conn.Close() })
	defer limit.Stop()
	pause := time.NewTimer(delay)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-s.ctx.Done():
	}
	sc, channels, requests, err := ssh.NewServerConn(h.conn, s.config(h))
	if err != nil {
		// A connection that says nothing, such as a health check's, is no failure.
		failed := h.conn.read.Load() > 0
		if s.gate.leave(from, failed, false) {
			s.log.Warn("an address is refused for a while: too many failed SSH connections", "remote", from.String())
			s.opts.Audit.Record(s.ctx, audit.Event{Action: "ssh-ban", Remote: hostOf(from), Outcome: audit.OutcomeRefused})
		}
		s.log.LogAttrs(s.ctx, slog.LevelDebug, "an SSH connection did not log in", slog.String("remote", from.String()), slog.Any("error", err))
		return nil
	}
	s.gate.leave(from, false, true)
	if !limit.Stop() {
		sc.Close()
		return nil
	}
	h.conn.lifted.Store(true)
	p, ok := sc.Permissions.ExtraData[provedKey{}].(proved)
	if !ok {
		sc.Close()
		return nil
	}
	return newConnection(s, sc, channels, requests, p, via)
}

func hostOf(address net.Addr) string {
	host, _, err := net.SplitHostPort(address.String())
	if err != nil {
		return address.String()
	}
	return host
}

// lookupTimeout bounds what looking up a key and an instance may take.
const lookupTimeout = 10 * time.Second

// offered decides about a key that the client offers.
func (h *handshake) offered(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	ctx, cancel := context.WithTimeout(h.server.ctx, lookupTimeout)
	defer cancel()
	var p proved
	var err error
	p.login, err = h.server.opts.Keys.Authorize(ctx, key, meta.RemoteAddr(), h.server.opts.Trusted, func(ctx context.Context, project string) (string, string, error) {
		t, err := h.find(ctx, project, meta.User())
		if err != nil {
			return "", "", err
		}
		p.target = t
		return t.id, t.name, nil
	})
	if err != nil {
		if kind := faas.KindOf(err); kind != faas.KindInternal && kind != faas.KindNotFound {
			h.server.log.Error("an SSH key could not be looked up", "error", err)
		}
		return nil, errors.New("refused")
	}
	return &ssh.Permissions{ExtraData: map[any]any{provedKey{}: p}}, nil
}

// find finds the instance that a user name asks for, in a project. The name is
// INSTANCE or USER+INSTANCE, where INSTANCE is an id or a name.
func (h *handshake) find(ctx context.Context, project, userName string) (target, error) {
	user, instance := "", userName
	if i := strings.LastIndexByte(userName, '+'); i >= 0 {
		user, instance = userName[:i], userName[i+1:]
	}
	if h.via != nil {
		t := h.via.target
		if t.project != project {
			return target{}, faas.ErrNotFound
		}
		if t.user = user; user == "" && instance != t.id && instance != t.name {
			t.user = userName // somebody in the instance that the jump has named
		}
		return t, nil
	}
	found, err := lookUp(ctx, h.server.opts.Instances, project, instance)
	if err != nil {
		return target{}, err
	}
	return target{project: project, id: found.ID, name: found.Name, user: user}, nil
}

// lookUp finds an instance that SSH may reach by its id or its name.
func lookUp(ctx context.Context, instances Instances, project, ref string) (*faas.Instance, error) {
	found, err := byRef(ctx, instances, project, ref)
	if err == nil && found.SSHDisabled {
		err = faas.ErrNotFound
	}
	return found, err
}

func byRef(ctx context.Context, instances Instances, project, ref string) (*faas.Instance, error) {
	if faas.ValidID(faas.PrefixInstance, ref) {
		return instances.Instance(ctx, project, ref)
	}
	if ref == "" || len(ref) > 128 {
		return nil, faas.ErrNotFound
	}
	list, _, err := instances.Instances(ctx, project, faas.InstanceFilter{Name: ref, Limit: 1})
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, faas.ErrNotFound
	}
	return &list[0], nil
}
