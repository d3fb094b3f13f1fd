package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/faas-platform/faas"
)

var testSecret = []byte("a secret of the test")

// handshake runs both ends over a pipe.
func handshake(client, agent []byte, speaksClient, speaksAgent Versions) (int, error, int, error) {
	a, b := net.Pipe()
	type result struct {
		version int
		err     error
	}
	done := make(chan result, 1)
	go func() {
		v, err := AgentHandshake(b, agent, speaksAgent)
		b.Close()
		done <- result{v, err}
	}()
	v, proof, err := ClientHandshake(a, client, speaksClient)
	if err == nil {
		a.Write(proof)
	}
	a.Close()
	r := <-done
	return v, err, r.version, r.err
}

func TestHandshake(t *testing.T) {
	v, cerr, av, aerr := handshake(testSecret, testSecret, Versions{1, 3}, Versions{2, 5})
	if v != 3 || av != 3 || cerr != nil || aerr != nil {
		t.Error(v, cerr, av, aerr)
	}
	if _, cerr, _, aerr := handshake(testSecret, []byte("another"), Supported(), Supported()); !errors.Is(cerr, faas.ErrUnauthenticated) || aerr == nil {
		t.Error(cerr, aerr)
	}
	if _, cerr, _, aerr := handshake(testSecret, testSecret, Versions{1, 2}, Versions{3, 4}); !errors.Is(cerr, faas.ErrFailedPrecondition) || aerr == nil {
		t.Error(cerr, aerr)
	}
	if _, cerr, _, _ := handshake(nil, testSecret, Supported(), Supported()); !errors.Is(cerr, faas.ErrUnauthenticated) {
		t.Error(cerr)
	}
}

// scripted is a peer that says what it says, whatever it hears.
type scripted struct {
	io.Reader
	heard bytes.Buffer
}

func (s *scripted) Write(p []byte) (int, error) { return s.heard.Write(p) }

// TestAgentDoesNotAnswerAnImpostor reflects the agent's own proof.
func TestAgentDoesNotAnswerAnImpostor(t *testing.T) {
	hello := newHello(clientMagic, Supported())
	agent := newHello(agentMagic, Supported())
	forged := append(append([]byte{}, hello...), proof(testSecret, agentLabel, hello, agent)...)
	if _, err := AgentHandshake(&scripted{Reader: bytes.NewReader(forged)}, testSecret, Supported()); err == nil {
		t.Error("a proof of the other direction was taken")
	}
}

func FuzzAgentHandshake(f *testing.F) {
	f.Add(newHello(clientMagic, Supported()))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, err := AgentHandshake(&scripted{Reader: bytes.NewReader(in)}, testSecret, Supported()); err == nil {
			t.Fatal("proved without the secret")
		}
	})
}

func FuzzClientHandshake(f *testing.F) {
	f.Add(append(newHello(agentMagic, Supported()), make([]byte, proofSize)...))
	f.Add([]byte("SSH-2.0-OpenSSH\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, _, err := ClientHandshake(&scripted{Reader: bytes.NewReader(in)}, testSecret, Supported()); err == nil {
			t.Fatal("proved without the secret")
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	f.Add(frame(FrameOpen, 0, 1, nil))
	f.Add(frame(FrameData, 1, 7, []byte("x")))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < HeaderSize {
			return
		}
		h, err := ParseHeader(in)
		if err != nil {
			return
		}
		if h.Length > MaxMessage || h.Channel >= channels {
			t.Fatalf("%+v", h)
		}
		out := make([]byte, HeaderSize)
		h.Put(out)
		if again, err := ParseHeader(out); err != nil || again != h {
			t.Fatal(again, h, err)
		}
	})
}

// seedFrames are the frames that peers send, right and wrong.
func seedFrames(f *testing.F) {
	open := func(id uint32, op string) []byte {
		b, _ := json.Marshal(Outgoing{Op: op})
		return frame(FrameOpen, 0, id, b)
	}
	f.Add(bytes.Join([][]byte{open(1, OpHello), frame(FrameData, 0, 1, []byte("data")), frame(FrameEnd, 0, 1, nil)}, nil))
	f.Add(bytes.Join([][]byte{open(1, OpExec), frame(FrameControl, 0, 1, []byte(`{"signal":9}`)), frame(FrameReset, 0, 1, nil)}, nil))
	f.Add(bytes.Join([][]byte{frame(FrameReply, 0, 1, []byte(`{"value":{"pid":1,"id":"x"}}`)), frame(FrameReply, 0, 1, []byte(`{"value":{"exit":{}}}`)), frame(FrameResult, 0, 1, []byte(`{}`))}, nil))
	f.Add(bytes.Join([][]byte{frame(FrameWindow, 0, 1, []byte{0, 0, 0, 1}), frame(FrameDetach, 0, 1, nil), frame(FrameGoAway, 0, 0, []byte{0, 0, 0, 0})}, nil))
	f.Add(bytes.Repeat(frame(FrameData, 1, 1, make([]byte, MaxData)), Window/MaxData+1))
	f.Add(frame(FrameWindow, 0, 1, []byte{255, 255, 255, 255}))
	f.Add(frame(FrameStop, 0, 1, nil))
}

// quiet handles a stream by doing nothing.
type quiet struct{}

func (quiet) Message(FrameType, []byte) {}
func (quiet) Closed(error)              {}

// fuzzConn reads a script and swallows what is written.
type fuzzConn struct {
	net.Conn // not used
	in       io.Reader
}

func (c fuzzConn) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c fuzzConn) Write(p []byte) (int, error) { return len(p), nil }
func (c fuzzConn) Close() error                { return nil }

// held is what an inbox keeps.
func held(in *Inbox) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := 0
	for _, c := range in.queue {
		n += len(c.buf)
	}
	return n
}

func FuzzAgentSession(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		var boxes []*Inbox
		s := NewAgentSession(fuzzConn{in: bytes.NewReader(in)}, func(st *Stream, request []byte) Handler {
			var r Request
			json.Unmarshal(request, &r)
			box, out := NewInbox(0), NewOutbox(0)
			boxes = append(boxes, box)
			st.Use([2]*Inbox{box}, [2]*Outbox{out})
			out.Attach(st, Window)
			return quiet{}
		})
		if err := s.Serve(); err == nil {
			t.Fatal("ended without a reason")
		}
		for _, b := range boxes {
			if n := held(b); n > 2*Window {
				t.Fatalf("an inbox holds %d bytes", n)
			}
		}
	})
}

func FuzzClientSession(f *testing.F) {
	seedFrames(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		s := NewClientSession(fuzzConn{in: bytes.NewReader(in)}, nil, nil)
		boxes := [2]*Inbox{NewInbox(0), NewInbox(1)}
		if _, err := s.Open(Outgoing{Op: OpExec}, Ends{In: boxes, Out: [2]*Outbox{NewOutbox(0)}, Handler: quiet{}}, false); err != nil {
			t.Fatal(err)
		}
		if err := s.Serve(); err == nil {
			t.Fatal("ended without a reason")
		}
		for _, b := range boxes {
			if n := held(b); n > 2*Window {
				t.Fatalf("an inbox holds %d bytes", n)
			}
		}
	})
}

func FuzzErrorDecode(f *testing.F) {
	f.Add([]byte(`{"kind":"not_found","detail":"x"}`))
	f.Add([]byte(`{"kind":"surprise","retry_after":-1}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var e Error
		if json.Unmarshal(in, &e) != nil {
			return
		}
		out := e.Decode()
		if out.RetryAfter < 0 || len(out.Detail) > 3*maxText || out.Kind == "" {
			t.Fatalf("%+v", out)
		}
	})
}

// TestSingleBytesCostNoMoreThanTheWindow sends a window in the smallest frames.
func TestSingleBytesCostNoMoreThanTheWindow(t *testing.T) {
	in := NewInbox(0)
	scratch := make([]byte, smallChunk)
	for range Window {
		if err := in.receive(bytes.NewReader([]byte{1}), 1, scratch); err != nil {
			t.Fatal(err)
		}
	}
	if n := held(in); n > Window+smallChunk {
		t.Errorf("%d bytes are held", n)
	}
	if err := in.receive(bytes.NewReader([]byte{1}), 1, scratch); !errors.Is(err, errWindow) {
		t.Error(err)
	}
}

func TestErrorsCrossTheWire(t *testing.T) {
	for _, kind := range faas.Kinds() {
		in := &faas.Error{Kind: kind, Op: "op", Field: "field", Detail: "detail", Remedy: "remedy"}
		b, err := json.Marshal(EncodeError(fmt.Errorf("wrapped: %w", in)))
		if err != nil {
			t.Fatal(err)
		}
		var e Error
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		if out := e.Decode(); out.Error() != in.Error() || out.Kind != kind {
			t.Errorf("%v, want %v", out, in)
		}
	}
}
