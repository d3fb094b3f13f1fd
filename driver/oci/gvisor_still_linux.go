package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stillTimeout bounds what holding a sandbox still and letting it go takes,
// whatever has become of who asked for it.
const stillTimeout = 20 * time.Second

// insideProcess is a process as gVisor's kernel numbers it.
type insideProcess struct {
	pid, parent int
	state       byte // as in /proc/PID/stat
}

// still stops every process inside, in gVisor's kernel: they do not notice.
// The record has said so before: who takes the sandbox over after a crash lets
// it go on.
func (s *gvisorSandbox) still(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stillTimeout)
	defer cancel()
	if err := s.call(ctx, "containerManager.Pause", nil, nil); err != nil {
		return errors.Join(fmt.Errorf("hold the sandbox still: %w", err), s.wake(ctx))
	}
	return nil
}

// goOn ends what still began.
func (s *gvisorSandbox) goOn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stillTimeout)
	defer cancel()
	if err := s.call(ctx, "containerManager.Resume", nil, nil); err != nil {
		return fmt.Errorf("let the sandbox go on: %w", err)
	}
	return nil
}

// wake lets a sandbox go on that may stand still, with stop signals waiting
// for its processes. Ending a stop that is none would crash gVisor's kernel,
// so it looks first.
func (s *gvisorSandbox) wake(ctx context.Context) error {
	var stacks string
	if err := s.call(ctx, "debug.Stacks", nil, &stacks); err != nil {
		return fmt.Errorf("see whether the sandbox stands still: %w", err)
	}
	running, stopped := strings.Count(stacks, "kernel.(*Task).run("), strings.Count(stacks, "kernel.(*Task).doStop(")
	if running == 0 || stopped < running {
		return nil
	}
	list, err := s.processList(ctx)
	if err == nil {
		err = s.signalAll(ctx, awake(list), unix.SIGCONT)
	}
	return errors.Join(err, s.goOn(ctx))
}

// recoverStill wakes a sandbox whose snapshot a crash cut off.
func (s *gvisorSandbox) recoverStill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stillTimeout)
	defer cancel()
	s.saving.Lock()
	defer s.saving.Unlock()
	if err := s.wake(ctx); err != nil {
		return err
	}
	return s.update(func(r *record) { r.Still = false })
}

// awake lists the processes, other than the agent, that no signal has stopped,
// children before their parents: a parent that wakes finds its children at
// work.
func awake(list []insideProcess) []int {
	parent := map[int]int{}
	for _, p := range list {
		parent[p.pid] = p.parent
	}
	depth := func(pid int) (n int) {
		for ; pid != 0 && n < len(list); n++ {
			pid = parent[pid]
		}
		return n
	}
	var out []int
	for _, p := range list {
		if p.pid != 1 && !strings.ContainsRune("TtZX", rune(p.state)) {
			out = append(out, p.pid)
		}
	}
	slices.SortStableFunc(out, func(a, b int) int { return depth(b) - depth(a) })
	return out
}

// signalAll signals processes by their numbers inside.
func (s *gvisorSandbox) signalAll(ctx context.Context, list []int, sig unix.Signal) error {
	for _, pid := range list {
		arg := struct {
			CID   string
			Signo int32
			PID   int32
		}{containerName, int32(sig), int32(pid)} //nolint:gosec // numbers of processes
		if err := s.call(ctx, "containerManager.Signal", arg, nil); err != nil && !strings.Contains(err.Error(), "no such process") {
			return fmt.Errorf("signal process %d inside: %w", pid, err)
		}
	}
	return nil
}

// processList lists all processes inside. It is exact while they stand still.
func (s *gvisorSandbox) processList(ctx context.Context) ([]insideProcess, error) {
	var table []struct {
		PID int `json:"pid"`
	}
	if err := s.call(ctx, "containerManager.Processes", containerName, &table); err != nil {
		return nil, fmt.Errorf("list the processes inside: %w", err)
	}
	var files []string
	for _, p := range table {
		files = append(files, separatorFile, "/proc/"+strconv.Itoa(p.PID)+"/stat")
	}
	content, err := s.insideFiles(ctx, files)
	if err != nil {
		return nil, fmt.Errorf("read what the processes inside do: %w", err)
	}
	end := bytes.IndexByte(content, '\n') + 1
	if end < shortestSeparator {
		return nil, fmt.Errorf("gVisor's %s is too short: %q", separatorFile, content[:end])
	}
	list := make([]insideProcess, 0, len(table))
	for _, stat := range bytes.Split(content, content[:end])[1:] {
		p, err := parseStat(string(stat))
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	if len(list) != len(table) {
		return nil, fmt.Errorf("gVisor tells the state of %d processes of %d", len(list), len(table))
	}
	return list, nil
}

const (
	// separatorFile is read between others, to tell where each begins: its one
	// line is longer than the names that processes give themselves.
	separatorFile     = "/proc/version"
	shortestSeparator = 24
)

// insideFiles reads files as the root of the sandbox's kernel, one after the
// other.
func (s *gvisorSandbox) insideFiles(ctx context.Context, files []string) ([]byte, error) {
	fd, err := unix.MemfdCreate("inside", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "inside")
	defer f.Close()
	arg := struct {
		Files []string `json:"files"`
	}{files}
	if err := s.call(ctx, "Fs.Cat", arg, nil, f); err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, 0, maxAnswer))
}

// parseStat reads a /proc/PID/stat. A process chooses its own name, which may
// hold anything.
func parseStat(stat string) (insideProcess, error) {
	number, _, _ := strings.Cut(stat, " ")
	pid, err := strconv.Atoi(number)
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if err != nil || len(fields) < 2 || len(fields[0]) != 1 {
		return insideProcess{}, fmt.Errorf("gVisor describes a process as %q", stat)
	}
	parent, err := strconv.Atoi(fields[1])
	return insideProcess{pid: pid, parent: parent, state: fields[0][0]}, err
}
