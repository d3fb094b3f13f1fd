package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is the agent of a sandbox as this machine's kernel knows it. The
// time of its start tells it from a later process with its number.
type process struct {
	pid   int
	start string // in clock ticks since boot, as in /proc/PID/stat
}

// findProcess looks for a container's first process on this machine: its root
// must hold the agent's volume, which its digest marks. False means that the
// engine is elsewhere, or that this process may not look.
func findProcess(pid int, digest string) (process, bool) {
	if pid <= 0 || digest == "" {
		return process{}, false
	}
	p := process{pid: pid}
	var err error
	if p.start, err = startTime(pid); err != nil {
		return process{}, false
	}
	f, err := p.open(path.Join(agentDir, digest), unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return process{}, false
	}
	_ = f.Close()
	return p, p.alive()
}

// startTime reads when a process was started.
func startTime(pid int) (string, error) {
	b, err := readSmall("/proc/"+strconv.Itoa(pid)+"/stat", 4096)
	if err != nil {
		return "", err
	}
	// The name, in parentheses, may hold anything; the 20th field after it.
	_, rest, ok := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return fields[19], nil
}

// alive says whether it is still the same process.
func (p process) alive() bool {
	start, err := startTime(p.pid)
	return err == nil && start == p.start
}

// open opens a file below the container's root. Links inside lead nowhere
// else: the path is resolved as if that root were the world.
func (p process) open(name string, flags uint64) (*os.File, error) {
	root, err := unix.Open("/proc/"+strconv.Itoa(p.pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the root of process %d: %w", p.pid, err)
	}
	defer unix.Close(root) //nolint:errcheck // opened by path only
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s of process %d: %w", name, p.pid, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// dial connects to the agent's socket inside.
func (p process) dial(ctx context.Context) (net.Conn, error) {
	socket, err := p.open(agentSocket, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	if !p.alive() { // the number may be another's by now
		return nil, fmt.Errorf("the agent, process %d, has ended", p.pid)
	}
	var d net.Dialer
	return d.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(int(socket.Fd())))
}

// errNoPidfd says that the kernel cannot tell when a process ends.
var errNoPidfd = errors.New("no pidfd")

// wait returns nil when the process has ended, without asking the engine.
func (p process) wait(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return errNoPidfd
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	if !p.alive() {
		return nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return errNoPidfd
	}
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return errNoPidfd
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(uintptr) bool {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) //nolint:gosec // a descriptor
		return err == nil && ready > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// readFile reads a small file below the container's root.
func (p process) readFile(name string) (string, error) {
	f, err := p.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 16<<10))
	return string(b), err
}

// networkNamespace opens the network namespace of the process.
func (p process) networkNamespace() (*os.File, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(p.pid) + "/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the network namespace of process %d: %w", p.pid, err)
	}
	if !p.alive() {
		_ = f.Close()
		return nil, fmt.Errorf("the agent, process %d, has ended", p.pid)
	}
	return f, nil
}
