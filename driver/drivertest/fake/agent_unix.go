//go:build unix

package fake

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/faas-platform/faas"
	guestagent "github.com/faas-platform/faas/guest/agent"
)

// agent is the guest agent of one sandbox, with a root of its own for paths.
type agent struct {
	served  *guestagent.Agent
	stopped chan struct{}
	owned   sync.WaitGroup // connections, and who waits for a shutdown
	once    sync.Once
	err     error
}

// startAgent starts an agent that calls ended when a host shuts it down.
func startAgent(dir string, secret []byte, spec faas.Spec, ended func()) (*agent, error) {
	root := filepath.Join(dir, "root")
	for _, d := range []string{"tmp", "etc", "run/faas", "dev/shm"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return nil, faas.Errorf(faas.KindInternal, "make the root of sandbox %s: %w", spec.ID, err)
		}
	}
	env := []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range spec.Env {
		env = append(env, name+"="+value)
	}
	served, err := guestagent.New(guestagent.Config{Secret: secret, Root: root, Env: env, Build: "fake"})
	if err != nil {
		return nil, faas.Errorf(faas.KindInternal, "start the agent of sandbox %s: %w", spec.ID, err)
	}
	a := &agent{served: served, stopped: make(chan struct{})}
	a.owned.Go(func() {
		select {
		case <-served.Done():
			ended()
		case <-a.stopped:
		}
	})
	return a, nil
}

// accept serves a connection until it ends.
func (a *agent) accept(c net.Conn) error {
	select {
	case <-a.stopped:
		c.Close() //nolint:errcheck // nobody serves it
		return faas.Errorf(faas.KindUnavailable, "the agent has ended")
	default:
	}
	a.owned.Go(func() { a.served.ServeConn(context.Background(), c) }) //nolint:errcheck // the client is told
	return nil
}

// stop ends the agent and every process that it started.
func (a *agent) stop() error {
	a.once.Do(func() {
		close(a.stopped)
		a.err = a.served.Close()
	})
	a.owned.Wait()
	return a.err
}
