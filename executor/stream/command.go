package stream

import (
	"context"
	"syscall"

	"github.com/faas-platform/faas"
)

// Command is a command that a client started, and that it or another client
// of its session gives input to.
type Command struct {
	id      string
	session *session
	input   *Input // nil: it has none
	resize  chan faas.TerminalSize
	signals chan syscall.Signal
}

// maxCommands bounds what one session runs at once.
const maxCommands = 64

// maxPiece bounds the data of one frame.
const maxPiece = 64 << 10

// Exec starts a command in the instance and returns its execution's id. Its
// frames come through Next; it goes on when the client leaves. With input it
// waits for what Input brings, until CloseInput.
func (c *Conn) Exec(req faas.Request, input bool) (string, error) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	s := c.own()
	if s.ctx.Err() != nil {
		return "", &faas.Error{Kind: faas.KindUnavailable, Op: "run command", Detail: "the session has ended"}
	}
	if len(s.commands) >= maxCommands {
		return "", faas.Errorf(faas.KindResourceExhausted, "a stream runs at most %d commands at once", maxCommands)
	}
	if req.ID == "" {
		req.ID = faas.NewID(faas.PrefixExecution)
	}
	cmd := &Command{id: req.ID, session: s, resize: make(chan faas.TerminalSize, 1), signals: make(chan syscall.Signal, 16)}
	if input {
		cmd.input = NewInput()
		req.Stdin = &Acked{Input: cmd.input, Tell: func(total int64) {
			s.tell(Frame{Kind: StdinAck, Exec: req.ID, Bytes: total})
		}}
	}
	req.Resize, req.Signals = cmd.resize, cmd.signals
	s.commands[req.ID], s.newest = cmd, req.ID
	c.hub.tasks.Add(1)
	go func() {
		defer c.hub.tasks.Done()
		cmd.run(req, c.run)
	}()
	return req.ID, nil
}

// run runs the command to its end and tells about it.
func (cmd *Command) run(req faas.Request, exec func(context.Context, faas.Request) (*faas.Result, error)) {
	s := cmd.session
	stdout, stderr := cmd.output(Stdout), cmd.output(Stderr)
	req.Stdout, req.Stderr = stdout, stderr
	req.Started = func(e faas.Execution) {
		s.tell(Frame{Kind: Started, Exec: e.ID, Command: e.Command})
	}
	result, err := exec(s.ctx, req)
	cmd.CloseInput()
	_ = stdout.Flush() //nolint:errcheck // fails when the session has ended, and nobody hears
	_ = stderr.Flush() //nolint:errcheck // see above
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	delete(s.commands, cmd.id)
	if err != nil {
		s.append(&Frame{Kind: Failed, Exec: cmd.id, Err: err})
		return
	}
	s.append(&Frame{Kind: Exit, Exec: cmd.id, Result: result})
}

// output is a writer of frames of one kind.
func (cmd *Command) output(kind Kind) *TextWriter {
	return &TextWriter{Send: func(p []byte) error {
		for len(p) > 0 {
			n := len(p)
			if n > maxPiece {
				n = maxPiece - incomplete(p[:maxPiece])
			}
			piece := append([]byte(nil), p[:n]...)
			if err := cmd.session.write(Frame{Kind: kind, Exec: cmd.id, Data: piece}); err != nil {
				return err
			}
			p = p[n:]
		}
		return nil
	}}
}

// Command returns a running command that the client may give input to: of its
// session or, when it follows everything, of any. With an empty id it is the
// one that was started last.
func (c *Conn) Command(id string) (*Command, error) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	var found *Command
	for _, s := range c.hub.sessions {
		if s != c.session && !c.all {
			continue
		}
		name := id
		if name == "" {
			name = s.newest
		}
		// Ids sort by time: of several sessions the newest command counts.
		if cmd := s.commands[name]; cmd != nil && (found == nil || cmd.id > found.id) {
			found = cmd
		}
	}
	if found == nil {
		detail := "no command of this stream is running"
		if id != "" {
			detail = "no command of this stream is " + id
		}
		return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Op: "reach command", Detail: detail, Remedy: "send an exec frame first"}
	}
	return found, nil
}

// Input gives the command standard input. It waits while the command is a
// Window behind.
func (cmd *Command) Input(p []byte) {
	if cmd.input != nil {
		cmd.input.Add(p)
	}
}

// CloseInput ends the command's standard input.
func (cmd *Command) CloseInput() {
	if cmd.input != nil {
		cmd.input.End()
	}
}

// Resize changes the size of the command's terminal.
func (cmd *Command) Resize(size faas.TerminalSize) {
	for size.Cols > 0 && size.Rows > 0 {
		select {
		case cmd.resize <- size:
			return
		default:
		}
		select { // only the newest size matters
		case <-cmd.resize:
		default:
		}
	}
}

// Signal sends a signal, by Linux's numbers, to the command's process group.
func (cmd *Command) Signal(number syscall.Signal) error {
	select {
	case cmd.signals <- number:
		return nil
	default:
		return faas.Errorf(faas.KindResourceExhausted, "more signals wait than the command takes")
	}
}

// maxWatches bounds what one session watches.
const maxWatches = 64

// Watch reports changes below a path until the session ends or the instance's
// sandbox does; what happens then is told in a frame of kind Failed.
func (c *Conn) Watch(ctx context.Context, path string, recursive bool) error {
	agent := c.hub.instance.Agent()
	if agent == nil {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "watch", Detail: "the instance does not run", Remedy: "start or resume it first"}
	}
	c.hub.mu.Lock()
	s := c.own()
	if s.watches >= maxWatches {
		c.hub.mu.Unlock()
		return faas.Errorf(faas.KindResourceExhausted, "a stream watches at most %d paths", maxWatches)
	}
	s.watches++
	c.hub.mu.Unlock()
	forget := func() {
		c.hub.mu.Lock()
		defer c.hub.mu.Unlock()
		s.watches--
	}
	begun := make(chan error, 1)
	c.hub.tasks.Go(func() {
		defer forget()
		events, err := agent.Watch(s.ctx, path, recursive)
		begun <- err
		if err != nil {
			return
		}
		for e := range events {
			if s.write(Frame{Kind: File, Path: e.Path, Event: e.Event}) != nil {
				return
			}
		}
		if s.ctx.Err() == nil {
			s.tell(Frame{Kind: Failed, Err: &faas.Error{
				Kind: faas.KindUnavailable, Op: "watch " + path, Detail: "the sandbox was stopped", Remedy: "watch again once it runs",
			}})
		}
	})
	select {
	case err := <-begun:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
