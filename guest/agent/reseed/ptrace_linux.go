package reseed

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// thread is one traced thread.
type thread struct {
	tid  int
	regs registers
}

// tracee is a process with every thread stopped. All calls on it must come
// from the OS thread that seized it.
type tracee struct {
	pid     int
	threads []*thread
	halted  bool // a SIGSTOP was held back, to be sent again
}

// What an interrupted system call has for a result until it is made again
// (linux/errno.h); programs never see it.
const (
	restartSys    = 512
	restartNoIntr = 513
	restartNoHand = 514
	restartBlock  = 516
)

var errTimeout = errors.New("no answer in time")

// seize stops every thread of a process. Threads that appear meanwhile are
// found by looking again until there is no new one.
func seize(pid int, deadline time.Time) (*tracee, error) {
	t := &tracee{pid: pid}
	known := map[int]bool{}
	for {
		tids, err := threadIDs(pid)
		if err != nil {
			t.release()
			return nil, err
		}
		grew := false
		for _, tid := range tids {
			if known[tid] {
				continue
			}
			known[tid], grew = true, true
			switch err := t.add(tid, deadline); {
			case errors.Is(err, unix.ESRCH): // it ended
			case err != nil:
				t.release()
				return nil, err
			}
		}
		if !grew {
			return t, nil
		}
	}
}

func threadIDs(pid int) ([]int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	var list []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, tid)
		}
	}
	return list, nil
}

func (t *tracee) add(tid int, deadline time.Time) error {
	if err := ptrace(unix.PTRACE_SEIZE, tid, 0, 0); err != nil {
		return fmt.Errorf("trace thread %d: %w", tid, err)
	}
	th := &thread{tid: tid}
	t.threads = append(t.threads, th)
	return th.stop(deadline)
}

// stop interrupts a thread and reads its registers.
func (th *thread) stop(deadline time.Time) error {
	if err := ptrace(unix.PTRACE_INTERRUPT, th.tid, 0, 0); err != nil {
		return fmt.Errorf("interrupt thread %d: %w", th.tid, err)
	}
	for {
		status, err := th.wait(deadline)
		if err != nil {
			return err
		}
		if status.StopSignal() == unix.SIGTRAP || status>>16 == unix.PTRACE_EVENT_STOP {
			break
		}
		// A signal was on its way: it is delivered, and the interrupt follows.
		if err := ptrace(unix.PTRACE_CONT, th.tid, 0, uintptr(status.StopSignal())); err != nil {
			return fmt.Errorf("continue thread %d: %w", th.tid, err)
		}
	}
	return th.regs.read(th.tid)
}

// wait polls, since a blocking wait4 could not be bounded in time.
func (th *thread) wait(deadline time.Time) (unix.WaitStatus, error) {
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, time.Millisecond) {
		var status unix.WaitStatus
		got, err := unix.Wait4(th.tid, &status, unix.WALL|unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, fmt.Errorf("wait for thread %d: %w", th.tid, err)
		case got == th.tid && !status.Stopped():
			return 0, fmt.Errorf("thread %d ended: %w", th.tid, unix.ESRCH)
		case got == th.tid:
			return status, nil
		case time.Now().After(deadline):
			return 0, errTimeout
		}
		time.Sleep(pause)
	}
}

// release lets every thread go on where it was. A process that was stopped by
// a signal before goes back to that.
func (t *tracee) release() {
	if t.halted {
		unix.Kill(t.pid, unix.SIGSTOP) //nolint:errcheck // it may have ended
	}
	for _, th := range t.threads {
		// A thread that is not in a stop cannot be detached; it ended, or the
		// tracer's own end will release it.
		_ = ptrace(unix.PTRACE_DETACH, th.tid, 0, 0)
	}
}

// call runs a function of the process on one of its stopped threads and
// returns its result. The others stay stopped, unless the call does not
// return by itself: it may wait for a lock that one of them holds, so after
// patience they run until it has.
func (t *tracee) call(th *thread, function uint64, patience time.Duration, deadline time.Time) (int32, error) {
	saved, err := th.save()
	if err != nil {
		return 0, err
	}
	if err := th.prepareCall(function); err != nil {
		return 0, errors.Join(err, th.restore(saved))
	}
	result, err := t.runCall(th, patience, deadline)
	if errors.Is(err, unix.ESRCH) {
		return 0, err
	}
	return result, errors.Join(err, th.restore(saved))
}

func (t *tracee) runCall(th *thread, patience time.Duration, deadline time.Time) (int32, error) {
	if err := ptrace(unix.PTRACE_CONT, th.tid, 0, 0); err != nil {
		return 0, fmt.Errorf("run call on thread %d: %w", th.tid, err)
	}
	status, err := t.returned(th, time.Now().Add(patience))
	if errors.Is(err, errTimeout) {
		t.others(th, func(o *thread) { _ = ptrace(unix.PTRACE_CONT, o.tid, 0, 0) })
		status, err = t.returned(th, deadline)
		t.others(th, func(o *thread) { _ = o.stop(time.Now().Add(time.Second)) })
	}
	if errors.Is(err, errTimeout) {
		if stopErr := th.stop(time.Now().Add(time.Second)); stopErr != nil {
			return 0, stopErr
		}
		return 0, fmt.Errorf("the call did not return: %w", err)
	}
	if err != nil {
		return 0, err
	}
	if status.StopSignal() != unix.SIGSEGV {
		return 0, fmt.Errorf("the call ended with %v", status.StopSignal())
	}
	var after registers
	if err := after.read(th.tid); err != nil {
		return 0, err
	}
	if !after.returned() {
		return 0, fmt.Errorf("the call failed at %#x", after.pc())
	}
	return after.result(), nil
}

// returned waits for the end of a call. A SIGSTOP that was on its way to the
// process, as in one that is being restored, waits until then.
func (t *tracee) returned(th *thread, deadline time.Time) (unix.WaitStatus, error) {
	for {
		status, err := th.wait(deadline)
		if err != nil || status.StopSignal() != unix.SIGSTOP {
			return status, err
		}
		t.halted = true
		if err := ptrace(unix.PTRACE_CONT, th.tid, 0, 0); err != nil {
			return status, fmt.Errorf("run call on thread %d: %w", th.tid, err)
		}
	}
}

func (t *tracee) others(th *thread, do func(*thread)) {
	for _, o := range t.threads {
		if o != th {
			do(o)
		}
	}
}

// savedState is what a call changes: registers, vector registers, the mask of
// blocked signals.
type savedState struct {
	regs   registers
	vector []byte
	mask   uint64
}

func (th *thread) save() (*savedState, error) {
	s := &savedState{regs: th.regs, vector: make([]byte, 16<<10)}
	n, err := getRegset(th.tid, vectorRegset, s.vector)
	if err != nil {
		return nil, fmt.Errorf("read vector registers of thread %d: %w", th.tid, err)
	}
	s.vector = s.vector[:n]
	if err := ptrace(unix.PTRACE_GETSIGMASK, th.tid, 8, uintptr(unsafe.Pointer(&s.mask))); err != nil {
		return nil, fmt.Errorf("read signal mask of thread %d: %w", th.tid, err)
	}
	// No handler of the program may run inside the call, which ends in a
	// SIGSEGV of our own making.
	blocked := ^uint64(0) &^ (1 << (unix.SIGSEGV - 1))
	if err := ptrace(unix.PTRACE_SETSIGMASK, th.tid, 8, uintptr(unsafe.Pointer(&blocked))); err != nil {
		return nil, fmt.Errorf("block signals of thread %d: %w", th.tid, err)
	}
	return s, nil
}

func (th *thread) restore(s *savedState) error {
	err := setRegset(th.tid, vectorRegset, s.vector)
	s.regs.again()
	if e := s.regs.write(th.tid); e != nil {
		err = errors.Join(err, e)
	}
	if e := ptrace(unix.PTRACE_SETSIGMASK, th.tid, 8, uintptr(unsafe.Pointer(&s.mask))); e != nil {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("restore thread %d: %w", th.tid, err)
	}
	return nil
}

func ptrace(request, tid int, addr, data uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func getRegset(tid, kind int, buf []byte) (int, error) {
	iov := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	err := ptrace(unix.PTRACE_GETREGSET, tid, uintptr(kind), uintptr(unsafe.Pointer(&iov)))
	return int(iov.Len), err
}

func setRegset(tid, kind int, buf []byte) error {
	iov := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	return ptrace(unix.PTRACE_SETREGSET, tid, uintptr(kind), uintptr(unsafe.Pointer(&iov)))
}
