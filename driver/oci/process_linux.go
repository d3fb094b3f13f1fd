package oci

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

// errGone says that a process has ended.
var errGone = errors.New("the process has ended")

// processID identifies a process of this machine across reuse of its number
// and across reboots.
type processID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, as in /proc/PID/stat
	Boot  string `json:"boot"`  // /proc/sys/kernel/random/boot_id
}

// identify returns the identity of a living process.
func identify(pid int) (processID, error) {
	start, state, err := startTime(pid)
	if err != nil {
		return processID{}, err
	}
	if state == 'Z' || state == 'X' {
		return processID{}, errGone
	}
	boot, err := bootID()
	return processID{PID: pid, Start: start, Boot: boot}, err
}

// alive says whether the very process still runs.
func (p processID) alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := identify(p.PID)
	return err == nil && now == p
}

// startTime reads when a process started and its state letter.
func startTime(pid int) (uint64, byte, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, 0, errGone
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

// handle is an open reference to a process that never comes to mean another.
type handle struct {
	file  *os.File // a pidfd
	id    processID
	child *os.Process // when it is this process's own; whoever sees its end reaps it
}

// openProcess opens a process, or returns errGone when it has ended.
func openProcess(id processID) (*handle, error) {
	if id.PID <= 0 {
		return nil, errGone // it never started
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", id.PID, err)
	}
	// The identity is compared after opening: what is open now stays.
	if !id.alive() {
		unix.Close(fd) //nolint:errcheck // nothing was written
		return nil, errGone
	}
	return newHandle(fd, id)
}

// newHandle takes a pidfd over.
func newHandle(fd int, id processID) (*handle, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd) //nolint:errcheck // nothing was written
		return nil, fmt.Errorf("watch process %d: %w", id.PID, err)
	}
	return &handle{file: os.NewFile(uintptr(fd), "pidfd"), id: id}, nil
}

// kill sends SIGKILL; a process that has ended is killed already.
func (h *handle) kill() error {
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

// wait returns nil when the process has ended, else why it cannot be told.
// The runtime's poller watches the descriptor: no thread is held.
func (h *handle) wait() error {
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

// waitUntil is wait that ends with the context.
func (h *handle) waitUntil(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { h.file.SetReadDeadline(time.Unix(1, 0)) }) //nolint:errcheck // wait tells
	defer stop()
	err := h.wait()
	if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return ctx.Err()
	}
	return err
}

// close stops watching; a wait under way returns an error.
func (h *handle) close() error { return h.file.Close() }
