//go:build linux

package agent_test

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/agent"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// newAgent serves an in-process agent on a unix socket.
func newAgent(t testing.TB) (*agent.Agent, guest.Dialer) {
	t.Helper()
	return newAgentIn(t, t.TempDir())
}

// newAgentIn is newAgent with the files below a directory.
func newAgentIn(t testing.TB, root string) (*agent.Agent, guest.Dialer) {
	t.Helper()
	a, err := agent.New(agent.Config{Secret: secret, Root: root, Build: "test", Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- a.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		a.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return a, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}

// eachTransport runs a test with one connection per operation and with one
// connection for all.
func eachTransport(t *testing.T, f func(t *testing.T, c *guest.Client)) {
	for _, multiplex := range []bool{false, true} {
		name := "connections"
		if multiplex {
			name = "multiplexed"
		}
		t.Run(name, func(t *testing.T) {
			_, dial := newAgent(t)
			c := guest.NewClient(dial, guest.Options{Secret: secret, Multiplex: multiplex})
			t.Cleanup(func() { c.Close() })
			f(t, c)
		})
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestHello(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		info, err := c.Hello(testContext(t))
		if err != nil || info.Version != 1 || info.Build != "test" {
			t.Fatalf("Hello = %+v, %v", info, err)
		}
	})
}

func TestRun(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		var stdout, stderr bytes.Buffer
		exit, err := c.Run(testContext(t), guest.Command{Args: []string{"sh", "-c", "cat; echo oops >&2; exit 3"}},
			bytes.NewBufferString("hello"), &stdout, &stderr)
		if err != nil {
			t.Fatal(err)
		}
		if exit.Code != 3 || stdout.String() != "hello" || stderr.String() != "oops\n" {
			t.Fatalf("exit %+v, stdout %q, stderr %q", exit, &stdout, &stderr)
		}
	})
}
