package pidfd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that a process has ended.
var ErrGone = errors.New("the process has ended")

// ID identifies a process of this machine across reuse of its number
// and across reboots.
type ID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, as in /proc/PID/stat
	Boot  string `json:"boot"`  // /proc/sys/kernel/random/boot_id
}

// Identify returns the identity of a living process.
func Identify(pid int) (ID, error) {
	start, state, err := StartTime(pid)
	if err != nil {
		return ID{}, err
	}
	if state == 'Z' || state == 'X' {
		return ID{}, ErrGone
	}
	boot, err := bootID()
	return ID{PID: pid, Start: start, Boot: boot}, err
}

// Alive says whether the very process still runs.
func (p ID) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := Identify(p.PID)
	return err == nil && now == p
}

// StartTime reads when a process started and its state letter.
func StartTime(pid int) (uint64, byte, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, 0, ErrGone
	}
	if err != nil {
		return 0, 0, err
	}
	// The second field is the program's name in parentheses and may hold
	// anything, so count from the last closing one.
	_, rest, ok := cutLast(string(b), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/%d/stat has an unknown form", pid)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0][0], err
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// Handle is an open reference to a process that never comes to mean another.
type Handle struct {
	file  *os.File    // a pidfd
	ID    ID          // of the process
	Child *os.Process // when it is this process's own; whoever sees its end reaps it
}

// Open opens a process, or returns ErrGone when it has ended.
func Open(id ID) (*Handle, error) {
	if id.PID <= 0 {
		return nil, ErrGone // it never started
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", id.PID, err)
	}
	// The identity is compared after opening: what is open now stays.
	if !id.Alive() {
		unix.Close(fd) //nolint:errcheck // nothing was written
		return nil, ErrGone
	}
	return NewHandle(fd, id)
}

// NewHandle takes a pidfd over.
func NewHandle(fd int, id ID) (*Handle, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd) //nolint:errcheck // nothing was written
		return nil, fmt.Errorf("watch process %d: %w", id.PID, err)
	}
	return &Handle{file: os.NewFile(uintptr(fd), "pidfd"), ID: id}, nil
}

// Kill sends SIGKILL; a process that has ended is killed already.
func (h *Handle) Kill() error {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	if errors.Is(sent, unix.ESRCH) {
		sent = nil
	}
	return errors.Join(err, sent)
}

// Wait returns nil when the process has ended, else why it cannot be told.
// The runtime's poller watches the descriptor: no thread is held.
func (h *Handle) Wait() error {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		if errors.Is(err, unix.EINTR) {
			return false
		}
		failed = err
		return err != nil || n == 1
	})
	return errors.Join(err, failed)
}

// WaitUntil is Wait that ends with the context.
func (h *Handle) WaitUntil(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { h.file.SetReadDeadline(time.Unix(1, 0)) }) //nolint:errcheck // wait tells
	defer stop()
	err := h.Wait()
	if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return ctx.Err()
	}
	return err
}

// Close stops watching; a Wait under way returns an error.
func (h *Handle) Close() error { return h.file.Close() }
