package reseed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// processTimeout bounds the time that one process is held.
	processTimeout = 3 * time.Second
	// patience is how long a call may take alone before the other threads run,
	// in case one of them holds the lock that it waits for.
	patience = 250 * time.Millisecond
	// attempts to catch a busy process at a place where a call is safe.
	attempts = 20
)

// All renews the generators of every process for which skip returns false. It
// does so before any of them runs on, when they are stopped, and one after the
// other. A process that ends meanwhile is left out.
func All(ctx context.Context, skip func(pid int) bool) ([]Outcome, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []Outcome
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || skip(pid) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return all, err
		}
		all = append(all, Process(pid)...)
	}
	return all, nil
}

// Process renews the generators of one process. It returns nothing for one
// that has none, or is gone.
func Process(pid int) []Outcome {
	runtime.LockOSThread() // the kernel knows a tracer by its thread
	defer runtime.UnlockOSThread()
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	maps, mapsErr := readMaps(pid)
	if err := errors.Join(err, mapsErr); err != nil {
		return []Outcome{{PID: pid, Command: command(pid), Reason: "its memory cannot be read: " + err.Error()}}
	}
	defer mem.Close()
	outcomes := wipe(pid, mem)
	loaded := objects(maps)
	for _, o := range loaded {
		im, err := openImage(mem, o.base)
		if err != nil {
			continue
		}
		if poll := openSSLPoll(im); poll != 0 {
			out := Outcome{PID: pid, Command: command(pid), Library: o.path, Method: MethodRandPoll}
			if err := pollIn(pid, o, loaded, poll); errors.Is(err, unix.ESRCH) {
				continue
			} else if err != nil {
				out.Reason = err.Error()
			} else {
				out.Done = true
			}
			outcomes = append(outcomes, out)
		}
	}
	return outcomes
}

// openSSLPoll finds OpenSSL's RAND_poll. BoringSSL and AWS-LC export a
// function of that name that does nothing; they lack the other two.
func openSSLPoll(im *image) uint64 {
	poll := im.lookup("RAND_poll")
	if poll == 0 || im.lookup("RAND_get0_primary") == 0 && im.lookup("RAND_DRBG_get0_master") == 0 {
		return 0
	}
	return poll
}

func pollIn(pid int, library object, loaded []object, poll uint64) error {
	deadline := time.Now().Add(processTimeout)
	for range attempts {
		t, err := seize(pid, deadline)
		if err != nil {
			return err
		}
		th := t.callable(library, loaded)
		if th == nil {
			t.release()
			time.Sleep(time.Millisecond) // let it come to another place
			continue
		}
		result, err := t.call(th, poll, patience, deadline)
		t.release()
		switch {
		case err != nil:
			return err
		case result != 1:
			return fmt.Errorf("RAND_poll returned %d: the library found no entropy", result)
		}
		return nil
	}
	return errors.New("it was never found at a place where its generator can be called safely")
}

// callable picks the thread that the call disturbs least: one that waits in a
// system call, where it holds no lock of the allocator or the generator; else
// one that waits for another thread; else one that runs code outside both.
func (t *tracee) callable(library object, loaded []object) *thread {
	var waiting, running *thread
	for _, th := range t.threads {
		number := th.systemCall()
		switch {
		case !th.regs.resumable():
		case number == unix.SYS_FUTEX:
			waiting = th
		case number >= 0 && !unsafeSyscalls[number]:
			return th
		case number < 0 && safePlace(th.regs.pc(), library, loaded):
			running = th
		}
	}
	if waiting != nil {
		return waiting
	}
	return running
}

// systemCall returns the system call that a thread waits in, or -1. One that
// CRIU restored is in none yet: it is about to make the call again in which it
// was saved or, where that cannot be made again, has just been told that it was
// interrupted; those are waits for time, a file or another thread.
func (th *thread) systemCall() int {
	if number := th.regs.syscall(); number >= 0 {
		return number
	}
	if peekInstruction(th.tid, th.regs.pc()) == callInstruction {
		return th.regs.number()
	}
	if th.regs.interrupted() && peekInstruction(th.tid, th.regs.pc()-uint64(len(callInstruction))) == callInstruction {
		return unix.SYS_FUTEX // whichever of them it was: the place that is taken last
	}
	return -1
}

// peekInstruction reads as much as a system call's instruction has.
func peekInstruction(tid int, addr uint64) string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, len(callInstruction))
	if _, err := f.ReadAt(b, int64(addr)); err != nil {
		return ""
	}
	return string(b)
}

// safePlace says whether code at pc runs outside the library and the C
// library: while a lock of theirs is held, nothing else is called.
func safePlace(pc uint64, library object, loaded []object) bool {
	if library.holds(pc) {
		return false
	}
	for _, o := range loaded {
		if o.cLibrary() && o.holds(pc) {
			return false
		}
	}
	return true
}

// wipe zeroes the pages that the kernel would zero at a fork.
func wipe(pid int, mem *os.File) []Outcome {
	pages, err := wipedOnFork(pid)
	if err != nil {
		return nil // gone, or a kernel without smaps: RAND_poll remains
	}
	var outcomes []Outcome
	for _, m := range pages {
		out := Outcome{PID: pid, Command: command(pid), Method: MethodWipe, Done: true}
		zero := make([]byte, min(m.end-m.start, 1<<20))
		if _, err := mem.WriteAt(zero, int64(m.start)); err != nil {
			out.Done, out.Reason = false, "its page cannot be written: "+err.Error()
		}
		outcomes = append(outcomes, out)
	}
	return outcomes
}

func command(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func pokeMemory(pid int, addr uint64, data []byte) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(data, int64(addr)); err != nil {
		return fmt.Errorf("write stack of thread %d: %w", pid, err)
	}
	return nil
}
