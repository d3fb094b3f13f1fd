package guest

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/faas-platform/faas"
)

// Run runs a command to its end, copying its streams. Nil readers and writers
// stand for empty input and discarded output. It returns when the command has
// ended and its output is written; processes that the command left behind go
// on, and their output is waited for only while it keeps coming. A reader that
// stdin blocks in is not waited for.
//
// Where stdout and stderr are the same writer, at most one goroutine writes to
// it at a time.
//
// When ctx ends first, everything that the command started is killed and the
// context's error is returned beside the exit, if that is known. The same
// happens, with the writer's error, when stdout or stderr cannot be written.
func (c *Client) Run(ctx context.Context, cmd Command, stdin io.Reader, stdout, stderr io.Writer) (Exit, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd.Stdin = stdin != nil
	e, err := c.start(ctx, execArgs{
		Command: cmd, Linger: lingerTimeout,
		DiscardStdout: stdout == nil && cmd.TTY == nil, DiscardStderr: stderr == nil && cmd.TTY == nil,
	})
	if err != nil {
		return Exit{}, failure("run command", err)
	}
	defer e.Close() //nolint:errcheck // it reports nothing
	if cmd.Attach != nil {
		cmd.Attach(e)
	}
	if stdin != nil {
		go feed(e, stdin)
	}
	if same(stdout, stderr) {
		one := &lockedWriter{w: stdout}
		stdout, stderr = one, one
	}
	r := &running{exec: e, cancel: cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.copy(stderr, e.Stderr)
	}()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		r.copy(stdout, e.Stdout)
		<-done
	}()
	exit, err := e.Wait(context.WithoutCancel(ctx))
	if err != nil {
		e.Close() //nolint:errcheck // ends the copies
	}
	<-drained
	if werr := r.writeError(); werr != nil {
		return exit, werr
	}
	return exit, failure("run command", err)
}

// feed copies a command's standard input. It ends with the reader or, once
// the reader returns, with the command.
func feed(e *Exec, stdin io.Reader) {
	io.Copy(e.Stdin, stdin) //nolint:errcheck // a command need not read its input
	e.Stdin.Close()         //nolint:errcheck
}

// running is a Run under way.
type running struct {
	exec   *Exec
	cancel context.CancelCauseFunc
	failed atomic.Pointer[faas.Error]
}

// copy copies one output; a writer that fails ends the command.
func (r *running) copy(w io.Writer, from io.Reader) {
	if w == nil {
		w = io.Discard
	}
	checked := &checkedWriter{w: w}
	io.Copy(checked, from) //nolint:errcheck // the reading side's error is the command's own
	if checked.err != nil {
		r.failed.CompareAndSwap(nil, &faas.Error{
			Kind: faas.KindUnavailable, Op: "run command", Detail: "its output could not be written", Err: checked.err,
		})
		r.cancel(checked.err)
	}
}

func (r *running) writeError() error {
	if e := r.failed.Load(); e != nil {
		return e
	}
	return nil
}

// checkedWriter remembers why it could not write.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	c.err = err
	return n, err
}

// same says whether two writers are one; those that cannot be compared are not.
func same(a, b io.Writer) bool {
	defer func() { _ = recover() }()
	return a != nil && a == b
}

// lockedWriter takes writes of several goroutines one after the other.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
