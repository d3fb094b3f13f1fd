package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// everything is a program that has all that a snapshot of memory must bring
// back: threads, a child, files that are held open, that grow and that have no
// name, a timer, pipes, a pair of sockets, a terminal, a listening socket and a
// connection over loopback. Every round it uses each of them, and it ends with
// an error in DIRECTORY/broken when one is not what it was the round before.
type everything struct {
	dir      string
	round    int
	memory   []byte
	threads  [3]atomic.Int64
	growing  *os.File
	nameless *os.File
	timer    int
	expired  uint64
	toChild  *os.File
	ofChild  *bufio.Reader
	pair     [2]*os.File
	master   *os.File
	slave    *bufio.Reader
	listener net.Listener
	dialled  net.Conn
	accepted chan net.Conn
	taken    net.Conn
	redials  int
}

const everyRound = 20 * time.Millisecond

func haveEverything(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want DIRECTORY")
	}
	e := &everything{dir: args[0], accepted: make(chan net.Conn, 1)}
	if err := os.MkdirAll(e.dir, 0o755); err != nil {
		return err
	}
	err := e.prepare()
	for err == nil {
		if err = e.once(); err == nil {
			err = e.tell("now", fmt.Sprintf("%d %d\n", e.round, e.redials))
			time.Sleep(everyRound)
		}
	}
	return errors.Join(err, e.tell("broken", fmt.Sprintf("round %d: %v\n", e.round, err)))
}

func (e *everything) prepare() error {
	e.memory = bytes.Repeat([]byte("memory! "), 2<<20) // 16 MiB
	for i := range e.threads {
		go func() {
			runtime.LockOSThread()
			for {
				e.threads[i].Add(1)
				time.Sleep(everyRound)
			}
		}()
	}
	for _, step := range []func() error{e.openFiles, e.startTimer, e.startChild, e.openPair, e.openTerminal, e.listen} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (e *everything) openFiles() (err error) {
	if e.growing, err = os.Create(filepath.Join(e.dir, "growing")); err != nil {
		return err
	}
	if e.nameless, err = os.Create(filepath.Join(e.dir, "nameless")); err != nil {
		return err
	}
	return os.Remove(e.nameless.Name())
}

func (e *everything) startTimer() (err error) {
	if e.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC); err != nil {
		return err
	}
	every := unix.NsecToTimespec(int64(5 * time.Millisecond))
	return unix.TimerfdSettime(e.timer, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil)
}

// startChild starts a process at the far ends of two pipes.
func (e *everything) startChild() error {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	back, out, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", "repeat")
	cmd.Stdin, cmd.Stdout = theirs, out
	e.toChild, e.ofChild = ours, bufio.NewReader(back)
	if err := cmd.Start(); err != nil {
		return err
	}
	return errors.Join(theirs.Close(), out.Close())
}

func (e *everything) openPair() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for i, fd := range fds {
		e.pair[i] = os.NewFile(uintptr(fd), "pair")
	}
	return nil
}

func (e *everything) openTerminal() (err error) {
	if e.master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	fd := int(e.master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		return err
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	e.slave = bufio.NewReader(slave)
	return err
}

func (e *everything) listen() (err error) {
	if e.listener, err = net.Listen("tcp4", "127.0.0.1:7070"); err != nil {
		return err
	}
	go func() {
		for {
			c, err := e.listener.Accept()
			if err != nil {
				e.tell("broken", "accept: "+err.Error()) //nolint:errcheck // the round fails too
				return
			}
			go e.greet(c)
		}
	}()
	return e.dial()
}

// greet tells what a connection is for: one from outside says "who", and gets
// an answer.
func (e *everything) greet(c net.Conn) {
	line, err := bufio.NewReader(io.LimitReader(c, 4)).ReadString('\n')
	if err == nil && line == "who\n" {
		fmt.Fprintln(c, "everything")
		c.Close()
		return
	}
	if err == nil {
		e.accepted <- c
	}
}

func (e *everything) dial() error {
	c, err := net.DialTimeout("tcp4", e.listener.Addr().String(), 10*time.Second)
	if err != nil {
		return fmt.Errorf("the listening socket does not answer: %w", err)
	}
	if _, err := io.WriteString(c, "own\n"); err != nil {
		return err
	}
	e.dialled, e.taken = c, <-e.accepted
	return nil
}

// once uses everything.
func (e *everything) once() error {
	e.round++
	for what, use := range map[string]func(line string) error{
		"memory": e.useMemory, "a thread": e.useThreads, "the growing file": e.useGrowing, "the nameless file": e.useNameless,
		"the timer": e.useTimer, "the child": e.useChild, "the sockets": e.usePair, "the terminal": e.useTerminal, "the connection": e.useConnection,
	} {
		if err := use(strconv.Itoa(e.round) + "\n"); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

func (e *everything) useMemory(string) error {
	at := e.round * 4096 % len(e.memory) &^ 7
	if got := string(e.memory[at : at+8]); got != "memory! " && !strings.HasPrefix(got, "round ") {
		return fmt.Errorf("%q at %d", got, at)
	}
	copy(e.memory[at:], "round   ")
	return nil
}

// useThreads waits for every thread to have come further.
func (e *everything) useThreads(string) error {
	for i := range e.threads {
		before := e.threads[i].Load()
		for deadline := time.Now().Add(20 * time.Second); e.threads[i].Load() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				return fmt.Errorf("number %d stands still at %d", i, before)
			}
		}
	}
	return nil
}

func (e *everything) useGrowing(line string) error {
	_, err := e.growing.WriteString(line)
	return err
}

func (e *everything) useNameless(line string) error {
	if _, err := e.nameless.WriteString(line); err != nil {
		return err
	}
	b := make([]byte, len(line))
	end, err := e.nameless.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = e.nameless.ReadAt(b, end-int64(len(line)))
	}
	first := make([]byte, 2)
	if err == nil {
		_, err = e.nameless.ReadAt(first, 0)
	}
	if err == nil && (string(b) != line || string(first) != "1\n") {
		err = fmt.Errorf("it holds %q … %q", first, b)
	}
	return err
}

func (e *everything) useTimer(string) error {
	b := make([]byte, 8)
	if _, err := unix.Read(e.timer, b); err != nil {
		return err
	}
	e.expired++
	return nil
}

func (e *everything) useChild(line string) error {
	if _, err := e.toChild.WriteString(line); err != nil {
		return err
	}
	return same(e.ofChild, line)
}

func (e *everything) usePair(line string) error {
	if _, err := e.pair[0].WriteString(line); err != nil {
		return err
	}
	return same(bufio.NewReader(io.LimitReader(e.pair[1], int64(len(line)))), line)
}

func (e *everything) useTerminal(line string) error {
	if _, err := e.master.WriteString(line); err != nil {
		return err
	}
	echo := strings.TrimSuffix(line, "\n") + "\r\n"
	return errors.Join(same(e.slave, line), same(bufio.NewReader(io.LimitReader(e.master, int64(len(echo)))), echo))
}

// useConnection uses the connection over loopback. One that a restore has
// closed says so, and the listening socket takes another.
func (e *everything) useConnection(line string) error {
	e.dialled.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // an open connection takes it
	e.taken.SetDeadline(time.Now().Add(20 * time.Second))   //nolint:errcheck // as above
	_, err := e.dialled.Write([]byte(line))
	if err == nil {
		err = same(bufio.NewReader(io.LimitReader(e.taken, int64(len(line)))), line)
	}
	if err == nil || os.IsTimeout(err) {
		return err
	}
	e.redials++
	e.dialled.Close()
	e.taken.Close()
	return e.dial()
}

func same(r *bufio.Reader, want string) error {
	got, err := r.ReadString('\n')
	if err == nil && got != want {
		err = fmt.Errorf("%q came, not %q", got, want)
	}
	return err
}

// tell writes a file in one step.
func (e *everything) tell(name, content string) error {
	path := filepath.Join(e.dir, name)
	if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil { //nolint:gosec // for everyone inside
		return err
	}
	return os.Rename(path+".new", path)
}
