package microvm

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/guest/machine"
)

// sandbox is one machine.
type sandbox struct {
	id     string
	driver *QEMU
	group  *cgroup.Group
	done   chan struct{} // closed when its process has ended
	end    sync.Once     // closes done
	// unwatched is closed when the driver was closed while the machine ran.
	unwatched chan struct{}
	// ports are the streams that nobody holds, by number.
	ports chan int

	process *pidfd.Handle // QEMU; set once, before the sandbox is handed out; nil when it never started

	mu         sync.Mutex
	record     record
	destroying bool

	destroy sync.Mutex // one Destroy at a time
	control sync.Mutex // one user of the control port and of QEMU's own socket at a time
}

var (
	_ driver.Sandbox     = (*sandbox)(nil)
	_ driver.Pauser      = (*sandbox)(nil)
	_ driver.Snapshotter = (*sandbox)(nil)
)

func (q *QEMU) newSandbox(r *record) *sandbox {
	s := &sandbox{
		id: r.ID, driver: q, record: *r, done: make(chan struct{}), unwatched: make(chan struct{}),
		ports: make(chan int, machine.Streams),
	}
	for n := range machine.Streams {
		s.ports <- machine.FirstStream + n
	}
	if q.tree != nil {
		s.group = q.tree.Group(r.ID)
	}
	return s
}

// update changes the record, on disk first.
func (s *sandbox) update(change func(*record)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.record
	change(&next)
	if err := s.driver.work.Save(&next); err != nil {
		return err
	}
	s.record = next
	return nil
}

func (s *sandbox) recorded() record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record
}

func (s *sandbox) dir() string { return s.driver.work.Path(s.id) }

// watch returns when the machine has ended or the driver is closed.
func (s *sandbox) watch() {
	err := s.process.Wait()
	if s.process.Child != nil && err == nil {
		s.process.Child.Wait() //nolint:errcheck // only the zombie matters
	}
	if err != nil {
		close(s.unwatched)
		return
	}
	s.ended()
}

func (s *sandbox) ended() { s.end.Do(func() { close(s.done) }) }

// ID returns the sandbox's id.
func (s *sandbox) ID() string { return s.id }

// Handle returns what Recover needs. The record has the rest.
func (s *sandbox) Handle() driver.Handle {
	data, _ := json.Marshal(map[string]any{"process": s.process.ID}) // plain fields
	return driver.Handle{Runtime: faas.RuntimeQEMU, ID: s.id, Data: data}
}

// Channel asks for one connection per client: a machine has few ports.
func (s *sandbox) Channel() driver.Channel {
	return driver.Channel{Secret: s.recorded().Secret, Multiplex: true}
}

// Dial takes a port that nobody holds, and meets the agent on it.
func (s *sandbox) Dial(ctx context.Context) (net.Conn, error) {
	fail := func(kind faas.Kind, detail string, err error) error {
		return &faas.Error{Kind: kind, Op: "dial sandbox " + s.id, Detail: detail, Err: err}
	}
	s.mu.Lock()
	destroying := s.destroying
	s.mu.Unlock()
	if destroying {
		return nil, fail(faas.KindFailedPrecondition, "it is being destroyed", nil)
	}
	var port int
	select {
	case port = <-s.ports:
	case <-s.done:
		return nil, fail(faas.KindUnavailable, "it has ended", nil)
	case <-ctx.Done():
		return nil, fail(faas.KindOf(ctx.Err()), "every port is in use", ctx.Err())
	}
	conn, err := s.meet(ctx, port)
	if err != nil {
		s.ports <- port
		if ctx.Err() != nil {
			return nil, fail(faas.KindOf(ctx.Err()), "its agent did not answer in time", err)
		}
		return nil, fail(faas.KindUnavailable, "its agent cannot be reached", err)
	}
	return &portConn{Conn: conn, release: func() { s.ports <- port }}, nil
}

// meet connects to a port and waits for the agent's answer.
func (s *sandbox) meet(ctx context.Context, port int) (net.Conn, error) {
	// A socket's address is short, and the way to it may be long.
	conn, err := dialWhenThere(ctx, filepath.Join(s.dir(), streamSock+strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // ends the wait
	met, err := machine.Meet(ctx, conn)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return met, nil
}

// portConn gives its port back when it is closed.
type portConn struct {
	net.Conn
	once    sync.Once
	release func()
}

// Close closes the host's end.
func (c *portConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}

// ask uses the machine's control port.
func (s *sandbox) ask(ctx context.Context, use func(*machine.Control) error) error {
	s.control.Lock()
	defer s.control.Unlock()
	return s.asking(ctx, use)
}

// asking is ask for who has the lock.
func (s *sandbox) asking(ctx context.Context, use func(*machine.Control) error) error {
	conn, err := s.meet(ctx, machine.ControlPort)
	if err != nil {
		return err
	}
	c := machine.NewControl(conn)
	return errors.Join(use(c), c.Close())
}

// monitor uses QEMU's own socket; the caller has the lock.
func (s *sandbox) monitor(ctx context.Context, use func(control) error) error {
	c, err := dialQMP(ctx, filepath.Join(s.dir(), controlSock))
	if err != nil {
		return err
	}
	return errors.Join(use(c), c.close())
}

// Wait returns when the machine has ended. It goes on after the driver was
// closed.
func (s *sandbox) Wait(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.unwatched:
	}
	process, err := pidfd.Open(s.process.ID)
	if errors.Is(err, pidfd.ErrGone) {
		s.ended()
		return nil
	}
	if err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "wait for sandbox " + s.id, Err: err}
	}
	defer process.Close() //nolint:errcheck // nothing was written
	if err := process.WaitUntil(ctx); err != nil {
		return err
	}
	s.ended()
	return nil
}

// Stats reads the machine's control group on the host for what it takes there,
// and asks its kernel for what the host cannot see.
func (s *sandbox) Stats(ctx context.Context) (driver.Stats, error) {
	g, err := s.group.Stats()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return driver.Stats{}, &faas.Error{Kind: faas.KindNotFound, Op: "stats", Detail: "sandbox " + s.id + " is gone", Err: err}
	}
	if err != nil {
		return driver.Stats{}, &faas.Error{Kind: faas.KindInternal, Op: "stats of sandbox " + s.id, Err: err}
	}
	out := driver.Stats{CPUMS: g.CPUMS, MemoryBytes: g.MemoryBytes, MaxMemoryBytes: g.MaxMemoryBytes}
	select {
	case <-s.done:
		return out, nil
	default:
	}
	// A machine that stands still does not answer; the rest still holds.
	within, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	err = s.ask(within, func(c *machine.Control) error {
		inside, err := c.Stats(within)
		if err == nil {
			out.PIDs, out.PIDsRefused, out.OOMKills, out.DiskBytes = inside.PIDs, inside.PIDsRefused, inside.OOMKills, inside.DiskBytes
		}
		return err
	})
	if err != nil {
		s.driver.log.Debug("a machine does not tell its counters", "sandbox", s.id, "error", err)
	}
	return out, nil
}

// Pause stops the machine's process.
func (s *sandbox) Pause(ctx context.Context) error {
	if err := s.group.Freeze(ctx); err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "pause sandbox " + s.id, Err: errors.Join(err, s.group.Thaw())}
	}
	return nil
}

// Resume lets it go on.
func (s *sandbox) Resume(context.Context) error {
	if err := s.group.Thaw(); err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "resume sandbox " + s.id, Err: err}
	}
	return nil
}

// Destroy ends and removes the machine. It goes on from where an earlier one
// failed.
func (s *sandbox) Destroy(ctx context.Context) error {
	s.mu.Lock()
	s.destroying = true
	s.mu.Unlock()
	s.destroy.Lock()
	defer s.destroy.Unlock()
	if err := s.driver.remove(ctx, s.id); err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "destroy sandbox " + s.id, Err: err}
	}
	s.ended() // remove saw to it
	if s.process != nil {
		s.process.Close() //nolint:errcheck // nothing was written
	}
	s.driver.forget(s.id)
	return nil
}
