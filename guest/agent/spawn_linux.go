package agent

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func newSpawner(a *Agent) *spawner {
	s := &spawner{agent: a}
	if a.cfg.Init {
		s.mark.probe()
		s.wait = newReaper(&s.mu)
		s.forker = newForker(a.cfg.Protection)
	} else {
		s.wait = &ownWaiter{}
	}
	return s
}

func (s *spawner) close() {
	s.wait.close()
	s.forker.close()
}

func maxRSS(u *syscall.Rusage) int64 { return u.Maxrss << 10 }

func signalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return sig.String()
}

// reaper waits for every child of the process: commands, and what they left
// behind, whose parent PID 1 has become.
type reaper struct {
	lock     *sync.Mutex // the spawner's
	expected map[int]chan ending
	wake     chan struct{}
	children chan os.Signal
	done     chan struct{}
}

func newReaper(lock *sync.Mutex) *reaper {
	r := &reaper{
		lock: lock, expected: map[int]chan ending{}, wake: make(chan struct{}, 1),
		children: make(chan os.Signal, 1), done: make(chan struct{}),
	}
	signal.Notify(r.children, unix.SIGCHLD)
	go r.run()
	return r
}

func (r *reaper) expect(pid int) <-chan ending {
	c := make(chan ending, 1)
	r.expected[pid] = c
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return c
}

// close ends the reaper; whoever it still expects has been killed before.
func (r *reaper) close() {
	signal.Stop(r.children)
	close(r.done)
}

// run waits for any child. A child is looked up under the spawner's lock and
// before its number is free again, so that it cannot be taken for a new one.
func (r *reaper) run() {
	for {
		pid, err := peekChild()
		if err == unix.ECHILD {
			select {
			case <-r.wake:
			case <-r.children:
			case <-r.done:
				return
			}
			continue
		}
		if err != nil {
			continue
		}
		r.lock.Lock()
		var e ending
		_, err = syscall.Wait4(pid, &e.status, 0, &e.usage)
		c := r.expected[pid]
		delete(r.expected, pid)
		r.lock.Unlock()
		if c != nil && err == nil {
			c <- e
		}
	}
}

// childInfo is the kernel's siginfo for a child.
type childInfo struct {
	_   [3]int32
	_   int32
	pid int32
	_   [128 - 20]byte
}

// peekChild waits for the end of any child and leaves it to be reaped.
func peekChild() (int, error) {
	var info childInfo
	err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT|unix.WALL, nil)
	return int(info.pid), err
}

// marker numbers commands in a resource limit: one that means nothing to the
// kernel (the limit of file locks, unused since Linux 2.4), is inherited by
// everything that the command starts, whatever it does to its session, its
// parents and its environment, and that nobody can raise. Each number is lower
// than the last, so the agent needs no privilege to set it.
type marker struct{ last uint64 }

const (
	limitLocks = 10 // RLIMIT_LOCKS
	firstMark  = 1 << 62
)

// probe finds out whether marks can be set and read back.
func (m *marker) probe() {
	v := uint64(firstMark)
	if unix.Prlimit(0, limitLocks, &unix.Rlimit{Cur: v, Max: v}, nil) == nil && markOf(os.Getpid()) == v {
		m.last = v
	}
}

// next marks what is forked from now on; 0: it cannot. Spawner's lock held.
func (m *marker) next() uint64 {
	if m.last == 0 {
		return 0
	}
	v := m.last - 1
	if unix.Prlimit(0, limitLocks, &unix.Rlimit{Cur: v, Max: v}, nil) != nil {
		return 0
	}
	m.last = v
	return v
}

// markOf reads a process's mark; 0: none is known.
func markOf(pid int) uint64 {
	var l unix.Rlimit
	if unix.Prlimit(pid, limitLocks, nil, &l) == nil {
		return l.Max
	}
	return markFromProc(pid)
}
