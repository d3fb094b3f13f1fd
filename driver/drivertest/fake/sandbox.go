package fake

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// sandbox is one agent in this process with a directory of its own.
type sandbox struct {
	machine *Machine
	id      string
	dir     string
	secret  []byte
	agent   *agent

	mu     sync.Mutex
	spec   faas.Spec
	state  []string // what SetState gave it
	base   []string // the layers that it was restored from
	stats  driver.Stats
	cut    int64              // bytes that the next connection carries to the host; 0: no limit
	conns  map[*conn]struct{} // open, the host's ends
	thawed chan struct{}      // closed unless the sandbox is paused
	ended  chan struct{}      // closed when the agent is gone
	once   sync.Once          // ends the agent
}

var (
	_ driver.Sandbox = (*sandbox)(nil)
	_ driver.Pauser  = (*sandbox)(nil)
)

func newSandbox(m *Machine, spec faas.Spec) (*sandbox, error) {
	s := &sandbox{
		machine: m, id: spec.ID, dir: filepath.Join(m.dir, spec.ID), secret: make([]byte, 32), spec: spec,
		conns: map[*conn]struct{}{}, thawed: make(chan struct{}), ended: make(chan struct{}),
	}
	close(s.thawed)
	rand.Read(s.secret) //nolint:errcheck // never fails
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, faas.Errorf(faas.KindInternal, "make the directory of sandbox %s: %w", s.id, err)
	}
	var err error
	if s.agent, err = startAgent(s.dir, s.secret, spec, s.end); err != nil {
		os.RemoveAll(s.dir) //nolint:errcheck // the first error counts
		return nil, err
	}
	return s, nil
}

func (s *sandbox) ID() string { return s.id }

func (s *sandbox) Handle() driver.Handle {
	data, _ := json.Marshal(map[string]string{"dir": s.dir}) //nolint:errchkjson // strings
	return driver.Handle{Runtime: s.machine.name, ID: s.id, Data: data}
}

func (s *sandbox) Channel() driver.Channel { return driver.Channel{Secret: s.secret} }

// Dial connects to the agent.
func (s *sandbox) Dial(ctx context.Context) (net.Conn, error) {
	if err := s.machine.Faults.at(ctx, PointDial); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over() {
		return nil, faas.Errorf(faas.KindUnavailable, "sandbox %s has ended", s.id)
	}
	host, inside := net.Pipe()
	if err := s.agent.accept(inside); err != nil {
		host.Close() //nolint:errcheck // the first error counts
		return nil, err
	}
	c := &conn{Conn: host, sandbox: s, left: s.cut, closed: make(chan struct{})}
	s.cut = 0
	s.conns[c] = struct{}{}
	return c, nil
}

// Wait returns when the agent is gone.
func (s *sandbox) Wait(ctx context.Context) error {
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stats returns what the test set.
func (s *sandbox) Stats(ctx context.Context) (driver.Stats, error) {
	if err := s.machine.Faults.at(ctx, PointStats); err != nil {
		return driver.Stats{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats, nil
}

// Destroy ends the agent with all that it started and removes the directory.
func (s *sandbox) Destroy(ctx context.Context) error {
	if err := s.machine.Faults.at(ctx, PointDestroy); err != nil {
		return err
	}
	return s.destroy()
}

func (s *sandbox) destroy() error {
	s.end()
	if err := s.agent.stop(); err != nil {
		return faas.Errorf(faas.KindInternal, "stop the agent of sandbox %s: %w", s.id, err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return faas.Errorf(faas.KindInternal, "remove sandbox %s: %w", s.id, err)
	}
	s.machine.forget(s.id)
	return nil
}

// end cuts every connection and tells those who wait.
func (s *sandbox) end() {
	s.once.Do(func() {
		s.mu.Lock()
		close(s.ended)
		if !s.running() {
			close(s.thawed)
		}
		s.mu.Unlock()
		s.dropConnections()
	})
}

func (s *sandbox) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// running says whether the sandbox is not paused; the lock is held.
func (s *sandbox) running() bool {
	select {
	case <-s.thawed:
		return true
	default:
		return false
	}
}

// Pause holds up the sandbox's connections: a fake's processes go on, but
// nothing of them is seen until Resume.
func (s *sandbox) Pause(ctx context.Context) error {
	if err := s.machine.Faults.at(ctx, PointPause); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over() {
		return faas.Errorf(faas.KindFailedPrecondition, "sandbox %s has ended", s.id)
	}
	if s.running() {
		s.thawed = make(chan struct{})
	}
	return nil
}

// Resume lets the connections go on.
func (s *sandbox) Resume(ctx context.Context) error {
	if err := s.machine.Faults.at(ctx, PointResume); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over() {
		return faas.Errorf(faas.KindFailedPrecondition, "sandbox %s has ended", s.id)
	}
	if !s.running() {
		close(s.thawed)
	}
	return nil
}

func (s *sandbox) dropConnections() int {
	s.mu.Lock()
	dropped := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		dropped = append(dropped, c)
	}
	s.mu.Unlock()
	for _, c := range dropped {
		c.Close() //nolint:errcheck // a pipe
	}
	return len(dropped)
}

// DropConnections cuts every open connection to a sandbox's agent and returns
// how many there were. The agent lives on.
func (m *Machine) DropConnections(id string) int {
	if s := m.find(id); s != nil {
		return s.dropConnections()
	}
	return 0
}

// CutAfter lets the next connection to a sandbox's agent break when it has
// carried n bytes to the host.
func (m *Machine) CutAfter(id string, n int64) {
	if s := m.find(id); s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cut = n
	}
}

// Lose ends a sandbox as a crash would: its agent and processes are gone, its
// connections break, its directory stays.
func (m *Machine) Lose(id string) error {
	s := m.find(id)
	if s == nil {
		return faas.Errorf(faas.KindNotFound, "sandbox %q is not there", id)
	}
	s.end()
	return s.agent.stop()
}

// SetStats sets what Stats answers for a sandbox.
func (m *Machine) SetStats(id string, stats driver.Stats) {
	if s := m.find(id); s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stats = stats
	}
}
