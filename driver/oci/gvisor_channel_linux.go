package oci

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/faas-platform/faas/driver/pidfd"
)

const (
	// hostSocket is what an agent dials, in the directory of the sandbox that
	// it sees as channelDir. It is there only while a process of the host
	// listens.
	hostSocket = "host.sock"
	// handoverSocket, beside that directory, is how the next process of the
	// host asks the one that listens to stop.
	handoverSocket = "handover.sock"

	// proofTimeout bounds how long who connects may take to prove itself.
	proofTimeout = 2 * time.Second
	// maxUnproved bounds those that have not yet: anything inside can connect.
	maxUnproved = 32
	// maxParked is more than an agent offers at one time.
	maxParked = 4
	// handoverTimeout bounds the wait for a process that listens to stop.
	handoverTimeout = 5 * time.Second
)

// dialOutChannel takes the connections of an agent that dials out. One waits
// to be taken at any time; a knock (one byte) takes it, and the agent brings
// the next. Only one process of the host listens: whoever dials makes itself
// that one.
type dialOutChannel struct {
	dir   string // the agent's view of it is channelDir
	owner int    // host id of the agent's root, who must be able to connect
	proof []byte // what the agent sends first

	mu        sync.Mutex
	listening *listening // nil: another process may
	closed    bool
	suspended chan struct{} // closed when it may listen again; nil: it may
}

// listening is the state while this process is the one that listens.
type listening struct {
	agents, handover net.Listener
	parked           chan net.Conn
	stopped          chan struct{} // closed when it is over
	once             sync.Once
	unproved         chan struct{} // a token per connection that has not proved itself
	owned            sync.WaitGroup
}

var errChannelClosed = errors.New("the way to the agent is closed")

// dial takes a connection of the agent.
func (c *dialOutChannel) dial(ctx context.Context, ended <-chan struct{}) (net.Conn, error) {
	for {
		l, err := c.listen(ctx)
		if err != nil {
			return nil, err
		}
		select {
		case conn := <-l.parked:
			if _, err := conn.Write([]byte{1}); err == nil {
				return conn, nil
			}
			conn.Close() // the agent gave it up; it brings another
		case <-l.stopped: // another process took over; dialling takes it back
		case <-ended:
			return nil, pidfd.ErrGone
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// listen makes this process the one that listens.
func (c *dialOutChannel) listen(ctx context.Context) (*listening, error) {
	c.mu.Lock()
	for c.suspended != nil {
		again := c.suspended
		c.mu.Unlock()
		select {
		case <-again:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if c.closed {
		return nil, errChannelClosed
	}
	if c.listening != nil {
		select {
		case <-c.listening.stopped:
		default:
			return c.listening, nil
		}
	}
	if err := c.askToStop(ctx); err != nil {
		return nil, err
	}
	l := &listening{parked: make(chan net.Conn, maxParked), stopped: make(chan struct{}), unproved: make(chan struct{}, maxUnproved)}
	var err error
	if l.handover, err = listenUnix(filepath.Join(filepath.Dir(c.dir), handoverSocket), 0); err != nil {
		return nil, err
	}
	if l.agents, err = listenUnix(filepath.Join(c.dir, hostSocket), c.owner); err != nil {
		return nil, errors.Join(err, l.handover.Close())
	}
	l.owned.Go(func() { l.accept(c.proof) })
	l.owned.Go(l.yield)
	c.listening = l
	return l, nil
}

// askToStop has the process that listens stop, if there is one.
func (c *dialOutChannel) askToStop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, handoverTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(filepath.Dir(c.dir), handoverSocket))
	if err != nil {
		return ctx.Err() // nobody listens
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetReadDeadline(deadline) //nolint:errcheck // a socket has deadlines
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		return fmt.Errorf("another process does not let go of the sandbox: %w", err)
	}
	return ctx.Err()
}

// listenUnix makes a socket for one user, in place of what was there.
func listenUnix(path string, owner int) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// Nobody is to connect before the mode is right, so it has no name yet
	// that others know.
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by then the name may be another process's
	err = os.Chmod(tmp, 0o600)
	if err == nil {
		err = os.Lchown(tmp, owner, owner)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// accept parks the agent's connections.
func (l *listening) accept(proof []byte) {
	for {
		conn, err := l.agents.Accept()
		if err != nil {
			l.stop()
			return
		}
		select {
		case l.unproved <- struct{}{}:
		default:
			conn.Close() // too many at the door
			continue
		}
		l.owned.Go(func() {
			defer func() { <-l.unproved }()
			if !proves(conn, proof) || !l.park(conn) {
				conn.Close()
			}
		})
	}
}

// proves says whether who connected is the agent.
func proves(conn net.Conn, proof []byte) bool {
	conn.SetDeadline(time.Now().Add(proofTimeout)) //nolint:errcheck // a socket has deadlines
	got := make([]byte, len(proof))
	if _, err := io.ReadFull(conn, got); err != nil || !hmac.Equal(got, proof) {
		return false
	}
	return conn.SetDeadline(time.Time{}) == nil
}

// park keeps a connection until it is taken. One that the agent has given up
// may be parked before it, so the oldest makes room.
func (l *listening) park(conn net.Conn) bool {
	for {
		select {
		case <-l.stopped:
			return false
		case l.parked <- conn:
			select {
			case <-l.stopped: // it may have been parked after the last drain
				l.drain()
			default:
			}
			return true
		default:
		}
		select {
		case old := <-l.parked:
			old.Close()
		default:
		}
	}
}

// yield waits for another process that asks this one to stop. It is told by
// the end of its connection, once nothing is held any more.
func (l *listening) yield() {
	conn, err := l.handover.Accept()
	l.stop()
	if err != nil {
		return
	}
	conn.Close()
}

// stop ends the listening. Connections that were taken go on; parked ones are
// closed, so that the agent comes again, to whoever listens then.
func (l *listening) stop() {
	l.once.Do(func() {
		close(l.stopped)
		l.agents.Close()
		l.handover.Close()
		l.drain()
	})
}

// drain closes what is parked.
func (l *listening) drain() {
	for {
		select {
		case conn := <-l.parked:
			conn.Close()
		default:
			return
		}
	}
}

// close stops for good.
func (c *dialOutChannel) close() {
	c.mu.Lock()
	c.closed = true
	l := c.listening
	c.mu.Unlock()
	if l != nil {
		l.stop()
		l.owned.Wait()
		l.drain()
	}
}

// suspend stops listening until resume: who dials waits. Nothing of the host
// stays open in the sandbox but what a client has taken.
func (c *dialOutChannel) suspend() {
	c.mu.Lock()
	c.suspended = make(chan struct{})
	l := c.listening
	c.mu.Unlock()
	if l != nil {
		l.stop()
		l.owned.Wait()
		l.drain()
	}
	os.Remove(filepath.Join(c.dir, hostSocket)) //nolint:errcheck // nobody listens on it
}

// resume lets the agent come again, at once.
func (c *dialOutChannel) resume() error {
	c.mu.Lock()
	close(c.suspended)
	c.suspended = nil
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), handoverTimeout)
	defer cancel()
	if _, err := c.listen(ctx); err != nil && !errors.Is(err, errChannelClosed) {
		return fmt.Errorf("listen for the agent again: %w", err)
	}
	return nil
}

// newDialOutChannel prepares the directory that the agent sees.
func newDialOutChannel(dir string, owner int, proof []byte) *dialOutChannel {
	return &dialOutChannel{dir: dir, owner: owner, proof: proof}
}
