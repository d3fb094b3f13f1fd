package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/faas-platform/faas"
)

// sshDialer reaches an engine through the ssh program: each connection is one
// `docker system dial-stdio` on the other machine. Keys, ports and jumps come
// from the user's own ssh configuration; nothing can be asked, since a daemon
// has no terminal.
func sshDialer(host string) (dialFunc, error) {
	args, err := sshArgs(host)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (net.Conn, error) { return startSSH(ctx, args, host) }, nil
}

// sshArgs returns the arguments of ssh for an ssh:// address.
func sshArgs(host string) ([]string, error) {
	u, err := url.Parse(host)
	if err != nil || u.Hostname() == "" {
		return nil, faas.InvalidField("host", "%s is no ssh address", host)
	}
	if _, has := u.User.Password(); has {
		return nil, faas.InvalidField("host", "an ssh address must not hold a password: use a key")
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return nil, faas.InvalidField("host", "%s: an ssh address has no path", host)
	}
	if strings.HasPrefix(u.Hostname(), "-") || strings.HasPrefix(u.User.Username(), "-") {
		return nil, faas.InvalidField("host", "%s: neither host nor user may begin with a hyphen", host)
	}
	args := []string{"-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"}
	if user := u.User.Username(); user != "" {
		args = append(args, "-l", user)
	}
	if port := u.Port(); port != "" {
		args = append(args, "-p", port)
	}
	return append(args, "--", u.Hostname(), "docker", "system", "dial-stdio"), nil
}

// startSSH starts one connection. The program outlives ctx and ends with the
// connection.
func startSSH(ctx context.Context, args []string, host string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cmd := exec.Command("ssh", args...)
	detach(cmd)
	c := &sshConn{cmd: cmd, host: host, done: make(chan struct{})}
	cmd.Stderr = &c.complaints
	// The program holds its own ends of these pipes and nothing of ours, so
	// that both ends see the other's close.
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe to ssh: %w", err)
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pipe from ssh: %w", err), childIn.Close(), in.Close())
	}
	cmd.Stdin, cmd.Stdout = childIn, childOut
	err = cmd.Start()
	childIn.Close()
	childOut.Close()
	if err != nil {
		in.Close()
		out.Close()
		return nil, fmt.Errorf("start ssh to %s: %w", host, err)
	}
	c.in, c.out = in, out
	go func() { // ends with the program; close waits for it
		defer close(c.done)
		c.waitErr = cmd.Wait()
	}()
	return c, nil
}

// sshConn is the pair of pipes to an ssh program as a connection.
type sshConn struct {
	cmd        *exec.Cmd
	host       string
	in         *os.File // to the engine
	out        *os.File // from the engine
	complaints boundedBuffer
	done       chan struct{}
	waitErr    error // valid when done is closed
	closeIn    sync.Once
	closeAll   sync.Once

	mu     sync.Mutex
	timer  *time.Timer // deadline where pipes have none
	expiry bool
}

// sshEndGrace is how long ssh may take to end after its input was closed.
const sshEndGrace = 2 * time.Second

func (c *sshConn) Read(b []byte) (int, error) {
	n, err := c.out.Read(b)
	return n, c.explain(n, err)
}

func (c *sshConn) Write(b []byte) (int, error) {
	n, err := c.in.Write(b)
	return n, c.explain(n, err)
}

// explain adds what ssh said when a connection ended without a byte.
func (c *sshConn) explain(n int, err error) error {
	if err == nil || n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.mu.Lock()
	expired := c.expiry
	c.mu.Unlock()
	if expired {
		return os.ErrDeadlineExceeded
	}
	select {
	case <-c.done:
	case <-time.After(sshEndGrace):
		return err
	}
	if said := c.complaints.String(); said != "" && c.waitErr != nil {
		return fmt.Errorf("ssh to %s: %s", c.host, said)
	}
	if errors.Is(err, os.ErrClosed) {
		return net.ErrClosed
	}
	return err
}

// CloseWrite ends the input of the other side.
func (c *sshConn) CloseWrite() error {
	var err error
	c.closeIn.Do(func() { err = c.in.Close() })
	return err
}

// Close ends the connection and the program.
func (c *sshConn) Close() error {
	c.closeAll.Do(func() {
		_ = c.CloseWrite()
		_ = c.out.Close()
		select {
		case <-c.done:
		case <-time.After(sshEndGrace):
			_ = c.cmd.Process.Kill()
			<-c.done
		}
		c.SetDeadline(time.Time{}) //nolint:errcheck // stops the timer; closed pipes refuse the rest
	})
	return nil
}

// SetDeadline implements net.Conn. Pipes of Windows have no deadlines: there
// the connection ends when its time is over.
func (c *sshConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *sshConn) SetReadDeadline(t time.Time) error {
	return c.deadline(c.out.SetReadDeadline(t), t)
}

func (c *sshConn) SetWriteDeadline(t time.Time) error {
	return c.deadline(c.in.SetWriteDeadline(t), t)
}

func (c *sshConn) deadline(err error, t time.Time) error {
	if !errors.Is(err, os.ErrNoDeadline) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if t.IsZero() {
		return nil
	}
	c.timer = time.AfterFunc(time.Until(t), func() {
		c.mu.Lock()
		c.expiry = true
		c.mu.Unlock()
		_ = c.cmd.Process.Kill()
	})
	return nil
}

func (c *sshConn) LocalAddr() net.Addr  { return sshAddr("local") }
func (c *sshConn) RemoteAddr() net.Addr { return sshAddr(c.host) }

// sshAddr is the address of an end of an sshConn.
type sshAddr string

func (sshAddr) Network() string  { return "ssh" }
func (a sshAddr) String() string { return string(a) }

// boundedBuffer keeps the first few KiB that are written to it.
type boundedBuffer struct {
	mu  sync.Mutex
	buf []byte
}

// maxComplaint bounds what is kept of a program's diagnostics, in bytes.
const maxComplaint = 4 << 10

// Write implements io.Writer; it never fails and drops what is too much.
func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := maxComplaint - len(b.buf); room > 0 {
		b.buf = append(b.buf, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (b *boundedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.TrimSpace(string(b.buf))
}

var _ io.Writer = (*boundedBuffer)(nil)
