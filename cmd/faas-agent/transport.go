//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/agent"
)

const (
	// redialFast is how soon a host that is away is dialled again: a restore
	// waits for it.
	redialFast = 5 * time.Millisecond
	redialSlow = 100 * time.Millisecond
	// redialPatience is how long the host is dialled at the fast pace after it
	// has last been there.
	redialPatience = 10 * time.Second
)

// dialOut serves a host that listens: where a listening socket could not be
// checkpointed, the agent comes to the host. One connection always waits to be
// taken; once it is, it is served beside the next one.
func dialOut(s settings) (server, error) {
	if s.dial == "" {
		return nil, nil
	}
	path, err := unixPath("dial", s.dial)
	if err != nil {
		return nil, err
	}
	proof := guest.DialOutProof(s.secret)
	return func(ctx context.Context, a *agent.Agent) error {
		var serving sync.WaitGroup
		defer serving.Wait()
		return again(ctx, func() bool {
			conn, err := net.Dial("unix", path)
			if err != nil {
				return false
			}
			if err := offer(ctx, conn, proof); err != nil {
				conn.Close() //nolint:errcheck // given up
				return true  // the host was there: it comes back after a checkpoint
			}
			serving.Go(func() { a.ServeConn(ctx, conn) }) //nolint:errcheck // the client is told
			return true
		})
	}, nil
}

// offer shows the host who dials and waits until the connection is taken.
func offer(ctx context.Context, conn net.Conn, proof []byte) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // ends the wait
	defer stop()
	if _, err := conn.Write(proof); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// again calls attempt until ctx ends, with a pause where it failed.
func again(ctx context.Context, attempt func() bool) error {
	for last := time.Now(); ctx.Err() == nil; {
		if attempt() {
			last = time.Now()
		}
		pause := redialFast
		if time.Since(last) > redialPatience {
			pause = redialSlow
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return nil
}

// serveStdio serves one session on standard input and output.
func serveStdio(s settings) (server, error) {
	if !s.stdio {
		return nil, nil
	}
	return func(ctx context.Context, a *agent.Agent) error {
		return a.ServeDialled(ctx, newFileConn(os.Stdin, os.Stdout))
	}, nil
}

// fileConn is a connection made of files.
type fileConn struct {
	io.Reader
	io.Writer
	close func() error
}

func newFileConn(r, w *os.File) *fileConn {
	return &fileConn{Reader: r, Writer: w, close: func() error { return errors.Join(r.Close(), w.Close()) }}
}

type fileAddr struct{}

func (fileAddr) Network() string { return "file" }
func (fileAddr) String() string  { return "file" }

func (c *fileConn) Close() error                   { return c.close() }
func (*fileConn) LocalAddr() net.Addr              { return fileAddr{} }
func (*fileConn) RemoteAddr() net.Addr             { return fileAddr{} }
func (*fileConn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (*fileConn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (*fileConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// connect is the shim that a runtime's own exec starts: it copies between its
// standard streams and the agent's socket.
func connect(args []string) int {
	if len(args) != 1 {
		return fail(errors.New("usage: faas-agent connect SOCKET"))
	}
	conn, err := net.Dial("unix", args[0])
	if err != nil {
		return fail(err)
	}
	done := make(chan error, 2)
	go func() {
		_, err := io.Copy(conn, os.Stdin)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite() //nolint:errcheck // the copy back tells
		}
		if err != nil {
			done <- err
		}
	}()
	go func() {
		_, err := io.Copy(os.Stdout, conn)
		done <- err
	}()
	if err := <-done; err != nil {
		return fail(err)
	}
	return 0
}
