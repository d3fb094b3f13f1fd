//go:build unix

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/faas-platform/faas/guest/agent"
	"github.com/faas-platform/faas/guest/machine"
)

const (
	// defaultSecretFile is where drivers put the channel secret.
	defaultSecretFile = "/run/faas/secret"
	// defaultListen is where drivers look for the agent.
	defaultListen = "unix:/run/faas/agent.sock"
	// inheritedFD is where whoever set the sandbox up leaves a socket that
	// listens already.
	inheritedFD = 3
)

// listening says whether a descriptor is a listening socket.
func listening(fd int) bool {
	v, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, soAcceptConn)
	return err == nil && v != 0
}

// settings are the agent's flags.
type settings struct {
	listen, dial, device, secretFile string
	machine                          machine.Places // of a microVM; Device is empty elsewhere
	stdio, powerOff                  bool
	vsock                            uint
	realUser                         uint
	secret                           []byte
}

func parse(args []string) (settings, error) {
	var s settings
	f := flag.NewFlagSet("faas-agent", flag.ContinueOnError)
	f.StringVar(&s.listen, "listen", os.Getenv("FAAS_AGENT_LISTEN"), "serve on `unix:PATH`, or on the listening socket fd:NUMBER (default fd:3 if that is one, else "+defaultListen+")")
	f.StringVar(&s.dial, "dial", os.Getenv("FAAS_AGENT_DIAL"), "dial the host at `unix:PATH` and serve it, again and again")
	f.StringVar(&s.device, "device", os.Getenv("FAAS_AGENT_DEVICE"), "serve on the character devices `PATH`[,PATH…] (virtio-serial), a session each")
	f.StringVar(&s.machine.Device, "control", "", "answer the host about the machine on the character device `PATH` (microVMs)")
	f.StringVar(&s.machine.Groups, "groups", "", "`DIRECTORY` of the machine's control groups, for --control")
	f.StringVar(&s.machine.Layer, "layer", "", "`DIRECTORY` of the sandbox's writable layer, for --control")
	f.BoolVar(&s.stdio, "stdio", false, "serve one session on standard input and output")
	f.UintVar(&s.vsock, "vsock", 0, "serve on vsock `PORT`")
	f.StringVar(&s.secretFile, "secret-file", cmpOr(os.Getenv("FAAS_AGENT_SECRET_FILE"), defaultSecretFile), "read the channel secret from `PATH` and remove it, or from standard input (-)")
	f.UintVar(&s.realUser, "real-user", 0, "take `UID` as real and saved user id, so that commands of root, from which CAP_KILL is withheld, cannot signal the agent: for kernels that do not spare PID 1")
	f.BoolVar(&s.powerOff, "poweroff", false, "power the machine off at the end (microVMs)")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	if s.listen == "" && s.dial == "" && s.device == "" && !s.stdio && s.vsock == 0 {
		s.listen = defaultListen
		if listening(inheritedFD) {
			s.listen = fmt.Sprintf("fd:%d", inheritedFD)
		}
	}
	return s, nil
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// serve runs the agent until it is told to shut down.
func serve(args []string) int {
	// An idle agent stays resident in every sandbox: collect early.
	debug.SetGCPercent(50)
	if runtime.GOMAXPROCS(0) > agent.MaxProcs {
		runtime.GOMAXPROCS(agent.MaxProcs)
	}
	s, err := parse(args)
	if err != nil {
		return fail(err)
	}
	secret, err := takeSecret(s.secretFile)
	if err != nil {
		return fail(err)
	}
	for _, kv := range os.Environ() {
		if key, _, _ := strings.Cut(kv, "="); strings.HasPrefix(key, "FAAS_AGENT_") {
			os.Unsetenv(key) //nolint:errcheck // it is the agent's own, and its children's not
		}
	}
	return run(s, secret)
}

func run(s settings, secret []byte) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := handleSignals(cancel)
	defer stop()
	a, err := agent.New(agent.Config{
		Secret: secret, Init: true, Protection: harden(s), Env: os.Environ(), Build: build, Log: logLine,
	})
	if err != nil {
		return fail(err)
	}
	s.secret = secret
	if err := standApart(s); err != nil {
		a.Close() //nolint:errcheck // the first error counts
		return fail(err)
	}
	if os.Getpid() == 1 {
		agent.LoopbackUp() //nolint:errcheck // where the agent may not, the driver has
	}
	var serving sync.WaitGroup
	ended := make(chan error, len(transports))
	for _, t := range transports {
		serveOn, err := t(s)
		if err != nil {
			cancel()
			return fail(err)
		}
		if serveOn != nil {
			serving.Go(func() { ended <- serveOn(ctx, a) })
		}
	}
	select {
	case <-a.Done():
	case err = <-ended:
	case <-ctx.Done():
	}
	cancel()
	a.Close() //nolint:errcheck // the end, either way
	serving.Wait()
	status := 0
	if err != nil {
		status = fail(err)
	}
	if s.powerOff && os.Getpid() == 1 {
		powerOff()
	}
	return status
}

func logLine(format string, args ...any) { fmt.Fprintf(os.Stderr, "faas-agent: "+format+"\n", args...) }

func fail(err error) int {
	if !errors.Is(err, flag.ErrHelp) {
		logLine("%v", err)
	}
	return 2
}

// takeSecret reads the channel secret, before any child exists that could, and
// removes the file.
func takeSecret(path string) ([]byte, error) {
	if path == "-" { // standard input, which the runtime ends after it
		return readSecret(os.Stdin)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the channel secret: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.EBUSY) {
		return nil, fmt.Errorf("remove the channel secret's file: %w", err)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("the channel secret in %s is empty", path)
	}
	return b, nil
}

// readSecret reads a secret to the stream's end.
func readSecret(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, 4096))
	if err == nil && len(b) == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("read the channel secret from standard input: %w", err)
	}
	return b, nil
}

// handleSignals keeps signals from ending the agent. As PID 1 it ignores all:
// those that reach it come from its children as well as from outside, and the
// host has Shutdown and SIGKILL. Elsewhere the usual two end it.
func handleSignals(cancel func()) (stop func()) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case sig := <-signals:
				if os.Getpid() != 1 && (sig == syscall.SIGTERM || sig == syscall.SIGINT) {
					cancel()
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// server serves an agent until ctx ends.
type server func(ctx context.Context, a *agent.Agent) error

// transports make a server of each way to the host that is asked for.
var transports = []func(settings) (server, error){listenUnix, dialOut, serveStdio, serveDevices, serveVsock, serveMachine}

func unixPath(flagName, value string) (string, error) {
	path, ok := strings.CutPrefix(value, "unix:")
	if !ok || path == "" {
		return "", fmt.Errorf("--%s %s: not of the form unix:PATH", flagName, value)
	}
	return path, nil
}

func listenUnix(s settings) (server, error) {
	if s.listen == "" {
		return nil, nil
	}
	if number, ok := strings.CutPrefix(s.listen, "fd:"); ok {
		return listenInherited(number)
	}
	path, err := unixPath("listen", s.listen)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	old := syscall.Umask(0o077) // the socket is for the agent's own host
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, a *agent.Agent) error { return a.Serve(ctx, l) }, nil
}

// listenInherited serves a socket that listens already.
func listenInherited(number string) (server, error) {
	fd, err := strconv.ParseUint(number, 10, 16)
	if err != nil || !listening(int(fd)) {
		return nil, fmt.Errorf("--listen fd:%s: not a listening socket", number)
	}
	f := os.NewFile(uintptr(fd), "listener")
	l, err := net.FileListener(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return func(ctx context.Context, a *agent.Agent) error { return a.Serve(ctx, l) }, nil
}
