package guest

import (
	"context"
	"encoding/json"
	"io"
	"sync"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// File is an open file inside. Its methods may be called at the same time;
// what they ask is on its way together.
type File struct {
	Info FileInfo // when it was opened

	o    *operation
	stop func() bool
	done chan struct{} // closed when the reader of answers has ended

	wmu     sync.Mutex // one message at a time
	scratch []byte

	mu      sync.Mutex
	last    uint32
	waiting map[uint32]chan fileAnswer
	err     error // why nothing more is answered
}

type fileAnswer struct {
	wire.HandleMessage
	err error
}

// OpenFile opens a file for reads and writes at offsets, until Close or the
// end of ctx. An agent that is older than this operation refuses it with
// faas.ErrCapabilityUnavailable.
func (c *Client) OpenFile(ctx context.Context, path string, opts OpenOptions) (*File, error) {
	f := &File{waiting: map[uint32]chan fileAnswer{}, done: make(chan struct{})}
	o, err := c.begin(ctx, wire.OpOpen, wire.OpenArgs{
		Path: path, Read: opts.Read, Write: opts.Write, Create: opts.Create, Exclusive: opts.Exclusive,
		Truncate: opts.Truncate, Mode: opts.Mode, User: opts.User,
	}, shape{in: true, out: true}, &f.Info)
	if err != nil {
		return nil, failure("open file", err)
	}
	f.o, f.stop = o, context.AfterFunc(ctx, func() { o.abort(ctx.Err()) })
	go f.receive()
	return f, nil
}

// receive hands answers to those who wait for them.
func (f *File) receive() {
	defer close(f.done)
	for {
		// Each answer has a buffer of its own, which its taker keeps.
		m, err := wire.ReadHandleMessage(f.o.in, make([]byte, wire.HandleChunk), func(byte) bool { return true })
		f.mu.Lock()
		if err != nil {
			if err == io.EOF {
				err = io.ErrClosedPipe
			}
			f.err = failure("use open file", err)
			for _, w := range f.waiting {
				w <- fileAnswer{err: f.err}
			}
			f.waiting = nil
			f.mu.Unlock()
			f.o.in.Discard()
			return
		}
		w := f.waiting[m.Number]
		delete(f.waiting, m.Number)
		f.mu.Unlock()
		if w != nil {
			w <- fileAnswer{HandleMessage: m}
		}
	}
}

// ask sends one message and waits for its answer.
func (f *File) ask(m wire.HandleMessage) (wire.HandleMessage, error) {
	answered := make(chan fileAnswer, 1)
	f.mu.Lock()
	if f.err != nil {
		f.mu.Unlock()
		return m, f.err
	}
	f.last++
	m.Number = f.last
	f.waiting[m.Number] = answered
	f.mu.Unlock()
	f.wmu.Lock()
	f.scratch = m.Append(f.scratch[:0])
	_, err := f.o.out.Write(f.scratch)
	f.wmu.Unlock()
	if err != nil {
		// The reader learns of it as well, and says why.
		f.o.abort(err)
	}
	answer := <-answered
	if answer.err == nil && answer.Op == wire.HandleFailed {
		var e wire.Error
		if json.Unmarshal(answer.Data, &e) != nil {
			return answer.HandleMessage, faas.Errorf(faas.KindInternal, "use open file: the agent's answer cannot be read")
		}
		return answer.HandleMessage, failure("use open file", e.Decode())
	}
	return answer.HandleMessage, answer.err
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, offset int64) (int, error) {
	n := 0
	for n < len(p) {
		want := min(len(p)-n, wire.HandleChunk)
		answer, err := f.ask(wire.HandleMessage{Op: wire.HandleRead, Offset: offset + int64(n), Length: uint32(want)})
		if err != nil {
			return n, err
		}
		n += copy(p[n:n+want], answer.Data)
		if answer.Op == wire.HandleEnd || len(answer.Data) == 0 {
			return n, io.EOF
		}
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (f *File) WriteAt(p []byte, offset int64) (int, error) {
	n := 0
	for n < len(p) {
		part := p[n : n+min(len(p)-n, wire.HandleChunk)]
		_, err := f.ask(wire.HandleMessage{Op: wire.HandleWrite, Offset: offset + int64(n), Length: uint32(len(part)), Data: part})
		if err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// Close closes the file. Writes that returned are done.
func (f *File) Close() error {
	f.stop()
	f.o.abort(&faas.Error{Kind: faas.KindUnavailable, Detail: "the file is closed", Err: io.ErrClosedPipe})
	<-f.done
	return nil
}
