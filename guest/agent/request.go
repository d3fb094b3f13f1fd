//go:build unix

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// request is one operation other than a command's.
type request struct {
	agent   *Agent
	session *wire.Session
	stream  *wire.Stream
	version int
	ctx     context.Context
	cancel  context.CancelCauseFunc
	in      *wire.Inbox  // the body that the client sends
	out     *wire.Outbox // the body that the client gets
	// cut says that a Quiesce need not wait for the operation's end.
	cut bool
}

var errQuiesced = errors.New("quiesced")

// accept takes a stream. It is called by the connection's reader.
func (a *Agent) accept(s *wire.Session, st *wire.Stream, version int, payload []byte) wire.Handler {
	var req wire.Request
	if err := json.Unmarshal(payload, &req); err != nil {
		req = wire.Request{Op: "unreadable: " + err.Error()}
	}
	switch req.Op {
	case wire.OpExec:
		return a.acceptExec(st, req.Args)
	case wire.OpAttach:
		if c := a.attachTo(st, req.Args); c != nil {
			return c
		}
		return refuse(a, st, faas.Errorf(faas.KindNotFound, "the command does not run any more, or its streams are in use"))
	}
	r := &request{agent: a, session: s, stream: st, version: version}
	r.ctx, r.cancel = context.WithCancelCause(a.ctx)
	switch req.Op {
	case wire.OpRead, wire.OpWrite, wire.OpTarIn, wire.OpTarOut, wire.OpWatch, wire.OpDial,
		wire.OpOpen, wire.OpListen, wire.OpAccept:
		r.cut = true
	}
	r.in, r.out = wire.NewInbox(0), wire.NewOutbox(0)
	st.Use([2]*wire.Inbox{r.in}, [2]*wire.Outbox{r.out})
	r.out.Attach(st, wire.Window)
	a.mu.Lock()
	a.requests[r] = struct{}{}
	a.mu.Unlock()
	if !a.own(func() { r.run(req) }) {
		r.finish(nil, errClosed())
	}
	return r
}

func errClosed() error { return faas.Errorf(faas.KindUnavailable, "the agent is shutting down") }

// refused handles a stream that never began.
type refused struct{}

func (refused) Message(wire.FrameType, []byte) {}
func (refused) Closed(error)                   {}

func refuse(a *Agent, st *wire.Stream, err error) wire.Handler {
	a.own(func() {
		st.Message(wire.FrameResult, wire.Answer{Error: wire.EncodeError(err)}) //nolint:errcheck // nobody is left to tell
		st.End()
	})
	return refused{}
}

// Message is called by the connection's reader.
func (r *request) Message(t wire.FrameType, _ []byte) {
	if t == wire.FrameReset {
		r.Closed(context.Canceled)
	}
}

// Closed is called when the connection has ended.
func (r *request) Closed(err error) {
	r.cancel(err)
	r.in.Fail(err)
	r.out.Fail(err)
}

// interrupt ends the operation for a Quiesce.
func (r *request) interrupt() {
	r.cancel(errQuiesced)
	r.in.Fail(errQuiesced)
	r.out.Fail(errQuiesced)
}

// reply says that the operation has begun.
func (r *request) reply(value any) error {
	return r.stream.Message(wire.FrameReply, wire.Answer{Value: value})
}

func (r *request) run(req wire.Request) {
	value, err := r.perform(req)
	r.finish(value, err)
}

func (r *request) finish(value any, err error) {
	if context.Cause(r.ctx) == errQuiesced {
		r.stream.Message(wire.FrameDetach, nil) //nolint:errcheck // see below
	} else {
		answer := wire.Answer{Value: value, Error: wire.EncodeError(err)}
		if r.stream.Message(wire.FrameResult, answer) != nil {
			// Either the connection is gone, or the answer is too large for
			// one message; then this one is not.
			err = faas.Errorf(faas.KindPayloadTooLarge, "the answer is larger than one message")
			r.stream.Message(wire.FrameResult, wire.Answer{Error: wire.EncodeError(err)}) //nolint:errcheck
		}
	}
	r.cancel(nil)
	r.stream.End()
	r.agent.mu.Lock()
	delete(r.agent.requests, r)
	r.agent.mu.Unlock()
}

// arguments decodes the arguments of a request.
func arguments[T any](req wire.Request) (T, error) {
	var args T
	if err := json.Unmarshal(req.Args, &args); err != nil {
		return args, faas.Errorf(faas.KindInvalidArgument, "the request cannot be read: %v", err)
	}
	return args, nil
}

// with calls do with the arguments of a request.
func with[T any](req wire.Request, do func(T) (any, error)) (any, error) {
	args, err := arguments[T](req)
	if err != nil {
		return nil, err
	}
	return do(args)
}

// perform does what a request asks and returns the result's value.
func (r *request) perform(req wire.Request) (any, error) {
	a := r.agent
	switch req.Op {
	case wire.OpHello:
		return guest.Info{Version: r.version, Build: a.cfg.Build, StartedAt: a.startedAt}, nil
	case wire.OpConfigure:
		return with(req, func(cfg guest.Configuration) (any, error) { return a.configure(r.ctx, cfg) })
	case wire.OpStats:
		return a.stats()
	case wire.OpProcesses:
		return nil, r.processes()
	case wire.OpQuiesce:
		return nil, a.quiesce(r)
	case wire.OpShutdown:
		a.shutDown(r)
		return nil, nil
	case wire.OpDial:
		return with(req, r.dialPort)
	case wire.OpListen:
		return with(req, r.listen)
	case wire.OpAccept:
		return with(req, r.acceptIncoming)
	case wire.OpOpen:
		return with(req, r.openFile)
	case wire.OpSetAttr:
		return with(req, a.setAttributes)
	}
	args, err := arguments[wire.FileArgs](req)
	if err != nil {
		return nil, err
	}
	return r.performFile(req.Op, args)
}

// performFile does what a request on files asks.
func (r *request) performFile(op string, args wire.FileArgs) (any, error) {
	path, err := r.agent.path(args.Path)
	if err != nil {
		return nil, err
	}
	switch op {
	case wire.OpRead:
		return nil, r.readFile(path, args)
	case wire.OpWrite:
		return r.writeFile(path, args)
	case wire.OpStat:
		return statFile(path, args.Path)
	case wire.OpList:
		return nil, r.list(path, args.Path)
	case wire.OpMkdir:
		return nil, r.agent.mkdir(path, args)
	case wire.OpRemove:
		return nil, remove(path, args)
	case wire.OpRename:
		return nil, r.agent.rename(path, args)
	case wire.OpSymlink:
		return nil, r.agent.symlink(path, args)
	case wire.OpLink:
		return nil, r.agent.link(path, args)
	case wire.OpRealPath:
		return r.agent.realPath(path, args)
	case wire.OpSpace:
		return space(path, args)
	case wire.OpTarOut:
		return nil, r.tarOut(path, args.Path)
	case wire.OpTarIn:
		return nil, r.tarIn(path, args.Path)
	case wire.OpWatch:
		return nil, r.watch(path, args)
	default:
		return nil, &faas.Error{
			Kind: faas.KindCapabilityUnavailable, Detail: "the sandbox's agent does not know the operation " + op,
			Remedy: "make the sandbox anew with the present version",
		}
	}
}

// lines sends an answer of one JSON value per line.
func lines[T any](r *request, values []T) error {
	if err := r.reply(nil); err != nil {
		return err
	}
	w := bufio.NewWriterSize(onlyWriter{r.out}, 32<<10)
	enc := json.NewEncoder(w)
	for i := range values {
		if err := enc.Encode(values[i]); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return r.out.CloseWrite()
}

// onlyWriter hides ReadFrom.
type onlyWriter struct{ io.Writer }
