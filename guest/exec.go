package guest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

const (
	// killTimeout bounds the wait for the agent's word that a command whose
	// context ended is gone.
	killTimeout = 5 * time.Second
	// lingerTimeout is how long Run waits, after the command's end, for output
	// from processes that it left behind, after the last byte.
	lingerTimeout = 500 * time.Millisecond
)

// Causes of a Start that failed on the command's own name, for errors.Is.
// Shells exit with 127 and 126 for them.
var (
	ErrCommandNotFound      = errors.New("command not found")
	ErrCommandNotExecutable = errors.New("command is not executable")
)

// Exec is a running command.
type Exec struct {
	ID     string
	PID    int            // inside
	Stdin  io.WriteCloser // nil unless Command.Stdin
	Stdout io.Reader      // io.EOF at its end; a neglected reader stops the command's writes to it, and nothing else
	Stderr io.Reader

	client *Client
	in     *wire.Outbox
	out    [2]*wire.Inbox

	mu      sync.Mutex
	link    *execLink // the stream of the moment; nil while detached
	linked  chan struct{}
	stop    func() bool // ends the watch of Start's context
	err     error       // why the streams ended early
	ctxErr  error
	exit    Exit
	started chan struct{} // closed when the agent has answered
	exited  chan struct{} // closed when exit is known
	ended   chan struct{} // closed when nothing more comes
}

// execLink ties an Exec to one stream of one connection.
type execLink struct {
	exec    *Exec
	session *session
	stream  *wire.Stream
	once    sync.Once // of release

	mu     sync.Mutex
	opened bool
	early  error // why the connection ended before the request was known to be out
}

// execArgs is Command on the wire.
type execArgs struct {
	Command
	DiscardStdout bool `json:"discard_stdout,omitempty"`
	DiscardStderr bool `json:"discard_stderr,omitempty"`
	// Linger, when set, ends an output that processes left behind by the
	// command hold open once none has come for so long after its end.
	Linger time.Duration `json:"linger,omitempty"`
}

// Start runs a command and returns with its streams open. When ctx ends before
// the command does, everything that it started is killed.
func (c *Client) Start(ctx context.Context, cmd Command) (*Exec, error) {
	e, err := c.start(ctx, execArgs{Command: cmd})
	if err == nil {
		err = e.awaitStart(ctx)
	}
	if err != nil {
		return nil, failure("start command", err)
	}
	return e, nil
}

func (c *Client) start(ctx context.Context, args execArgs) (*Exec, error) {
	if len(args.Args) == 0 || args.Args[0] == "" {
		return nil, faas.InvalidField("command", "no command is given")
	}
	e := newExec(c, args.Command)
	for try := 1; ; try++ {
		err := e.open(ctx, wire.Outgoing{Op: wire.OpExec, Args: args}, false)
		if err == nil {
			break
		}
		if try == attempts || !sendable(err) || ctx.Err() != nil {
			return nil, err
		}
	}
	c.resumeHeld()
	stop := context.AfterFunc(ctx, func() { e.kill(ctx.Err()) })
	e.mu.Lock()
	e.stop = stop
	e.mu.Unlock()
	return e, nil
}

func newExec(c *Client, cmd Command) *Exec {
	e := &Exec{
		client: c, linked: make(chan struct{}), stop: func() bool { return true },
		started: make(chan struct{}), exited: make(chan struct{}), ended: make(chan struct{}),
	}
	e.out[0], e.out[1] = wire.NewInbox(0), wire.NewInbox(1)
	e.Stdout, e.Stderr = &output{e.out[0]}, &output{e.out[1]}
	if cmd.Stdin {
		e.in = wire.NewOutbox(0)
		e.Stdin = &input{out: e.in}
	}
	return e
}

// open opens a stream for the command and makes it the current one.
func (e *Exec) open(ctx context.Context, request wire.Outgoing, hold bool) error {
	s, err := e.client.session(ctx, true)
	if err != nil {
		return err
	}
	l := &execLink{exec: e, session: s}
	ends := wire.Ends{In: e.out, Handler: l, Opened: l.begin}
	ends.Out[0] = e.in
	s.guard(ctx, func() { _, err = s.Open(request, ends, hold) })
	l.mu.Lock()
	l.opened = err == nil
	early := l.early
	l.mu.Unlock()
	if err != nil {
		l.release()
		e.unlink(l)
		return err
	}
	if early != nil {
		l.lost(early)
	}
	return nil
}

// begin makes the link the command's current one.
func (l *execLink) begin(st *wire.Stream) {
	l.stream = st
	e := l.exec
	e.mu.Lock()
	e.link = l
	close(e.linked)
	e.mu.Unlock()
}

// unlink leaves the command without a stream.
func (e *Exec) unlink(l *execLink) {
	e.mu.Lock()
	if e.link == l {
		e.link, e.linked = nil, make(chan struct{})
	}
	e.mu.Unlock()
}

// awaitStart waits for the agent's word that the command runs.
func (e *Exec) awaitStart(ctx context.Context) error {
	select {
	case <-e.started:
	case <-ctx.Done():
		e.Close() //nolint:errcheck // the context's error says it
		return ctx.Err()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.PID == 0 {
		return e.err
	}
	return nil
}

func (l *execLink) release() { l.once.Do(func() { l.exec.client.release(l.session) }) }

// Closed is called when the connection has ended without a word, or when the
// agent did not take the stream because it quiesces.
func (l *execLink) Closed(err error) {
	l.mu.Lock()
	if !l.opened {
		l.early = err
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.lost(err)
}

func (l *execLink) lost(err error) {
	l.release()
	if !errors.Is(err, wire.ErrGoingAway) {
		l.exec.fail(err)
		return
	}
	if !isClosed(l.exec.started) {
		l.exec.fail(errQuiesced()) // its input may have been lost: the caller knows whether to try again
		return
	}
	l.exec.unlink(l)
	l.exec.client.hold(l.exec)
}

// Message is called by the connection's reader.
func (l *execLink) Message(t wire.FrameType, payload []byte) {
	switch t {
	case wire.FrameReply, wire.FrameResult:
		var r wire.Response
		if err := json.Unmarshal(payload, &r); err != nil {
			l.exec.fail(faas.Errorf(faas.KindInternal, "the agent's answer cannot be read: %v", err))
			l.session.Close()
			return
		}
		if t == wire.FrameResult {
			l.release()
		}
		l.answer(t, r)
	case wire.FrameDetach:
		l.exec.client.own(func() { l.exec.detach(l) })
	}
}

// answer takes one message of the agent: that the command runs, that it ended
// (with an exit), or that nothing more comes.
func (l *execLink) answer(t wire.FrameType, r wire.Response) {
	e := l.exec
	if r.Error != nil {
		err := r.Error.Decode()
		switch r.Error.Cause {
		case wire.CauseNotFound:
			err.Err = ErrCommandNotFound
		case wire.CauseNotExecutable:
			err.Err = ErrCommandNotExecutable
		}
		e.fail(err)
		return
	}
	var v struct {
		wire.Started
		wire.Attached
		Exit *Exit `json:"exit"`
	}
	if r.Value != nil {
		if err := json.Unmarshal(r.Value, &v); err != nil {
			e.fail(faas.Errorf(faas.KindInternal, "the agent's answer cannot be read: %v", err))
			return
		}
	}
	e.mu.Lock()
	if v.PID != 0 && e.PID == 0 {
		e.ID, e.PID = v.ID, v.PID
		close(e.started)
	}
	if v.Exit != nil && !isClosed(e.exited) && isClosed(e.started) {
		e.exit = *v.Exit
		close(e.exited)
	}
	e.mu.Unlock()
	if v.Stdin != nil && e.in != nil {
		e.in.Attach(l.stream, max(0, min(*v.Stdin, wire.Window)))
	}
	if t == wire.FrameResult {
		e.finish(nil)
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// fail ends the command's streams with an error.
func (e *Exec) fail(err error) { e.finish(failure("run command", err)) }

func (e *Exec) finish(err error) {
	e.mu.Lock()
	if isClosed(e.ended) {
		e.mu.Unlock()
		return
	}
	if err == nil && !isClosed(e.exited) {
		err = faas.Errorf(faas.KindInternal, "the agent ended the command's streams without its exit")
	}
	e.err = err
	if !isClosed(e.started) {
		close(e.started)
	}
	close(e.ended)
	stop := e.stop
	e.mu.Unlock()
	stop()
	end := err
	if end == nil {
		end = io.EOF
	}
	e.out[0].Fail(end)
	e.out[1].Fail(end)
	if e.in != nil {
		e.in.Fail(wire.ErrStopped)
	}
}

// message sends a message on the command's stream, waiting while it is detached.
func (e *Exec) message(ctx context.Context, t wire.FrameType, v any) error {
	for {
		e.mu.Lock()
		link, linked := e.link, e.linked
		e.mu.Unlock()
		if link != nil {
			send(link.session, func() { link.stream.Message(t, v) }) //nolint:errcheck // the stream ends with its connection
			return nil
		}
		select {
		case <-linked:
		case <-e.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// kill ends everything that the command started; Wait learns the cause.
func (e *Exec) kill(cause error) {
	e.mu.Lock()
	e.ctxErr = cause
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	e.message(ctx, wire.FrameControl, wire.Control{Kill: true}) //nolint:errcheck // see below
	select {
	case <-e.exited:
	case <-e.ended:
	case <-ctx.Done():
		e.abandon()
		e.fail(cause)
	}
}

// abandon forgets the command's stream at this end.
func (e *Exec) abandon() {
	e.mu.Lock()
	link := e.link
	e.mu.Unlock()
	if link != nil {
		link.stream.End()
		link.release()
	}
	e.client.unhold(e)
}

// Wait returns how the command ended. It does not wait for the streams. When
// the context of Start ended first, it returns that context's error as well.
func (e *Exec) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-e.exited:
	case <-e.ended:
	case <-ctx.Done():
		return Exit{}, failure("wait for command", ctx.Err())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !isClosed(e.exited) {
		return Exit{}, failure("run command", e.err)
	}
	if e.ctxErr != nil {
		return e.exit, failure("run command", e.ctxErr)
	}
	return e.exit, nil
}

// Signal sends a signal to the command's process group.
func (e *Exec) Signal(ctx context.Context, sig syscall.Signal) error {
	return failure("signal command", e.message(ctx, wire.FrameControl, wire.Control{Signal: int(sig)}))
}

// Resize changes the size of the command's terminal.
func (e *Exec) Resize(ctx context.Context, size WindowSize) error {
	return failure("resize terminal", e.message(ctx, wire.FrameControl, wire.Control{Size: &[2]uint16{size.Cols, size.Rows}}))
}

// Close releases the command's streams without waiting for it; a command that
// still runs is killed with everything that it started. What it left behind
// when it ended by itself goes on.
func (e *Exec) Close() error {
	if isClosed(e.ended) {
		return nil
	}
	e.mu.Lock()
	link := e.link
	e.mu.Unlock()
	if link != nil {
		send(link.session, func() { link.stream.Message(wire.FrameReset, nil) }) //nolint:errcheck // killed by the lost connection then
	}
	e.abandon()
	e.fail(&faas.Error{Kind: faas.KindUnavailable, Detail: "the command's streams are closed", Err: io.ErrClosedPipe})
	e.out[0].Discard()
	e.out[1].Discard()
	return nil
}

// output is one output of a command.
type output struct{ in *wire.Inbox }

func (o *output) Read(p []byte) (int, error)         { return o.in.Read(p) }
func (o *output) WriteTo(w io.Writer) (int64, error) { return o.in.WriteTo(w) }

// input is a command's standard input.
type input struct {
	out  *wire.Outbox
	once sync.Once
}

func (i *input) Write(p []byte) (int, error) {
	n, err := i.out.Write(p)
	return n, inputError(err)
}

func (i *input) ReadFrom(r io.Reader) (int64, error) {
	n, err := i.out.ReadFrom(r)
	return n, inputError(err)
}

func (i *input) Close() error {
	var err error
	i.once.Do(func() { err = i.out.CloseWrite() })
	return inputError(err)
}

func inputError(err error) error {
	if errors.Is(err, wire.ErrStopped) {
		return &faas.Error{
			Kind: faas.KindFailedPrecondition, Op: "write standard input",
			Detail: "the command has closed its standard input", Err: io.ErrClosedPipe,
		}
	}
	return err
}
