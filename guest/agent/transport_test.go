//go:build linux

package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/machine"
)

// TestAgentDialsOut lets the agent come to the host, go away for a checkpoint,
// and come again when the host listens anew.
func TestAgentDialsOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host")
	ctx := testContext(t)
	accepted := make(chan net.Conn, 16)
	listen := func() net.Listener {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				accepted <- conn
			}
		}()
		return l
	}
	l := listen()
	startProgram(t, "--dial", "unix:"+path)
	c := guest.NewClient(func(ctx context.Context) (net.Conn, error) {
		select {
		case conn := <-accepted:
			proof := make([]byte, len(guest.DialOutProof(secret)))
			if _, err := io.ReadFull(conn, proof); err != nil || !bytes.Equal(proof, guest.DialOutProof(secret)) {
				return nil, fmt.Errorf("the agent did not say who it is: %v", err)
			}
			_, err := conn.Write([]byte{1})
			return conn, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}, guest.Options{Secret: secret, Multiplex: true})
	defer c.Close()
	e, err := c.Start(ctx, guest.Command{Args: []string{"sh", "-c", "read x; echo $x"}, Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	l.Close() // and unlinks: the agent finds nobody after the checkpoint
	if err := c.Quiesce(ctx); err != nil {
		t.Fatal(err)
	}
	l = listen()
	defer l.Close()
	if err := c.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(e.Stdin, "again\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(e.Stdout); err != nil || string(got) != "again\n" {
		t.Fatal(string(got), err)
	}
}

// commandConn is a connection over a program's standard streams.
type commandConn struct {
	net.Conn // not used
	io.Reader
	io.WriteCloser
	cmd *exec.Cmd
}

func (c *commandConn) Read(p []byte) (int, error)  { return c.Reader.Read(p) }
func (c *commandConn) Write(p []byte) (int, error) { return c.WriteCloser.Write(p) }
func (c *commandConn) Close() error {
	c.WriteCloser.Close()
	c.cmd.Process.Kill() //nolint:errcheck // it may have ended
	return nil
}

// dialCommand makes connections of a program's standard streams.
func dialCommand(t *testing.T, args ...string) guest.Dialer {
	return func(context.Context) (net.Conn, error) {
		path, err := built()
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(path, args...)
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		cmd.Stdout = w
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		w.Close()
		t.Cleanup(func() {
			cmd.Process.Kill() //nolint:errcheck // it may have ended
			cmd.Wait()         //nolint:errcheck // killed
			r.Close()
		})
		return &commandConn{Reader: r, WriteCloser: in, cmd: cmd}, nil
	}
}

func TestConnectShim(t *testing.T) {
	p := startProgram(t)
	if _, err := p.dial(testContext(t)); err != nil { // it listens
		t.Fatal(err)
	}
	c := guest.NewClient(dialCommand(t, "connect", p.socket), guest.Options{Secret: secret, Multiplex: true})
	defer c.Close()
	in := bytes.Repeat([]byte("shim"), 1<<18)
	var out bytes.Buffer
	if exit, err := c.Run(testContext(t), guest.Command{Args: []string{"cat"}}, bytes.NewReader(in), &out, nil); err != nil || exit.Code != 0 || !bytes.Equal(in, out.Bytes()) {
		t.Fatal(exit, out.Len(), err)
	}
}

func TestStdio(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	c := guest.NewClient(dialCommand(t, "--stdio", "--secret-file", file), guest.Options{Secret: secret, Multiplex: true})
	defer c.Close()
	if got := output(t, c, guest.Command{Args: []string{"echo", "hi"}}); got != "hi\n" {
		t.Fatal(got)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Error("the secret's file is still there")
	}
}

// TestDevice serves on a character device: a terminal in raw mode, which
// passes bytes like a virtio-serial port does.
func TestDevice(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	var number int
	rc, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	rc.Control(func(fd uintptr) {
		unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	})
	if err != nil {
		t.Fatal(err)
	}
	device := filepath.Join("/dev/pts", itoa(number))
	port, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	raw, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	raw.Iflag, raw.Oflag, raw.Lflag = 0, 0, 0
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, raw); err != nil {
		t.Fatal(err)
	}
	startProgram(t, "--device", device)
	dial := func(ctx context.Context) (net.Conn, error) {
		return machine.Meet(ctx, &deviceConn{file: master})
	}
	c := guest.NewClient(dial, guest.Options{Secret: secret, Multiplex: true})
	defer c.Close()
	ctx := testContext(t)
	for range 3 {
		if got := output(t, c, guest.Command{Args: []string{"seq", "20000"}}); len(got) != 108894 {
			t.Fatal(len(got))
		}
		if err := c.Quiesce(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

// deviceConn is the host's end of a device, which outlives connections.
type deviceConn struct {
	net.Conn // not used
	file     *os.File
	reading  sync.Mutex
	closed   atomic.Bool
}

func (c *deviceConn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return c.file.Read(p)
}

// SetDeadline bounds reading; what is written always finds room.
func (c *deviceConn) SetDeadline(t time.Time) error { return c.file.SetReadDeadline(t) }

func (c *deviceConn) Write(p []byte) (int, error) { return c.file.Write(p) }

// Close returns when nobody reads any more, so that nothing is taken from the
// next connection.
func (c *deviceConn) Close() error {
	c.closed.Store(true)
	err := c.file.SetReadDeadline(time.Now())
	c.reading.Lock()
	defer c.reading.Unlock()
	return err
}

// TestHostileClients shows that peers without the secret, or without manners,
// do not keep the host out.
func TestHostileClients(t *testing.T) {
	_, dial := newAgent(t)
	ctx := testContext(t)
	for _, say := range []string{"", "garbage\r\n", string(bytes.Repeat([]byte{0}, 4096)), "faas\x00C\r\n"} {
		for range 40 {
			conn, err := dial(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, say)
		}
	}
	wrong := guest.NewClient(dial, guest.Options{Secret: []byte("wrong")})
	defer wrong.Close()
	if _, err := wrong.Hello(ctx); !errors.Is(err, faas.ErrUnauthenticated) {
		t.Error(err)
	}
	c := guest.NewClient(dial, guest.Options{Secret: secret})
	defer c.Close()
	if _, err := c.Hello(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestNoRoomForProcesses fills the sandbox's process numbers.
func TestNoRoomForProcesses(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("declared skip: needs root for a process limit")
	}
	p := startProgram(t)
	c := p.client(false)
	ctx := testContext(t)
	if _, err := c.Hello(ctx); err != nil {
		t.Fatal(err)
	}
	limitProcesses(t, p, 60)
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("declared skip: needs perl for a bomb that goes on when it cannot fork")
	}
	const forks = `$| = 1; print "on\n"; while (1) { my $p = fork; if (defined $p && $p == 0) { sleep 1000 while 1 } }`
	bombing, end := context.WithCancel(ctx)
	defer end()
	bomb, err := c.Start(bombing, guest.Command{Args: []string{"perl", "-e", forks}})
	if err != nil {
		t.Fatal(err)
	}
	defer bomb.Close()
	if _, err := io.ReadFull(bomb.Stdout, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		_, err := c.Run(ctx, guest.Command{Args: []string{"true"}}, nil, nil, nil)
		if err != nil && !errors.Is(err, faas.ErrResourceExhausted) {
			t.Fatal(err)
		}
		return err != nil
	})
	if _, err := c.Processes(ctx); err != nil {
		t.Fatal(err)
	}
	end()
	if exit, err := bomb.Wait(ctx); !errors.Is(err, context.Canceled) || exit.Signal != "SIGKILL" {
		t.Fatal(exit, err)
	}
	output(t, c, guest.Command{Args: []string{"true"}})
	assertOnlyAgent(t, c)
}

// limitProcesses puts an agent into a pids cgroup of its own, where the
// machine has that controller.
func limitProcesses(t *testing.T, p *program, limit int) {
	t.Helper()
	for _, base := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		dir := filepath.Join(base, "faas-agent-test-"+itoa(os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			p.stop()
			waitFor(t, func() bool { return os.Remove(dir) == nil })
		})
		if os.WriteFile(filepath.Join(dir, "pids.max"), []byte(itoa(limit)), 0o644) != nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(itoa(p.cmd.Process.Pid)), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Skip("declared skip: this machine has no pids controller")
}
