//go:build linux

package agent_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/faas-platform/faas/guest"
)

// built is the agent's program, built once for all tests.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "faas-agent-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "faas-agent")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/faas-platform/faas/cmd/faas-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", &buildError{err, out}
	}
	return path, nil
})

type buildError struct {
	err error
	out []byte
}

func (e *buildError) Error() string { return e.err.Error() + "\n" + string(e.out) }

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := built(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// program is a running agent.
type program struct {
	t      testing.TB
	cmd    *exec.Cmd
	dir    string
	socket string
	stderr bytes.Buffer
}

// startProgram starts the agent as its own program; as root as PID 1 of new
// namespaces, else beside this process.
func startProgram(t testing.TB, flags ...string) *program {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, dir: t.TempDir()}
	p.socket = filepath.Join(p.dir, "s")
	secretFile := filepath.Join(p.dir, "secret")
	if err := os.WriteFile(secretFile, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	if len(flags) == 0 {
		flags = []string{"--listen", "unix:" + p.socket}
	}
	p.cmd = exec.Command(path, append([]string{"--secret-file", secretFile}, flags...)...)
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		// A private /proc, so that the agent sees its own process numbers.
		p.cmd.Path = "/bin/sh"
		p.cmd.Args = append([]string{"sh", "-c", `mount -t proc proc /proc && exec "$0" "$@"`}, p.cmd.Args...)
		p.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS
		p.cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

func (p *program) stop() {
	p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	p.cmd.Wait()         //nolint:errcheck // killed
	if p.t.Failed() && p.stderr.Len() > 0 {
		p.t.Logf("agent: %s", &p.stderr)
	}
}

// dial connects, waiting for a socket that is not there yet.
func (p *program) dial(ctx context.Context) (net.Conn, error) {
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", p.socket)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Millisecond):
		}
	}
}

func (p *program) client(multiplex bool) *guest.Client {
	c := guest.NewClient(p.dial, guest.Options{Secret: secret, Multiplex: multiplex})
	p.t.Cleanup(func() { c.Close() })
	return c
}
