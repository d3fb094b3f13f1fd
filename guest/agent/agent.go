//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/internal/wire"
)

const (
	// handshakeTimeout bounds what an unauthenticated peer may take.
	handshakeTimeout = 10 * time.Second
	// maxPending bounds the connections that have not proved themselves.
	maxPending = 64
	// quiesceTimeout bounds the orderly end of every connection.
	quiesceTimeout = 10 * time.Second
	// trimDelay is how long the agent has had no connection, or has run since
	// its start, when it gives memory back. That costs a collection, so it is
	// for those that stay, not for warm ones that are claimed at once.
	trimDelay = 2 * time.Second
	// maxDiskThreads bounds the threads that wait for a disk at one time. The
	// runtime needs a thread for each, and ends the agent when none can be
	// made, as where a fork bomb has taken every process number.
	maxDiskThreads = 4
)

// MaxProcs is how many of its threads the agent's program lets run at once.
const MaxProcs = 2

// Config configures an Agent.
type Config struct {
	// Secret is the channel secret; the agent answers nobody who does not
	// know it.
	Secret []byte
	// Root is put before every path of file operations and of working
	// directories. Empty inside a sandbox; a directory of its own where
	// several agents share a machine.
	Root string
	// Init gives the agent the duties of PID 1: it reaps every child of the
	// process, its own or not. Harden was called before.
	Init bool
	// Protection is what Harden returned.
	Protection Protection
	// Env is the environment of every command, below what Configure sets.
	Env []string
	// Build names the agent's build in Hello.
	Build string
	// Log takes lines that an operator may want; nil drops them.
	Log func(format string, args ...any)
}

// Agent serves one sandbox.
type Agent struct {
	cfg       Config
	startedAt time.Time
	ctx       context.Context
	cancel    context.CancelFunc
	owned     sync.WaitGroup
	devNull   *os.File
	spawner   *spawner
	trim      *time.Timer // gives unused memory back
	disk      chan struct{}
	shutdown  chan struct{}

	mu        sync.Mutex
	secret    []byte
	sessions  map[*wire.Session]net.Conn
	pending   map[net.Conn]struct{} // not yet proved
	waiting   map[net.Conn]struct{} // dialled, and without a word from the host
	commands  map[string]*command
	requests  map[*request]struct{}
	incoming  map[string]net.Conn // taken by a listener, and not yet by the host
	quiescing bool
	thawed    bool // a connection came after the last Quiesce
	identity  guest.Identity
	env       map[string]string
	secrets   map[string]string
	closed    bool
}

// New returns an agent. Close ends it.
func New(cfg Config) (*Agent, error) {
	if len(cfg.Secret) == 0 {
		return nil, errors.New("agent: no channel secret")
	}
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &Agent{
		cfg: cfg, startedAt: time.Now(), ctx: ctx, cancel: cancel, devNull: null,
		disk: make(chan struct{}, maxDiskThreads), shutdown: make(chan struct{}),
		secret: slices.Clone(cfg.Secret), sessions: map[*wire.Session]net.Conn{}, pending: map[net.Conn]struct{}{},
		waiting:  map[net.Conn]struct{}{},
		commands: map[string]*command{}, requests: map[*request]struct{}{},
		incoming: map[string]net.Conn{},
	}
	a.spawner = newSpawner(a)
	a.trim = time.AfterFunc(trimDelay, a.trimMemory)
	return a, nil
}

// trimMemory gives memory back to the system when the agent is idle: it stays
// resident in every sandbox.
func (a *Agent) trimMemory() {
	a.mu.Lock()
	idle := a.cfg.Init && len(a.commands) == 0
	a.mu.Unlock()
	if idle {
		debug.FreeOSMemory()
	}
}

// Done is closed when a host has asked the agent to shut down and everything
// that it started has ended.
func (a *Agent) Done() <-chan struct{} { return a.shutdown }

// Close ends every connection and kills every command with all that it started.
func (a *Agent) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	var conns []io.Closer
	for s := range a.sessions {
		conns = append(conns, closerFunc(s.Close))
	}
	for c := range a.pending {
		conns = append(conns, c)
	}
	for c := range a.waiting {
		conns = append(conns, c)
	}
	a.mu.Unlock()
	for _, c := range conns {
		c.Close() //nolint:errcheck // being given up
	}
	a.mu.Lock()
	commands := slices.Collect(maps.Values(a.commands))
	a.mu.Unlock()
	for _, c := range commands {
		c.release(net.ErrClosed)
	}
	a.killCommands()
	a.trim.Stop()
	a.cancel()
	a.owned.Wait()
	a.spawner.close()
	return a.devNull.Close()
}

type closerFunc func()

func (f closerFunc) Close() error { f(); return nil }

// killCommands kills all that the agent's commands started and waits for it.
func (a *Agent) killCommands() {
	a.mu.Lock()
	var commands []*command
	for _, c := range a.commands {
		commands = append(commands, c)
	}
	a.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range commands {
		wg.Go(c.abort)
	}
	wg.Wait()
}

// own runs f in a goroutine that Close waits for; false: the agent is closed.
func (a *Agent) own(f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.owned.Add(1)
	go func() {
		defer a.owned.Done()
		f()
	}()
	return true
}

// Serve accepts connections until ctx ends or the agent is closed.
func (a *Agent) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() }) //nolint:errcheck // ends Accept
	defer stop()
	stopOwn := context.AfterFunc(a.ctx, func() { l.Close() }) //nolint:errcheck
	defer stopOwn()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || a.ctx.Err() != nil {
				return nil
			}
			if temporary(err) {
				a.cfg.Log("accept: %v", err)
				select {
				case <-time.After(10 * time.Millisecond):
					continue
				case <-ctx.Done():
					return nil
				}
			}
			return fmt.Errorf("agent: accept: %w", err)
		}
		if !a.own(func() { a.ServeConn(ctx, conn) }) { //nolint:errcheck // logged there
			conn.Close() //nolint:errcheck
		}
	}
}

// temporary says whether accepting may work again, as when file descriptors
// have run out.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// ServeDialled serves a connection that the agent itself made or opened. The
// host may take its time with its first byte; the handshake is bounded from
// there.
func (a *Agent) ServeDialled(ctx context.Context, conn net.Conn) error {
	a.mu.Lock()
	if a.closed || a.quiescing {
		a.mu.Unlock()
		conn.Close() //nolint:errcheck // not used
		return net.ErrClosed
	}
	a.waiting[conn] = struct{}{}
	a.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // ends the read
	first := make([]byte, 1)
	_, err := io.ReadFull(conn, first)
	stop()
	a.mu.Lock()
	delete(a.waiting, conn)
	a.mu.Unlock()
	if err != nil {
		conn.Close() //nolint:errcheck // it has ended
		return fmt.Errorf("agent: wait for the host: %w", err)
	}
	return a.ServeConn(ctx, &begunConn{Conn: conn, first: first})
}

// begunConn is a connection of which the first byte has been read.
type begunConn struct {
	net.Conn
	first []byte
}

// EndUnseen says whether the host does not see the connection's end, as with a
// device that stays.
func (c *begunConn) EndUnseen() bool { return endUnseen(c.Conn) }

func endUnseen(conn net.Conn) bool {
	e, ok := conn.(interface{ EndUnseen() bool })
	return ok && e.EndUnseen()
}

func (c *begunConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 && len(p) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// ServeConn serves one connection until it ends.
func (a *Agent) ServeConn(ctx context.Context, conn net.Conn) error {
	defer conn.Close() //nolint:errcheck
	if !a.admit(conn) {
		return net.ErrClosed
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck
	defer stop()
	limit := time.AfterFunc(handshakeTimeout, func() { conn.Close() }) //nolint:errcheck
	a.mu.Lock()
	secret := a.secret
	a.mu.Unlock()
	version, err := wire.AgentHandshake(conn, secret, wire.Supported())
	if !limit.Stop() && err == nil {
		err = os.ErrDeadlineExceeded
	}
	a.mu.Lock()
	delete(a.pending, conn)
	a.mu.Unlock()
	if err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) && !errors.Is(err, net.ErrClosed) {
			a.cfg.Log("refused a connection: %v", err)
		}
		return fmt.Errorf("agent: %w", err)
	}
	return a.serve(conn, version)
}

// admit takes a connection that has proved nothing yet. When too many wait,
// one of them makes room: a host that gives up its turn can come again.
func (a *Agent) admit(conn net.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.quiescing {
		return false
	}
	if len(a.pending) >= maxPending {
		for c := range a.pending {
			c.Close() //nolint:errcheck // given up
			delete(a.pending, c)
			break
		}
	}
	a.pending[conn] = struct{}{}
	return true
}

func (a *Agent) serve(conn net.Conn, version int) error {
	var s *wire.Session
	s = wire.NewAgentSession(conn, func(st *wire.Stream, request []byte) wire.Handler {
		return a.accept(s, st, version, request)
	})
	a.mu.Lock()
	if a.closed || a.quiescing {
		a.mu.Unlock()
		s.Drain() // a client that came at this moment learns that nothing was taken
		s.Close()
		return net.ErrClosed
	}
	a.sessions[s] = conn
	a.thaw()
	a.mu.Unlock()
	err := s.Serve()
	a.mu.Lock()
	delete(a.sessions, s)
	if a.cfg.Init && !a.closed && len(a.sessions) == 0 {
		a.trim.Reset(trimDelay)
	}
	a.mu.Unlock()
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// path is where a path of a request lies on this machine.
func (a *Agent) path(p string) (string, error) {
	if !filepath.IsAbs(p) {
		return "", faas.InvalidField("path", "%q is not absolute", p)
	}
	if len(p) > 4096 {
		return "", faas.InvalidField("path", "it is longer than 4096 bytes")
	}
	return filepath.Join(a.cfg.Root, filepath.Clean(p)), nil
}
