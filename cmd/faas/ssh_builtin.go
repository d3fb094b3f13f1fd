package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"github.com/faas-platform/faas"
)

const (
	builtinDialTimeout = 30 * time.Second
	// sizeInterval is how often the size of the terminal is looked at: not
	// every system says when it changes.
	sizeInterval = 250 * time.Millisecond
)

// builtin logs in with the client in this program, for systems without ssh. It
// runs a command or a shell; forwarding is the system's ssh's.
func (c *sshCommand) builtin(l *login) error {
	if len(c.Local)+len(c.Remote)+len(c.Dynamic)+len(c.Option) > 0 || c.Agent || c.NoShell {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "ssh", Detail: "the client in this program runs commands and shells only",
			Remedy: "install OpenSSH's client to forward anything or to give it options"}
	}
	client, err := l.dial(l.userName(c.User))
	if err != nil {
		return err
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return faas.Errorf(faas.KindUnavailable, "open a session: %w", err)
	}
	defer session.Close()
	session.Stdin, session.Stdout, session.Stderr = os.Stdin, os.Stdout, os.Stderr
	if c.Tty || len(c.Command) == 0 && term.IsTerminal(int(os.Stdin.Fd())) {
		restore, err := terminalFor(session)
		if err != nil {
			return err
		}
		defer restore()
	}
	if len(c.Command) > 0 {
		err = session.Run(commandLine(c.Command))
	} else if err = session.Shell(); err == nil {
		err = session.Wait()
	}
	var exit *ssh.ExitError
	switch {
	case errors.As(err, &exit) && exit.Signal() != "":
		return exitError(255)
	case errors.As(err, &exit):
		return exitError(exit.ExitStatus())
	}
	return err
}

// dial connects with the login's certificate, to a server with one of the
// published keys.
func (l *login) dial(user string) (*ssh.Client, error) {
	signer, err := ssh.NewSignerFromSigner(l.private)
	if err != nil {
		return nil, err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(l.certificate))
	if err != nil {
		return nil, faas.Errorf(faas.KindInternal, "the server's certificate cannot be read: %w", err)
	}
	certificate, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, faas.Errorf(faas.KindInternal, "the server signed no certificate")
	}
	certified, err := ssh.NewCertSigner(certificate, signer)
	if err != nil {
		return nil, err
	}
	config := &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(certified)}, Timeout: builtinDialTimeout,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			for _, known := range l.about.HostKeys {
				if known.Fingerprint == ssh.FingerprintSHA256(key) {
					return nil
				}
			}
			return faas.Errorf(faas.KindPermissionDenied, "the SSH server is not the one that the API tells of: its key is %s", ssh.FingerprintSHA256(key))
		},
	}
	client, err := ssh.Dial("tcp", net.JoinHostPort(l.about.Host, strconv.Itoa(l.about.Port)), config)
	if err != nil {
		return nil, &faas.Error{Kind: faas.KindUnavailable, Op: "ssh", Detail: fmt.Sprintf("connect to %s:%d", l.about.Host, l.about.Port), Err: err}
	}
	return client, nil
}

// terminalFor gives a session this program's terminal, and follows its size.
func terminalFor(session *ssh.Session) (restore func(), err error) {
	fd := int(os.Stdin.Fd())
	cols, rows, err := term.GetSize(fd)
	if err != nil {
		cols, rows = 80, 24
	}
	kind := os.Getenv("TERM")
	if kind == "" {
		kind = "xterm"
	}
	if err := session.RequestPty(kind, rows, cols, ssh.TerminalModes{}); err != nil {
		return nil, faas.Errorf(faas.KindUnavailable, "open a terminal: %w", err)
	}
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(sizeInterval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			if c, r, err := term.GetSize(fd); err == nil && (c != cols || r != rows) {
				cols, rows = c, r
				session.WindowChange(rows, cols) //nolint:errcheck // the session has ended then
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		term.Restore(fd, old) //nolint:errcheck // nothing is left to try
	}, nil
}
