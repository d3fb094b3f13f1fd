package stream

import (
	"bytes"
	"sync"
)

// Window is how much standard input a client may send ahead of the command's
// reading it.
const Window = 1 << 20

// Input holds standard input that has come and was not read yet: as much as a
// client may send ahead, so that what it sends behind it need not wait.
type Input struct {
	mu     sync.Mutex
	moved  *sync.Cond
	held   bytes.Buffer
	ended  bool // nothing more is added
	unread bool // nothing more is read
}

// NewInput returns an empty input.
func NewInput() *Input {
	b := &Input{}
	b.moved = sync.NewCond(&b.mu)
	return b
}

// Add keeps a copy of p; it waits while the window is full. Input after the
// end, or that nobody reads any more, is dropped.
func (b *Input) Add(p []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.held.Len() > 0 && b.held.Len()+len(p) > Window && !b.ended && !b.unread {
		b.moved.Wait()
	}
	if len(p) == 0 || b.ended || b.unread {
		return
	}
	b.held.Write(p)
	b.moved.Broadcast()
}

// End lets the reader find the end after what was added.
func (b *Input) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.moved.Broadcast()
}

// Close drops what is there and all that is still to come.
func (b *Input) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unread, b.held = true, bytes.Buffer{}
	b.moved.Broadcast()
	return nil
}

// Read implements io.Reader. It waits for input or its end.
func (b *Input) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.held.Len() == 0 && !b.ended && !b.unread {
		b.moved.Wait()
	}
	n, err := b.held.Read(p) // io.EOF when there is nothing
	b.moved.Broadcast()
	return n, err
}

// Acked tells as it is read how much of an input was consumed.
type Acked struct {
	*Input
	Tell func(total int64)
	done int64
	told int64
}

// ackEvery is how much input is consumed between two acknowledgements.
const ackEvery = Window / 4

// Read implements io.Reader.
func (a *Acked) Read(p []byte) (int, error) {
	n, err := a.Input.Read(p)
	a.done += int64(n)
	if a.done-a.told >= ackEvery {
		a.told = a.done
		a.Tell(a.done)
	}
	return n, err
}
