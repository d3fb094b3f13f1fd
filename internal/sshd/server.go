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

// Instances is what the server needs of the executor.
type Instances interface {
	Instance(ctx context.Context, project, id string) (*faas.Instance, error)
	Instances(ctx context.Context, project string, filter faas.InstanceFilter) ([]faas.Instance, string, error)
	ResumeInstance(ctx context.Context, project, id string) (*faas.Instance, error)
	StartInstance(ctx context.Context, project, id string) (*faas.Instance, error)
	// Guest calls f with the client of a running instance's agent; the
	// instance is in use until f returns.
	Guest(ctx context.Context, project, id string, f func(*guest.Client) error) error
}

// Options configures a Server. Instances, Keys and HostKeys are required.
type Options struct {
	Instances Instances
	Keys      *sshkey.Service
	HostKeys  *sshkey.HostKeys
	Trusted   []sshkey.Trusted // authorities whose certificates log in
	Audit     *audit.Log       // nil: nothing is written
	Logger    *slog.Logger     // nil: discard
	// AgentForwarding lets clients forward their agents, unless their
	// certificate does not permit it.
	AgentForwarding bool
	Limits          Limits
}

// Limits bounds what clients take. A zero field has the default beside it.
type Limits struct {
	Connections       int           // at one time, authenticated: 1024
	Pending           int           // not yet authenticated: 128
	PendingPerAddress int           // of them, from one address: 32
	SessionsPerKey    int           // connections of one key that sets none itself: 64
	Channels          int           // of one connection: 64
	LoginTimeout      time.Duration // from the first byte to a proved key: 30 s
	KeepAlive         time.Duration // between signs of life: 15 s; three that stay out end a connection
	BanAfter          int           // failed connections in a row from one address: 20
	BanTime           time.Duration // 10 min
}

func (l Limits) withDefaults() Limits {
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	span := func(field *time.Duration, value time.Duration) {
		if *field <= 0 {
			*field = value
		}
	}
	set(&l.Connections, 1024)
	set(&l.Pending, 128)
	set(&l.PendingPerAddress, 32)
	set(&l.SessionsPerKey, 64)
	set(&l.Channels, 64)
	set(&l.BanAfter, 20)
	span(&l.LoginTimeout, 30*time.Second)
	span(&l.KeepAlive, 15*time.Second)
	span(&l.BanTime, 10*time.Minute)
	return l
}

// recheck is how often the keys of open connections are looked up again, for
// those that another process has revoked.
const recheck = 10 * time.Second

// Server serves SSH.
type Server struct {
	opts   Options
	log    *slog.Logger
	gate   *gate
	ctx    context.Context
	cancel context.CancelFunc
	owned  sync.WaitGroup

	mu          sync.Mutex
	closed      bool
	connections map[*connection]struct{} // authenticated
	draining    chan struct{}            // closed when no new ones are taken
}

// New returns a server. Close ends it.
func New(opts Options) *Server {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.Limits = opts.Limits.withDefaults()
	s := &Server{
		opts: opts, log: opts.Logger, gate: newGate(opts.Limits),
		connections: map[*connection]struct{}{}, draining: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	stop := opts.Keys.OnRevoke(s.revoked)
	context.AfterFunc(s.ctx, stop)
	s.owned.Go(s.lookAgain)
	return s
}

// Serve takes connections until the listener fails or the server is closed.
func (s *Server) Serve(l net.Listener) error {
	stop := context.AfterFunc(s.ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		select {
		case <-s.draining:
			if err == nil {
				conn.Close()
			}
			return nil
		default:
		}
		if err != nil {
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() {
				select {
				case <-time.After(10 * time.Millisecond):
					continue
				case <-s.draining:
				}
				return nil
			}
			return faas.Errorf(faas.KindUnavailable, "take SSH connections: %w", err)
		}
		if !s.own(func() { s.serve(conn, nil) }) {
			conn.Close()
		}
	}
}

// own runs f in a goroutine that Close waits for; false: the server is closed.
func (s *Server) own(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.owned.Go(f)
	return true
}

// Drain takes no new connections and waits for those that are open to end,
// or for ctx.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	select {
	case <-s.draining:
	default:
		close(s.draining)
	}
	s.mu.Unlock()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for s.Connections() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Close ends every connection. The commands that sessions run are hung up.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	select {
	case <-s.draining:
	default:
		close(s.draining)
	}
	s.mu.Unlock()
	s.cancel()
	s.owned.Wait()
}

// Connections counts the authenticated connections.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connections)
}

// enter counts a connection in; an error says why there is no room for it.
func (s *Server) enter(c *connection) error {
	limit := c.login.MaxSessions
	if limit == 0 {
		limit = s.opts.Limits.SessionsPerKey
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.connections) >= s.opts.Limits.Connections {
		return errors.New("the server has as many SSH connections as it may")
	}
	same := 0
	for other := range s.connections {
		if other.login.KeyID == c.login.KeyID {
			same++
		}
	}
	if same >= limit {
		return errors.New("this key has as many SSH connections as it may")
	}
	s.connections[c] = struct{}{}
	return nil
}

func (s *Server) leave(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connections, c)
}

// of returns the connections of a key.
func (s *Server) of(key string) []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*connection
	for c := range s.connections {
		if c.login.KeyID == key {
			list = append(list, c)
		}
	}
	return list
}

// revoked ends the connections of a key at once.
func (s *Server) revoked(key string) {
	for _, c := range s.of(key) {
		c.end("its key was revoked")
	}
}

// lookAgain ends the connections of keys whose record is gone.
func (s *Server) lookAgain() {
	ticker := time.NewTicker(recheck)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		s.mu.Lock()
		keys := map[string]bool{}
		for c := range s.connections {
			if c.login.Recorded {
				keys[c.login.KeyID] = true
			}
		}
		s.mu.Unlock()
		for key := range keys {
			if !s.opts.Keys.Valid(s.ctx, key) {
				s.revoked(key)
			}
		}
	}
}

// config is the configuration of one connection's handshake.
func (s *Server) config(h *handshake) *ssh.ServerConfig {
	config := &ssh.ServerConfig{
		Config:                  ssh.Config{KeyExchanges: keyExchanges, Ciphers: ciphers, MACs: macs},
		PublicKeyAuthAlgorithms: publicKeyAlgorithms,
		MaxAuthTries:            maxAuthTries,
		ServerVersion:           "SSH-2.0-faas",
		PublicKeyCallback:       h.offered,
	}
	for _, key := range s.opts.HostKeys.Current() {
		config.AddHostKey(key)
	}
	return config
}
