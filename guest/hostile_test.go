package guest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

var testSecret = []byte("a secret of the test")

// hostile returns a client whose agent is f, called once per connection.
func hostile(t testing.TB, f func(conn net.Conn)) *Client {
	c := NewClient(func(context.Context) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			defer b.Close()
			f(b)
		}()
		return a, nil
	}, Options{Secret: testSecret})
	t.Cleanup(func() { c.Close() })
	return c
}

// proved completes the handshake, takes the first request, swallows what the client sends, and says
// what it likes.
func proved(f func(conn net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := wire.AgentHandshake(conn, testSecret, wire.Supported()); err != nil {
			return
		}
		head := make([]byte, wire.HeaderSize)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		if h, err := wire.ParseHeader(head); err != nil {
			return
		} else if _, err := io.CopyN(io.Discard, conn, int64(h.Length)); err != nil {
			return
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			io.Copy(io.Discard, conn)
		}()
		f(conn)
		<-ended
	}
}

func frame(t wire.FrameType, channel uint8, stream uint32, payload string) []byte {
	b := make([]byte, wire.HeaderSize+len(payload))
	wire.Header{Type: t, Channel: channel, Stream: stream, Length: uint32(len(payload))}.Put(b)
	copy(b[wire.HeaderSize:], payload)
	return b
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAgentThatNeverAnswers(t *testing.T) {
	c := hostile(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	if _, err := c.Hello(within(t, 50*time.Millisecond)); !errors.Is(err, faas.ErrDeadlineExceeded) && faas.KindOf(err) != faas.KindDeadlineExceeded {
		t.Error(err)
	}
	c = hostile(t, proved(func(net.Conn) {}))
	if _, err := c.Hello(within(t, 50*time.Millisecond)); faas.KindOf(err) != faas.KindDeadlineExceeded {
		t.Error(err)
	}
	start := time.Now()
	if _, err := c.Run(within(t, 50*time.Millisecond), Command{Args: []string{"x"}}, nil, nil, nil); faas.KindOf(err) != faas.KindDeadlineExceeded {
		t.Error(err)
	}
	if took := time.Since(start); took > killTimeout+5*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestAgentThatDoesNotRead stops reading after the handshake.
func TestAgentThatDoesNotRead(t *testing.T) {
	c := hostile(t, func(conn net.Conn) {
		if _, err := wire.AgentHandshake(conn, testSecret, wire.Supported()); err == nil {
			<-t.Context().Done()
		}
	})
	done := make(chan error, 1)
	go func() {
		_, err := c.Hello(within(t, 50*time.Millisecond))
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Hello does not return")
	}
}

func TestAgentThatTalksNonsense(t *testing.T) {
	for name, say := range map[string]string{
		"garbage":        strings.Repeat("\xff\x00garbage", 100),
		"lying size":     string(frame(wire.FrameResult, 0, 1, ""))[:8] + "\xff\xff\xff\xff",
		"not JSON":       string(frame(wire.FrameResult, 0, 1, "{")),
		"wrong JSON":     string(frame(wire.FrameResult, 0, 1, `{"value":[1]}`)),
		"opens a stream": string(frame(wire.FrameOpen, 0, 2, `{}`)),
		"odd error":      string(frame(wire.FrameResult, 0, 1, `{"error":{"kind":"surprise","detail":"d"}}`)),
		"huge window":    string(frame(wire.FrameWindow, 0, 1, "\xff\xff\xff\xff")) + "\x00",
	} {
		c := hostile(t, proved(func(conn net.Conn) {
			io.WriteString(conn, say)
			conn.Close()
		}))
		_, err := c.Hello(within(t, 5*time.Second))
		var e *faas.Error
		if !errors.As(err, &e) || e.Kind == faas.KindDeadlineExceeded {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := hostile(t, func(conn net.Conn) { io.WriteString(conn, strings.Repeat("SSH-2.0", 100)) })
	if _, err := c.Hello(within(t, 50*time.Millisecond)); err == nil {
		t.Error("another protocol was taken for the agent's")
	}
}

// TestAgentThatFloods sends more output than the window allows.
func TestAgentThatFloods(t *testing.T) {
	c := hostile(t, proved(func(conn net.Conn) {
		conn.Write(frame(wire.FrameReply, 0, 1, `{"value":{"id":"x","pid":7}}`))
		data := frame(wire.FrameData, 0, 1, strings.Repeat("x", wire.MaxData))
		for range 4 * wire.Window / wire.MaxData {
			if _, err := conn.Write(data); err != nil {
				return
			}
		}
		t.Error("all of it was taken")
	}))
	e, err := c.Start(within(t, 10*time.Second), Command{Args: []string{"x"}})
	if err != nil {
		return // the connection has failed already
	}
	if _, err := e.Wait(within(t, 10*time.Second)); err == nil {
		t.Error("no error")
	}
}

func FuzzClient(f *testing.F) {
	f.Add(append(frame(wire.FrameReply, 0, 1, `{"value":{"id":"x","pid":7}}`), frame(wire.FrameReply, 0, 1, `{"value":{"exit":{"code":1}}}`)...))
	f.Add(append(frame(wire.FrameReply, 0, 1, `{"value":{"name":"x"}}`), frame(wire.FrameData, 0, 1, `{"name":"x"}`)...))
	f.Add(frame(wire.FrameDetach, 0, 1, ""))
	f.Add(frame(wire.FrameGoAway, 0, 0, "\x00\x00\x00\x00"))
	f.Add(frame(wire.FrameResult, 0, 1, `{"error":{"kind":"not_found","cause":"not_found"}}`))
	f.Fuzz(func(t *testing.T, say []byte) {
		calls := []func(ctx context.Context, c *Client){
			func(ctx context.Context, c *Client) { c.Hello(ctx) },
			func(ctx context.Context, c *Client) { c.List(ctx, "/") },
			func(ctx context.Context, c *Client) { c.WriteFile(ctx, "/", strings.NewReader("x"), WriteOptions{}) },
			func(ctx context.Context, c *Client) {
				c.Run(ctx, Command{Args: []string{"x"}}, strings.NewReader("in"), io.Discard, io.Discard)
			},
			func(ctx context.Context, c *Client) {
				if r, _, err := c.ReadFile(ctx, "/", 0, -1); err == nil {
					io.Copy(io.Discard, r)
					r.Close()
				}
			},
		}
		for _, call := range calls {
			c := hostile(t, proved(func(conn net.Conn) {
				conn.Write(say)
				conn.Close()
			}))
			call(within(t, 300*time.Millisecond), c)
			c.Close()
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"error":{"kind":"internal"}}`), []byte(`{"exit":{"code":1},"stdin":-5}`))
	f.Fuzz(func(t *testing.T, response, value []byte) {
		e := newExec(&Client{}, Command{Stdin: true})
		l := &execLink{exec: e}
		var r wire.Response
		if json.Unmarshal(response, &r) == nil {
			l.answer(wire.FrameReply, r)
		}
		l.answer(wire.FrameReply, wire.Response{Value: value})
		l.answer(wire.FrameResult, wire.Response{})
		if !isClosed(e.ended) || !isClosed(e.started) {
			t.Fatal("the command goes on after its last message")
		}
	})
}
