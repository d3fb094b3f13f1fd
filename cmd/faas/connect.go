package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/client"
	"github.com/faas-platform/faas/internal/config"
	"github.com/faas-platform/faas/internal/gateway"
)

// target is where a command that speaks to a server finds one.
type target struct {
	Server string `help:"Server to ask (default: api.url; without one, the server of this installation, or this process itself)." placeholder:"URL"`
}

// connect returns a client of the server that is configured, of the one that
// serves this installation, or of a gateway inside this process, so that
// commands are the same for all three. close ends what was opened for it.
func (t target) connect(ctx context.Context, line *commands) (c *client.Client, done func(), err error) {
	cfg, err := line.load(flag("--server", "api.url", t.Server)...)
	if err != nil {
		return nil, nil, err
	}
	if cfg.API.URL == "" {
		cfg.API.URL = servedAt(ctx, cfg)
	}
	remote, err := server(cfg)
	if err != nil || remote != nil {
		return remote, func() {}, err
	}
	engine, closeEngine, err := library(ctx, cfg, faas.RuntimeAuto)
	if err != nil {
		return nil, nil, err
	}
	gate, err := gateway.New(gateway.Options{Executor: engine, Version: version, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		closeEngine()
		return nil, nil, err
	}
	listener := newPipeListener()
	inside := gate.Server()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = inside.Serve(listener) //nolint:errcheck // ended by Close
	}()
	c, err = client.New(client.Options{
		URL: "http://localhost", Key: "none", HTTP: &http.Client{Transport: &http.Transport{DialContext: listener.dial}},
	})
	return c, func() {
		gate.Close()
		_ = inside.Close() //nolint:errcheck // connections only
		<-served
		closeEngine()
	}, err
}

// addressFile is where a server says how to reach it, in its data directory.
const addressFile = "server.url"

// announce writes the address of a server for commands of this installation;
// withdraw removes it.
func announce(cfg *config.Loaded, address net.Addr) (withdraw func()) {
	path := filepath.Join(cfg.Data.Dir, addressFile)
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return func() {}
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	content := "http://" + net.JoinHostPort(host, port) + "\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return func() {} // commands name the server themselves then
	}
	return func() { os.Remove(path) }
}

// servedAt is the address of the server of this installation, "" when none
// answers.
func servedAt(ctx context.Context, cfg *config.Loaded) string {
	content, err := os.ReadFile(filepath.Join(cfg.Data.Dir, addressFile))
	if err != nil {
		return ""
	}
	url := strings.TrimSpace(string(content))
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := client.New(client.Options{URL: url, Key: "none"})
	if err == nil {
		_, err = c.Health(ctx)
	}
	if err != nil {
		return ""
	}
	return url
}

// pipeListener takes connections from inside this process.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "inside", Net: "pipe"} }

// with runs a command that speaks to a server.
func (t target) with(line *commands, use func(ctx context.Context, c *client.Client) error) error {
	ctx, stop := interruptible()
	defer stop()
	c, done, err := t.connect(ctx, line)
	if err != nil {
		return err
	}
	defer done()
	return use(ctx, c)
}

// eachOf does something to each of several things, and says of each that could
// not be done why; the error is the first.
func eachOf(refs []string, do func(ref string) error) error {
	var errs []error
	for _, ref := range refs {
		if err := do(ref); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
