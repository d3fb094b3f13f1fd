package agent

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/guest"
)

// outputPipeSize is asked for the pipes of output: fewer turns between a
// command that writes much and the agent.
const outputPipeSize = 1 << 20

func pipe() (r, w int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return 0, 0, err
	}
	return fds[0], fds[1], nil
}

// enlarge gives a pipe that is used much more room.
func enlarge(f *os.File) {
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	rc.Control(func(fd uintptr) { //nolint:errcheck // it stays as it is
		unix.FcntlInt(fd, unix.F_SETPIPE_SZ, outputPipeSize) //nolint:errcheck // see above
	})
}

func closeFD(fd int) { unix.Close(fd) } //nolint:errcheck // nothing was written through it

// pollable makes a file of fd that waits without a thread.
func pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		closeFD(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openTerminal opens a pseudo-terminal. Its peer end is opened through the
// master, so that it does not matter what is mounted on /dev/pts.
func openTerminal(p *process, f *childFiles, size guest.WindowSize) error {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open terminal: %w", err)
	}
	master := os.NewFile(uintptr(fd), "terminal")
	p.outputs[0] = &outputFile{file: master}
	p.tty = master
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock terminal: %w", err)
	}
	peer, err := openPeer(fd)
	if err != nil {
		return fmt.Errorf("open terminal: %w", err)
	}
	f.fds = [3]int{peer, peer, peer}
	f.owned = append(f.owned, peer)
	if size.Cols > 0 && size.Rows > 0 {
		if err := setSize(master, size); err != nil {
			return fmt.Errorf("size terminal: %w", err)
		}
	}
	p.stdin = master
	return nil
}

func openPeer(master int) (int, error) {
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	if r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, flags); errno == 0 {
		return int(r), nil
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, err
	}
	return unix.Open(fmt.Sprintf("/dev/pts/%d", n), flags, 0)
}

func setSize(f *os.File, size guest.WindowSize) error {
	return control(f, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: size.Cols, Row: size.Rows})
	})
}

// foreground returns the process group in a terminal's foreground, or 0.
func foreground(f *os.File) int {
	group := 0
	control(f, func(fd int) (err error) { //nolint:errcheck // 0 then
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	return group
}

// control runs f on the file's descriptor without making it blocking.
func control(file *os.File, f func(fd int) error) error {
	rc, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := rc.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
