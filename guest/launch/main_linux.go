package launch

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Main builds the sandbox and becomes its agent. It returns only when that
// failed, with the exit status; the reason has been written to StatusFD.
func Main() int {
	// Capabilities, the filter and no_new_privs belong to a thread, and execve
	// keeps those of the thread that calls it.
	runtime.LockOSThread()
	unix.CloseOnExec(ConfigFD)
	unix.CloseOnExec(StatusFD)
	os.NewFile(StatusFD, "status").WriteString(run().Error()) //nolint:errcheck // nobody is left to tell
	return 1
}

// run becomes the agent. It returns only when that failed, with the reason.
func run() error {
	pipe := os.NewFile(ConfigFD, "config")
	in := bufio.NewReader(pipe)
	cfg, err := readConfig(in)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if err := build(cfg); err != nil {
		return err
	}
	if b, err := in.ReadByte(); err != nil || b != Go {
		return fmt.Errorf("the host gave up before the agent started: %v", err)
	}
	if cfg.CgroupNamespace {
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return fmt.Errorf("make a namespace of control groups: %w", err)
		}
	}
	return become(cfg, Kept{})
}

// Enter builds the sandbox in this process's own namespaces and becomes its
// agent. It is for the init process of a machine, whose namespaces nobody else
// has, and returns only when it failed.
func Enter(cfg *Config, kept Kept) error {
	runtime.LockOSThread()
	if err := build(cfg); err != nil {
		return err
	}
	return become(cfg, kept)
}

func readConfig(in *bufio.Reader) (*Config, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(line, "\n"))
	if err != nil || n < 0 || n > MaxConfig {
		return nil, fmt.Errorf("bad length %q", line)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, err
	}
	return Decode(b)
}

// become gives up every privilege that the agent does not need and executes
// it. The order matters: dropping from the bounding set needs a capability,
// setting a filter without one needs no_new_privs.
func become(cfg *Config, kept Kept) error {
	if len(cfg.Args) == 0 {
		return fmt.Errorf("start the agent: no command")
	}
	listener := -1
	if cfg.Listen != "" {
		var err error
		if listener, err = listen(cfg.Listen); err != nil {
			return fmt.Errorf("listen on %s: %w", cfg.Listen, err)
		}
	}
	if err := redirectStdio(kept.Messages); err != nil {
		return fmt.Errorf("open /dev/null inside: %w", err)
	}
	for _, l := range cfg.Limits {
		if err := unix.Setrlimit(l.Resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			return fmt.Errorf("set resource limit %d to %d: %w", l.Resource, l.Hard, err)
		}
	}
	if err := closeOthers(listener, kept.Descriptors); err != nil {
		return err
	}
	if err := dropCapabilities(cfg.Capabilities); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := setFilter(cfg.Filter); err != nil {
		return fmt.Errorf("load the seccomp filter: %w", err)
	}
	return fmt.Errorf("execute %s: %w", cfg.Args[0], unix.Exec(cfg.Args[0], cfg.Args, cfg.Env))
}

// listen binds the agent's socket inside the sandbox, so that its name is the
// sandbox's own, and so that the host can connect as soon as execve succeeded.
func listen(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	// Files that were saved of another sandbox hold the name of its socket.
	if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
		return -1, err
	}
	old := unix.Umask(0o177)
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	unix.Umask(old)
	if err != nil {
		return -1, err
	}
	return fd, unix.Listen(fd, 1024)
}

// redirectStdio points the standard streams at the sandbox's own /dev/null:
// nothing that a checkpoint finds may lead out of the sandbox. Messages of a
// machine's agent go to its own kernel's log.
func redirectStdio(messages int) error {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for std := range 3 {
		if err := unix.Dup3(fd, std, 0); err != nil {
			return err
		}
	}
	if messages != 0 {
		if err := unix.Dup3(messages, 2, 0); err != nil {
			return err
		}
	}
	return unix.Close(fd)
}

// closeOthers makes the listening socket ListenFD, puts what is kept behind it
// and has execve close everything else but the standard streams. The status
// pipe moves out of the way; it must close by execve only, since its end is the
// sign of success.
func closeOthers(listener int, keep []int) error {
	if err := unix.CloseRange(ListenFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited descriptors: %w", err)
	}
	for i, fd := range keep {
		if err := unix.Dup3(fd, KeptFD+i, 0); err != nil {
			return fmt.Errorf("keep a descriptor: %w", err)
		}
	}
	if listener < 0 {
		return nil
	}
	if err := unix.Dup3(listener, ListenFD, 0); err != nil {
		return fmt.Errorf("hand over the listening socket: %w", err)
	}
	return nil
}
