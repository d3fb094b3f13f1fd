package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/faas-platform/faas"
)

// killAfter is how long a command may take to end after SIGTERM.
const killAfter = 10 * time.Second

// streams joins a command to this process's standard streams and signals.
type streams struct {
	ctx            context.Context // ended when the command must be killed
	stdin          io.Reader       // nil: empty
	stdout, stderr io.Writer
	tty            *faas.TerminalSize // nil: no terminal
	resize         chan faas.TerminalSize
	signals        chan syscall.Signal

	cancel  context.CancelFunc
	restore func() // puts the terminal back
	killed  atomic.Int32
	caught  chan os.Signal
	tasks   sync.WaitGroup
	once    sync.Once
}

// openStreams takes over the terminal when one is wanted, and the signals.
func openStreams(terminal, input bool) (*streams, error) {
	s := &streams{
		stdout: os.Stdout, stderr: os.Stderr,
		signals: make(chan syscall.Signal, 8), caught: make(chan os.Signal, 8), restore: func() {},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if input {
		s.stdin = os.Stdin
	}
	if terminal {
		if err := s.takeTerminal(); err != nil {
			s.cancel()
			return nil, err
		}
	}
	signal.Notify(s.caught, forwarded...)
	s.tasks.Go(s.forward)
	return s, nil
}

// takeTerminal makes this process's terminal, when it has one, pass every key
// on, and measures it.
func (s *streams) takeTerminal() error {
	s.tty = &faas.TerminalSize{Cols: 80, Rows: 24}
	s.resize = make(chan faas.TerminalSize, 1)
	for _, f := range []*os.File{os.Stdout, os.Stdin, os.Stderr} {
		if size, ok := sizeOf(f); ok {
			*s.tty = size
			s.tasks.Go(func() { watchSize(s.ctx, func() { s.resized(f) }) })
			break
		}
	}
	fd := int(os.Stdin.Fd())
	if s.stdin == nil || !term.IsTerminal(fd) {
		return nil
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return faas.Errorf(faas.KindFailedPrecondition, "take over the terminal: %w", err)
	}
	s.restore = func() { _ = term.Restore(fd, state) } //nolint:errcheck // nothing is left to do about it
	return nil
}

func sizeOf(f *os.File) (faas.TerminalSize, bool) {
	cols, rows, err := term.GetSize(int(f.Fd()))
	if err != nil || cols <= 0 || rows <= 0 || cols > 0xffff || rows > 0xffff {
		return faas.TerminalSize{}, false
	}
	return faas.TerminalSize{Cols: uint16(cols), Rows: uint16(rows)}, true
}

// resized passes the newest size on; an older one that still waits is dropped.
func (s *streams) resized(f *os.File) {
	size, ok := sizeOf(f)
	if !ok {
		return
	}
	select {
	case <-s.resize:
	default:
	}
	select {
	case s.resize <- size:
	default:
	}
}

// forward gives the first signal to the command. A second one kills it, and so
// does time after SIGTERM.
func (s *streams) forward() {
	var deadline <-chan time.Time
	asked := false
	for {
		var got syscall.Signal
		select {
		case <-s.ctx.Done():
			return
		case <-deadline:
			s.kill(syscall.SIGTERM)
			return
		case caught := <-s.caught:
			got = linuxNumber(caught)
		}
		ends := got == syscall.SIGINT || got == syscall.SIGTERM
		if ends && asked {
			s.kill(got)
			return
		}
		asked = asked || ends
		select {
		case s.signals <- got:
		default:
			s.kill(got) // nobody takes them
			return
		}
		if got == syscall.SIGTERM {
			deadline = time.After(killAfter)
		}
	}
}

func (s *streams) kill(by syscall.Signal) {
	s.killed.Store(int32(by))
	s.cancel()
}

// forced returns the signal that made this process kill the command, 0 when
// none did.
func (s *streams) forced() syscall.Signal { return syscall.Signal(s.killed.Load()) }

// close gives signals and terminal back. It may be called more than once.
func (s *streams) close() {
	s.once.Do(func() {
		signal.Stop(s.caught)
		s.cancel()
		s.tasks.Wait()
		s.restore()
	})
}
