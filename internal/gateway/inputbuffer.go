package gateway

import (
	"bytes"
	"sync"

	"github.com/faas-platform/faas/api"
)

// inputBuffer holds standard input that has come and was not read yet: as much
// as a client may send ahead, so that the frames behind it need not wait.
type inputBuffer struct {
	mu     sync.Mutex
	moved  *sync.Cond
	held   bytes.Buffer
	ended  bool // nothing more is added
	unread bool // nothing more is read
}

func newInputBuffer() *inputBuffer {
	b := &inputBuffer{}
	b.moved = sync.NewCond(&b.mu)
	return b
}

// add keeps a copy of p; it waits while the window is full.
func (b *inputBuffer) add(p []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.held.Len() > 0 && b.held.Len()+len(p) > api.StdinWindow && !b.ended && !b.unread {
		b.moved.Wait()
	}
	if len(p) == 0 || b.ended || b.unread {
		return
	}
	b.held.Write(p)
	b.moved.Broadcast()
}

// end lets the reader find the end after what was added.
func (b *inputBuffer) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.moved.Broadcast()
}

// drop forgets what is there and all that is still to come.
func (b *inputBuffer) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unread, b.held = true, bytes.Buffer{}
	b.moved.Broadcast()
}

// Read implements io.Reader. It waits for input or its end.
func (b *inputBuffer) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.held.Len() == 0 && !b.ended && !b.unread {
		b.moved.Wait()
	}
	n, err := b.held.Read(p) // io.EOF when there is nothing
	b.moved.Broadcast()
	return n, err
}
