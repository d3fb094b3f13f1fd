package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/agent/reseed"
)

const (
	// reseedTimeout bounds the renewal of all generators.
	reseedTimeout = 30 * time.Second
	// reseedOutput is the most that is read of what became of them, in bytes.
	reseedOutput = 1 << 20
)

// forker is the thread that commands are forked from. The agent may trace, to
// re-seed what a snapshot of memory brought back; its commands must never get
// that: a child's capabilities are bounded by the set of the thread that forks
// it, and this thread has given the capability up.
type forker struct{ jobs chan func() }

// mayTrace says whether the process can have children that trace.
func mayTrace() bool {
	in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_PTRACE, 0, 0, 0)
	if err != nil || in == 0 {
		return false
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	const wanted = 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_SETPCAP // the other to give it up
	return data[0].Permitted&wanted == wanted && data[0].Effective&wanted == wanted
}

// newForker starts the thread where one is needed. When it cannot give the
// capability up, the whole process does.
func newForker(p Protection) *forker {
	if !p.traces {
		return nil
	}
	f := &forker{jobs: make(chan func())}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_PTRACE, 0, 0, 0)
		started <- err
		if err != nil {
			return
		}
		for job := range f.jobs {
			job()
		}
	}()
	if <-started == nil {
		return f
	}
	allThreads(unix.PR_CAPBSET_DROP, unix.CAP_SYS_PTRACE) //nolint:errcheck // it was the process's own to give up
	return nil
}

// do runs f on the thread, or here when there is none.
func (f *forker) do(job func()) {
	if f == nil {
		job()
		return
	}
	done := make(chan struct{})
	f.jobs <- func() {
		defer close(done)
		job()
	}
	<-done
}

func (f *forker) close() {
	if f != nil {
		close(f.jobs)
	}
}

// reseed renews the random generators in the memory of every other process, by
// a process of its own that traces them.
func (a *Agent) reseed(ctx context.Context) ([]faas.Reseeded, error) {
	if !a.cfg.Init || os.Getpid() != 1 {
		return nil, errors.New("the agent is not the first process of its sandbox")
	}
	if !a.cfg.Protection.traces {
		return nil, errors.New("the agent lacks the capability to trace")
	}
	ctx, cancel := context.WithTimeout(ctx, reseedTimeout)
	defer cancel()
	out, exit, err := a.runTracer(ctx)
	if err != nil {
		return nil, err
	}
	var found []reseed.Outcome
	if err := json.Unmarshal(out, &found); err != nil {
		return nil, fmt.Errorf("the tracer ended with code %d and said nothing of use", exit)
	}
	list := make([]faas.Reseeded, 0, len(found))
	for _, o := range found {
		list = append(list, faas.Reseeded{PID: o.PID, Command: o.Command, Library: o.Library,
			Method: string(o.Method), Done: o.Done, Reason: o.Reason})
	}
	if exit != 0 {
		return list, errors.New("not every process was looked at")
	}
	return list, nil
}

// runTracer runs the agent's program as a tracer and returns what it printed.
func (a *Agent) runTracer(ctx context.Context) ([]byte, int, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, 0, err
	}
	defer r.Close() //nolint:errcheck // read only
	null := a.devNull.Fd()
	p := &process{started: time.Now()}
	err = a.spawner.forkFrom(nil, p, "/proc/self/exe", []string{"faas-agent", "reseed"}, &syscall.ProcAttr{
		Dir: "/", Files: []uintptr{null, w.Fd(), null}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	w.Close() //nolint:errcheck // the child's now
	if err != nil {
		return nil, 0, fmt.Errorf("start the tracer: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { syscall.Kill(p.pid, syscall.SIGKILL) }) //nolint:errcheck // it may have ended
	var out bytes.Buffer
	_, err = io.Copy(&out, io.LimitReader(r, reseedOutput))
	exit := p.wait()
	stop()
	if err == nil {
		err = ctx.Err()
	}
	return out.Bytes(), exit.Code, err
}
