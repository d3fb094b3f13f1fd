package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childCapabilities is what root's commands keep, as far as the agent has it.
// It is what containers usually give, without what tools for building and
// probing networks want (MKNOD, NET_RAW, SETFCAP, SYS_CHROOT, AUDIT_WRITE) and
// without SETPCAP. Other users' commands have none.
const childCapabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_NET_BIND_SERVICE

// readyThreads is how many threads the agent makes at its start, so that it
// never needs one where a command has used up every process number: those that
// run (MaxProcs), that wait for a disk (maxDiskThreads), for the end of a child,
// for the network and for the next command to start, and the runtime's own two.
// Each costs every sandbox some 80 microseconds of CPU time.
const readyThreads = MaxProcs + maxDiskThreads + 5

// Protection is what Harden achieved, and what is needed when a command is
// started.
type Protection struct {
	// Missing names, for an operator, what could not be had and why.
	Missing []string

	oom           *os.File // the agent's oom_score_adj; nil: it cannot be changed
	own, children string   // what it is, and what children get
	hidden        bool     // the agent's memory is kept from processes of its own user
	traces        bool     // its threads may start what can trace; commands come from one that may not
}

// reveal lets CRIU look at an agent that was itself restored by CRIU: such a
// process's memory counts as made outside the sandbox's user namespace, and
// the kernel hides it from root of that namespace while it is not dumpable. It
// is done between Quiesce and the next connection only; children cannot trace
// the agent then either, since it has capabilities that they lack.
func (p Protection) reveal() { p.setDumpable(1) }

// conceal takes reveal back.
func (p Protection) conceal() { p.setDumpable(0) }

func (p Protection) setDumpable(v uintptr) {
	if p.hidden {
		unix.Prctl(unix.PR_SET_DUMPABLE, v, 0, 0, 0) //nolint:errcheck // it succeeded before
	}
}

// Harden sets the agent apart from its children: no new privileges for them,
// the bounding set reduced to childCapabilities (and CAP_SYS_PTRACE, which the
// thread that starts commands drops), no ptrace and no core dump of
// the agent, the kernel's preference for other victims when memory runs out,
// no inherited descriptor, and threads made ahead. It changes the whole
// process and is for the agent's own program. What is not permitted is
// reported, not fatal.
//
// The caller needs CAP_SETPCAP for the bounding set; a runtime that starts
// the agent without it reduces the set itself. Commands get none of the
// withheld capabilities either.
func Harden(withheld ...uintptr) Protection {
	var p Protection
	missing := func(what string, err error) {
		if err != nil {
			p.Missing = append(p.Missing, fmt.Sprintf("%s: %v", what, err))
		}
	}
	missing("close-on-exec", unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC))
	missing("out-of-memory protection", p.protectFromOOM())
	if set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || set != 1 {
		missing("no new privileges", allThreads(unix.PR_SET_NO_NEW_PRIVS, 1))
	}
	missing("bounding set", dropBounding(withheld))
	p.traces = mayTrace()
	missing("inheritable capabilities", clearInheritable())
	err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	p.hidden = err == nil
	missing("dumpable", err)
	warmThreads(readyThreads)
	return p
}

// allThreads calls prctl on every thread: children inherit from whichever
// forks them.
func allThreads(option, arg uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, option, arg, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func dropBounding(withheld []uintptr) error {
	for capability := uintptr(0); capability <= unix.CAP_LAST_CAP; capability++ {
		if childCapabilities&(1<<capability) != 0 && !slices.Contains(withheld, capability) {
			continue
		}
		if capability == unix.CAP_SYS_PTRACE && mayTrace() {
			continue // for the agent's own tracer; see forker
		}
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, capability, 0, 0, 0)
		if err != nil || has == 0 {
			continue // the kernel does not know it, or it has gone
		}
		if err := allThreads(unix.PR_CAPBSET_DROP, capability); err != nil {
			return err
		}
	}
	return nil
}

// clearInheritable empties the sets that a program can pass on by itself. Every
// thread has those of the one that was executed, and what is ambient is
// inheritable.
func clearInheritable() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	if data[0].Inheritable == 0 && data[1].Inheritable == 0 {
		return nil
	}
	if err := allThreads(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL); err != nil && err != unix.EINVAL {
		return err
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

const (
	oomNever  = "-1000" // the kernel never picks it
	oomNormal = "0"
	oomFirst  = "500" // picked before what has no score of its own
)

// protectFromOOM makes the kernel prefer the agent's children as victims. An
// agent that may not lower its own score raises theirs: without privilege a
// child comes back to the agent's score, and never below it.
func (p *Protection) protectFromOOM() error {
	f, err := os.OpenFile("/proc/self/oom_score_adj", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	had := make([]byte, 8)
	n, err := f.ReadAt(had, 0)
	if err != nil && err != io.EOF {
		f.Close() //nolint:errcheck // not used
		return err
	}
	p.oom, p.own, p.children = f, oomNever, oomNormal
	if _, err := f.WriteAt([]byte(oomNever), 0); err == nil {
		return nil
	}
	p.own, p.children = strings.TrimSpace(string(had[:n])), oomFirst
	if score, err := strconv.Atoi(p.own); err != nil || score >= 500 {
		p.oom = nil
		return errors.Join(err, errors.New("the agent is among the first victims itself"), f.Close())
	}
	return nil
}

// expose makes the agent a victim like its children while it forks, since they
// inherit the score; restore takes that back.
func (p Protection) expose() (restore func()) {
	if p.oom == nil {
		return func() {}
	}
	p.oom.WriteAt([]byte(p.children), 0) //nolint:errcheck // raising is always permitted
	return func() {
		p.oom.WriteAt([]byte(p.own), 0) //nolint:errcheck // it was permitted before
	}
}

// warmThreads makes n threads: the runtime keeps those that goroutines gave
// back.
func warmThreads(n int) {
	var ready, done sync.WaitGroup
	ready.Add(n)
	release := make(chan struct{})
	for range n {
		done.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ready.Done()
			<-release
		})
	}
	ready.Wait()
	close(release)
	done.Wait()
}
