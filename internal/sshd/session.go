package sshd

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/internal/audit"
)

const (
	maxVariables     = 128
	maxVariableBytes = 64 << 10 // of all together
	// pendingControls bounds the signals and sizes that wait for a command;
	// what comes too fast is dropped.
	pendingControls = 64
)

// session is one session channel.
type session struct {
	*connection
	ctx     context.Context // ends with the channel
	cancel  context.CancelFunc
	channel ssh.Channel
	env     []string
	size    int // bytes of env
	pty     *terminal
	agent   bool // the client's agent is wanted
	// control takes what is for the command that runs.
	control chan func(context.Context, *guest.Exec)
	started bool
}

// terminal is what a client says of its terminal.
type terminal struct {
	kind string // for TERM
	size guest.WindowSize
}

// session serves a session channel.
func (c *connection) session(incoming ssh.NewChannel) {
	channel, requests, err := incoming.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	s := &session{connection: c, channel: channel, control: make(chan func(context.Context, *guest.Exec), pendingControls)}
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	done := make(chan struct{})
	// Until the client has closed the channel, or the connection ends. Nothing
	// in here waits: the requests of one channel hold up all others.
	for request := range requests {
		run := s.request(request)
		if run == nil {
			continue
		}
		c.work.Go(func() {
			defer close(done)
			defer channel.Close()
			run()
		})
	}
	s.cancel()
	if s.started {
		<-done
	}
}

// request answers one request and returns what it starts, if anything.
func (s *session) request(request *ssh.Request) (run func()) {
	ok := false
	switch request.Type {
	case "env":
		ok = s.setVariable(request.Payload)
	case "pty-req":
		ok = s.openTerminal(request.Payload)
	case "window-change":
		ok = s.resize(request.Payload)
	case "signal":
		ok = s.signal(request.Payload)
	case "auth-agent-req@openssh.com":
		ok = s.server.opts.AgentForwarding && !s.login.NoAgent && !s.started
		s.agent = s.agent || ok
	case "shell", "exec", "subsystem":
		run = s.start(request)
		ok = run != nil
	}
	if request.WantReply {
		request.Reply(ok, nil) //nolint:errcheck // the connection has ended then
	}
	return run
}

// start returns what a request to start something starts; nil when it is
// refused.
func (s *session) start(request *ssh.Request) func() {
	if s.started {
		return nil
	}
	var asked struct{ Text string }
	if request.Type != "shell" && ssh.Unmarshal(request.Payload, &asked) != nil {
		return nil
	}
	details := map[string]string{"type": request.Type}
	var run func()
	forced := s.login.ForcedCommand
	switch {
	case forced != "":
		details["command"] = clip(forced)
		original := asked.Text
		run = func() { s.command(forced, original) }
	case request.Type == "shell":
		run = func() { s.command("", "") }
	case request.Type == "exec":
		details["command"] = clip(asked.Text)
		run = func() { s.command(asked.Text, "") }
	case asked.Text == "sftp":
		details["command"] = "sftp"
		run = s.files
	default:
		return nil
	}
	s.started = true
	return func() {
		s.audit("ssh-"+request.Type, audit.OutcomeDone, details)
		run()
	}
}

// maxAudited bounds what of a command stands in the audit log.
const maxAudited = 4 << 10

func clip(text string) string {
	if len(text) > maxAudited {
		return text[:maxAudited] + "…"
	}
	return text
}

func (s *session) setVariable(payload []byte) bool {
	var v struct{ Name, Value string }
	if ssh.Unmarshal(payload, &v) != nil || s.started || !acceptable(v.Name, s.login.ForcedCommand != "") {
		return false
	}
	size := len(v.Name) + len(v.Value)
	if len(s.env) >= maxVariables || s.size+size > maxVariableBytes || containsZero(v.Value) {
		return false
	}
	s.env, s.size = append(s.env, v.Name+"="+v.Value), s.size+size
	return true
}

// openTerminal takes a pty-req. The modes of the client's terminal are not
// taken over: the sandbox's are the usual ones.
func (s *session) openTerminal(payload []byte) bool {
	var asked struct {
		Term                      string
		Cols, Rows, Width, Height uint32
		Modes                     string
	}
	if ssh.Unmarshal(payload, &asked) != nil || s.started || s.login.NoTerminal || len(asked.Term) > 128 || containsZero(asked.Term) {
		return false
	}
	s.pty = &terminal{kind: asked.Term, size: windowSize(asked.Cols, asked.Rows)}
	return true
}

func windowSize(cols, rows uint32) guest.WindowSize {
	limit := func(n uint32) uint16 { return uint16(min(n, 1<<16-1)) }
	return guest.WindowSize{Cols: limit(cols), Rows: limit(rows)}
}

func (s *session) resize(payload []byte) bool {
	var asked struct{ Cols, Rows, Width, Height uint32 }
	if ssh.Unmarshal(payload, &asked) != nil || s.pty == nil {
		return false
	}
	size := windowSize(asked.Cols, asked.Rows)
	if !s.started {
		s.pty.size = size
		return true
	}
	s.tell(func(ctx context.Context, e *guest.Exec) {
		e.Resize(ctx, size) //nolint:errcheck // the command has ended then
	})
	return true
}

func (s *session) signal(payload []byte) bool {
	var asked struct{ Name string }
	if ssh.Unmarshal(payload, &asked) != nil || !s.started {
		return false
	}
	number, ok := signals[asked.Name]
	if !ok {
		return false
	}
	s.tell(func(ctx context.Context, e *guest.Exec) {
		e.Signal(ctx, number) //nolint:errcheck // the command has ended then
	})
	return true
}

// tell passes something on to the command, which may not run yet.
func (s *session) tell(what func(context.Context, *guest.Exec)) {
	select {
	case s.control <- what:
	default: // a client that floods loses some
	}
}

// signals are those of RFC 4254 with their numbers on Linux, which is what
// sandboxes run, whatever this host is.
var signals = map[string]syscall.Signal{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12,
	"PIPE": 13, "ALRM": 14, "TERM": 15,
}

const sigHangUp = syscall.Signal(1)

var errNoShell = errors.New("the image has no shell")
