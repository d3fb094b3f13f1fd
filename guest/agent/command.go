//go:build unix

package agent

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// prefixCommand begins the ids of commands.
const prefixCommand = "cmd"

// detachedTimeout is how long, after a checkpoint, the output of a command
// waits for its host. Then it is dropped, so that the command can go on.
const detachedTimeout = 5 * time.Minute

// commandArgs is what the client sends of a command.
type commandArgs struct {
	guest.Command
	DiscardStdout bool          `json:"discard_stdout"`
	DiscardStderr bool          `json:"discard_stderr"`
	Linger        time.Duration `json:"linger"`
}

// command is one command, from its start until its streams have ended.
type command struct {
	agent *Agent
	id    string
	args  commandArgs

	stdin  *wire.Inbox
	out    [2]*wire.Outbox
	notice *wire.Outbox // for messages: they wait while detached, too

	mu       sync.Mutex
	stream   *wire.Stream
	released bool // nobody wants the output
	unwanted bool // it is to be killed as soon as it has started
	detached bool
	timedOut bool
	orphan   *time.Timer
	echoed   chan struct{} // closed when the client has detached, too
	ready    chan struct{} // closed when the command has started, or will not
	exited   chan struct{} // closed when the command has ended
	killed   chan struct{} // not nil: a kill is under way; closed after it

	process *process
}

func (a *Agent) acceptExec(st *wire.Stream, raw json.RawMessage) wire.Handler {
	c := &command{
		agent: a, id: faas.NewID(prefixCommand), stream: st,
		stdin: wire.NewInbox(0), notice: wire.NewOutbox(0), ready: make(chan struct{}), exited: make(chan struct{}),
	}
	c.out = [2]*wire.Outbox{wire.NewOutbox(0), wire.NewOutbox(1)}
	if err := json.Unmarshal(raw, &c.args); err != nil {
		return refuse(a, st, faas.Errorf(faas.KindInvalidArgument, "the command cannot be read: %v", err))
	}
	st.Use([2]*wire.Inbox{c.stdin}, c.out)
	a.mu.Lock()
	a.commands[c.id] = c
	a.mu.Unlock()
	if !a.own(c.run) {
		a.forget(c)
		return refuse(a, st, errClosed())
	}
	return c
}

func (a *Agent) forget(c *command) {
	a.mu.Lock()
	delete(a.commands, c.id)
	a.mu.Unlock()
}

// run takes the command from its start to the end of its streams.
func (c *command) run() {
	defer c.agent.forget(c)
	p, err := c.agent.spawner.start(c)
	if err != nil {
		answer := wire.Answer{Error: wire.EncodeError(err)}
		var ce *commandError
		if errors.As(err, &ce) {
			answer.Error.Cause = ce.cause
		}
		close(c.ready)
		close(c.exited)
		c.stream.Message(wire.FrameResult, answer) //nolint:errcheck // nobody is left to tell
		c.stream.End()
		return
	}
	c.mu.Lock()
	c.process = p
	early, st := c.unwanted, c.stream
	c.mu.Unlock()
	st.Message(wire.FrameReply, wire.Answer{Value: wire.Started{ID: c.id, PID: p.pid}}) //nolint:errcheck // Closed tells
	c.attach(st, [2]int{wire.Window, wire.Window})
	if early {
		c.abort()
	}
	close(c.ready)
	if c.args.Timeout > 0 {
		t := time.AfterFunc(c.args.Timeout, c.timeOut)
		defer t.Stop()
	}
	var pumps sync.WaitGroup
	for i, f := range p.outputs {
		if f != nil {
			pumps.Go(func() { c.pump(f, c.out[i]) })
		}
	}
	if p.stdin != nil {
		pumps.Go(func() { c.feed(p.stdin) })
	}
	exit := p.wait()
	c.ended(exit)
	pumps.Wait()
	p.close()
	c.conclude()
}

// ended records the end of the command and tells the client.
func (c *command) ended(exit guest.Exit) {
	c.mu.Lock()
	exit.TimedOut = c.timedOut
	close(c.exited)
	killed := c.killed
	c.mu.Unlock()
	if killed != nil {
		<-killed // an exit after a kill says that everything is gone
	}
	c.stdin.Discard()
	c.process.exited(c.args.Linger)
	c.notice.Message(wire.FrameReply, wire.Answer{Value: struct { //nolint:errcheck // Closed tells
		Exit guest.Exit `json:"exit"`
	}{exit}})
}

// conclude sends the last message of the command's stream.
func (c *command) conclude() {
	c.notice.Final(wire.FrameResult, wire.Answer{}) //nolint:errcheck // Closed tells
	c.mu.Lock()
	st := c.stream
	if c.orphan != nil {
		c.orphan.Stop()
	}
	c.mu.Unlock()
	st.End()
}

// attach lets the command's output go to a stream.
func (c *command) attach(st *wire.Stream, room [2]int) {
	for i, out := range c.out {
		out.Attach(st, max(0, min(room[i], wire.Window)))
	}
	c.notice.Attach(st, 0)
}

// pump copies one output until it ends, and drops it once nobody wants it.
func (c *command) pump(f *outputFile, out *wire.Outbox) {
	var src io.Reader = f
	if c.args.TTY != nil {
		src = onlyReader{f} // a terminal is no pipe
	}
	_, err := out.ReadFrom(src)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		out.CloseWrite() //nolint:errcheck // Closed tells
	}
	if err != nil {
		c.agent.drain(f)
	}
}

// drain reads what nobody wants, so that a process that still writes to it
// goes on. It takes the file over.
func (a *Agent) drain(f *outputFile) {
	f.takeOver()
	if !a.own(func() {
		stop := a.onClose(f.close)
		defer stop()
		io.Copy(io.Discard, onlyReader{f.file}) //nolint:errcheck // its end, either way
		f.close()
	}) {
		f.close()
	}
}

type onlyReader struct{ io.Reader }

// feed copies standard input until it or the command ends.
func (c *command) feed(f *os.File) {
	_, err := c.stdin.WriteTo(f)
	switch {
	case err != nil:
		c.stdin.Discard()
	case c.args.TTY != nil:
		f.Write([]byte{endOfTransmission}) //nolint:errcheck // the terminal may be gone
		return
	}
	if c.args.TTY == nil {
		f.Close() //nolint:errcheck // a pipe's end
	}
}

// endOfTransmission is what a terminal's reader takes for the end of input.
const endOfTransmission = 4

// Message is called by the connection's reader.
func (c *command) Message(t wire.FrameType, payload []byte) {
	switch t {
	case wire.FrameReset:
		c.mu.Lock()
		c.released = true // at once: a Quiesce must not wait for a client that is gone
		c.mu.Unlock()
		c.leave()
		c.agent.own(func() {
			c.release(net.ErrClosed)
			c.abort()
		})
	case wire.FrameDetach:
		c.leave()
	case wire.FrameControl:
		var ctl wire.Control
		if json.Unmarshal(payload, &ctl) == nil {
			c.control(ctl)
		}
	}
}

func (c *command) control(ctl wire.Control) {
	c.mu.Lock()
	p := c.process
	c.mu.Unlock()
	if ctl.Kill {
		c.agent.own(c.abort)
	}
	if p == nil {
		return
	}
	if ctl.Size != nil {
		p.resize(guest.WindowSize{Cols: ctl.Size[0], Rows: ctl.Size[1]})
	}
	if ctl.Signal > 0 {
		p.signal(syscall.Signal(ctl.Signal))
	}
}

// Closed is called when the connection has ended. What was detached goes on;
// everything else has lost its host.
func (c *command) Closed(error) {
	c.mu.Lock()
	detached := c.detached
	c.mu.Unlock()
	if !detached {
		c.agent.own(func() {
			c.release(net.ErrClosed)
			c.abort()
		})
	}
}

// leave notes that the client sends nothing more on the present stream.
func (c *command) leave() {
	c.mu.Lock()
	if c.echoed != nil {
		close(c.echoed)
		c.echoed = nil
	}
	c.mu.Unlock()
}

// release stops waiting for a reader of the output.
func (c *command) release(err error) {
	c.mu.Lock()
	c.released = true
	c.mu.Unlock()
	for _, out := range c.out {
		out.Fail(err)
	}
	c.notice.Fail(err)
	c.stdin.Fail(err)
}

func (c *command) timeOut() {
	c.mu.Lock()
	c.timedOut = true
	c.mu.Unlock()
	c.abort()
}

// abort kills everything that a running command started and returns when it
// is gone.
func (c *command) abort() {
	c.mu.Lock()
	select {
	case <-c.exited:
		c.mu.Unlock()
		return
	default:
	}
	if c.process == nil {
		c.unwanted = true
		c.mu.Unlock()
		return
	}
	killed := c.killed
	if killed == nil {
		killed = make(chan struct{})
		c.killed = killed
		go func() {
			defer close(killed)
			c.agent.spawner.kill(c)
		}()
	}
	c.mu.Unlock()
	<-killed
}
