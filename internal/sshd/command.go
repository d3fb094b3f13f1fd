package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

const (
	// hangUpGrace is how long a command has to end once its client is gone.
	hangUpGrace = 3 * time.Second
	// exitNoCommand is what a session that could not run anything exits with.
	exitNoCommand = 255
)

// command runs a shell line in the instance, or an interactive shell when line
// is empty. original is what the client asked for where it gets something else.
func (s *session) command(line, original string) {
	var exit guest.Exit
	err := s.guest(s.ctx, func(g *guest.Client) error {
		who, err := s.who(g)
		if err != nil {
			return err
		}
		if who.shell == "" {
			return errNoShell
		}
		command := guest.Command{
			Args: []string{who.shell, "-l"}, Dir: who.home, User: who.user, Stdin: true, Session: true,
			Env: s.environment(who, original),
		}
		if line != "" {
			command.Args = []string{who.shell, "-c", line}
		}
		if s.pty != nil {
			command.TTY = &s.pty.size
		}
		if s.agent {
			socket, stop, err := s.forwardAgent(g, who)
			if err != nil {
				fmt.Fprintf(s.channel.Stderr(), "faas: the agent is not forwarded: %v\r\n", err)
			} else {
				defer stop()
				command.Env = append(command.Env, "SSH_AUTH_SOCK="+socket)
			}
		}
		exit, err = s.run(g, command)
		return err
	})
	if err != nil && s.ctx.Err() == nil {
		s.fail(err)
		return
	}
	s.exit(exit)
}

// run runs a command with the channel as its streams. When the channel ends
// first the command is hung up, and killed when that does not end it.
func (s *session) run(g *guest.Client, command guest.Command) (guest.Exit, error) {
	ctx, kill := context.WithCancel(context.WithoutCancel(s.ctx))
	defer kill()
	ended := make(chan struct{})
	defer close(ended)
	command.Attach = func(e *guest.Exec) {
		s.work.Go(func() { s.controls(ctx, e, ended, kill) })
	}
	// The channel's end, not the command's, ends the reading of its input.
	return g.Run(ctx, command, s.channel, s.channel, s.channel.Stderr())
}

// controls passes signals and sizes on while a command runs, and ends it when
// its client is gone.
func (s *session) controls(ctx context.Context, e *guest.Exec, ended <-chan struct{}, kill context.CancelFunc) {
	for {
		select {
		case tell := <-s.control:
			limited, cancel := context.WithTimeout(ctx, hangUpGrace)
			tell(limited, e)
			cancel()
		case <-ended:
			return
		case <-s.ctx.Done():
			limited, cancel := context.WithTimeout(ctx, hangUpGrace)
			defer cancel()
			e.Signal(limited, sigHangUp) //nolint:errcheck // killed below
			select {
			case <-ended:
			case <-limited.Done():
				kill()
			}
			return
		}
	}
}

// environment is what a command finds besides the instance's own variables.
func (s *session) environment(who account, original string) []string {
	env := []string{"HOME=" + who.home, "USER=" + who.name, "LOGNAME=" + who.name, "SHELL=" + who.shell}
	client, server := hostPort(s.ssh.RemoteAddr()), hostPort(s.ssh.LocalAddr())
	env = append(env,
		fmt.Sprintf("SSH_CLIENT=%s %s %s", client[0], client[1], server[1]),
		fmt.Sprintf("SSH_CONNECTION=%s %s %s %s", client[0], client[1], server[0], server[1]))
	if s.pty != nil {
		env = append(env, "TERM="+orElse(s.pty.kind, "dumb"), "SSH_TTY=/dev/tty")
	}
	if original != "" {
		env = append(env, "SSH_ORIGINAL_COMMAND="+original)
	}
	return append(env, s.env...)
}

func hostPort(address net.Addr) [2]string {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return [2]string{"127.0.0.1", "0"}
	}
	return [2]string{host, port}
}

// acceptable says whether a client may set a variable. Where a command is
// forced on it, only what cannot change what that does.
func acceptable(name string, forced bool) bool {
	if name == "" || len(name) > 256 || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	for _, r := range name {
		if !(r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') {
			return false
		}
	}
	return !forced || name == "LANG" || strings.HasPrefix(name, "LC_")
}

func containsZero(text string) bool { return strings.IndexByte(text, 0) >= 0 }

// fail tells the client why nothing ran.
func (s *session) fail(err error) {
	end := "\n"
	if s.pty != nil {
		end = "\r\n"
	}
	io.WriteString(s.channel.Stderr(), "faas: "+explain(err)+end) //nolint:errcheck // the client may be gone
	s.exit(guest.Exit{Code: exitNoCommand})
}

// explain is an error in words for the client, without what is the platform's
// own business.
func explain(err error) string {
	var e *faas.Error
	switch {
	case !errors.As(err, &e):
		return err.Error()
	case e.Kind == faas.KindInternal:
		return "the platform failed"
	}
	public := *e
	public.Err = nil
	return public.Error()
}

// exit reports how the command ended.
func (s *session) exit(exit guest.Exit) {
	s.channel.CloseWrite() //nolint:errcheck // the client may be gone
	if exit.Signal == "" {
		s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(exit.Code)})) //nolint:errcheck // the client may be gone
		return
	}
	name := strings.TrimPrefix(exit.Signal, "SIG")
	if _, known := signals[name]; !known {
		name = "SIG@openssh.com" // RFC 4254 wants others to have a domain
	}
	s.channel.SendRequest("exit-signal", false, ssh.Marshal(struct { //nolint:errcheck // the client may be gone
		Name    string
		Core    bool
		Message string
		Tag     string
	}{name, false, exit.Signal, ""}))
}
