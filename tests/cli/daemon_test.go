package cli

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// daemon is a server that a script started.
type daemon struct {
	cmd   *exec.Cmd
	log   *lockedBuffer
	ended chan struct{}
	err   error // after ended
}

// stop ends the server in order, and not in order after half a minute.
func (d *daemon) stop(ts *testscript.TestScript) {
	select {
	case <-d.ended:
		return
	default:
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may be gone
	select {
	case <-d.ended:
	case <-time.After(30 * time.Second):
		_ = d.cmd.Process.Kill() //nolint:errcheck // it may be gone
		<-d.ended
		ts.Logf("the server had to be killed\n%s", d.log.String())
	}
}

// running are the servers of the scripts.
type running struct {
	mu  sync.Mutex
	all map[*testscript.TestScript]*daemon
}

var daemons = running{all: map[*testscript.TestScript]*daemon{}}

func (r *running) put(ts *testscript.TestScript, d *daemon) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[ts] = d
}

func (r *running) get(ts *testscript.TestScript) *daemon {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[ts] == nil {
		ts.Fatalf("no server was started")
	}
	return r.all[ts]
}

// interrupt ends the server with SIGTERM and prints its log: it must end by
// itself and without an error. "interrupt now" sends the signal twice.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	d := daemons.get(ts)
	ts.Check(d.cmd.Process.Signal(syscall.SIGTERM))
	if len(args) > 0 && args[0] == "now" {
		waitFor(ts, "the shutdown to begin", func() bool { return strings.Contains(d.log.String(), "shutting down") })
		ts.Check(d.cmd.Process.Signal(syscall.SIGTERM))
	}
	select {
	case <-d.ended:
	case <-time.After(60 * time.Second):
		ts.Fatalf("the server goes on\n%s", d.log.String())
	}
	_, err := ts.Stdout().Write([]byte(d.log.String()))
	ts.Check(err)
	if (d.err != nil) != neg {
		ts.Fatalf("the server ended with %v\n%s", d.err, d.log.String())
	}
}

// crash ends the server with SIGKILL.
func crash(ts *testscript.TestScript, neg bool, args []string) {
	d := daemons.get(ts)
	ts.Check(d.cmd.Process.Kill())
	<-d.ended
}

// asleep waits until an instance sleeps: asleep NAME.
func asleep(ts *testscript.TestScript, neg bool, args []string) {
	waitFor(ts, args[0]+" to sleep", func() bool {
		cmd := exec.Command(binary, "info", args[0])
		cmd.Env = environ(ts)
		out, err := cmd.Output()
		return err == nil && strings.Contains(string(out), `"asleep": true`)
	})
}

// waitFor waits for a condition.
func waitFor(ts *testscript.TestScript, what string, holds func() bool) {
	for until := time.Now().Add(30 * time.Second); !holds(); {
		if time.Now().After(until) {
			ts.Fatalf("waited in vain for %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// environ is the script's environment for a process of ours.
func environ(ts *testscript.TestScript) []string {
	env := os.Environ()
	for _, name := range []string{"PATH", "HOME", "XDG_CONFIG_HOME", "FAAS_CONFIG", "FAAS_DATA_DIR", "FAAS_DATA_RUNTIME_DIR", "FAAS_API_URL"} {
		env = append(env, name+"="+ts.Getenv(name))
	}
	return env
}

func errorAs(err error, target **exec.ExitError) bool { return errors.As(err, target) }

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
