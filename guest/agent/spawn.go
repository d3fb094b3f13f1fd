//go:build unix

package agent

import (
	"sync"
	"syscall"
	"time"

	"github.com/faas-platform/faas/guest"
)

// spawner starts processes, waits for them and kills them.
type spawner struct {
	agent  *Agent
	forker *forker // nil: commands are forked from any thread

	mu   sync.Mutex // held from before a fork until the child is known
	wait waiter
	mark marker
}

// waiter learns how processes end.
type waiter interface {
	// expect is called after a fork, with the spawner's lock held. The
	// channel gets the end of the process.
	expect(pid int) <-chan ending
	close()
}

// ending is how a process ended.
type ending struct {
	status syscall.WaitStatus
	usage  syscall.Rusage
}

// fork starts a command and fills in p.
func (s *spawner) fork(p *process, path string, args []string, attr *syscall.ProcAttr) error {
	return s.forkFrom(s.forker, p, path, args, attr)
}

// forkFrom starts a process from a thread, or from any when that is nil.
func (s *spawner) forkFrom(thread *forker, p *process, path string, args []string, attr *syscall.ProcAttr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.mark = s.mark.next()
	restore := s.agent.cfg.Protection.expose()
	var pid int
	var err error
	thread.do(func() { pid, err = syscall.ForkExec(path, args, attr) })
	restore()
	if err != nil {
		return err
	}
	p.pid = pid
	end := s.wait.expect(pid)
	p.wait = func() guest.Exit {
		e := <-end
		return exitOf(e, time.Since(p.started))
	}
	return nil
}

func exitOf(e ending, took time.Duration) guest.Exit {
	out := guest.Exit{
		Code:     e.status.ExitStatus(),
		Duration: took,
		CPU:      time.Duration(e.usage.Utime.Nano() + e.usage.Stime.Nano()),
		MaxRSS:   maxRSS(&e.usage),
	}
	if e.status.Signaled() {
		out.Code = 128 + int(e.status.Signal())
		out.Signal = signalName(e.status.Signal())
	}
	return out
}

// ownWaiter waits for each child by its number and leaves others, which may
// be those of the program around the agent, alone.
type ownWaiter struct{ owned sync.WaitGroup }

func (w *ownWaiter) expect(pid int) <-chan ending {
	c := make(chan ending, 1)
	w.owned.Go(func() {
		var e ending
		for {
			if _, err := syscall.Wait4(pid, &e.status, 0, &e.usage); err != syscall.EINTR {
				break
			}
		}
		c <- e
	})
	return c
}

func (w *ownWaiter) close() { w.owned.Wait() }
