package sshd

import (
	"sync"
	"sync/atomic"

	"github.com/faas-platform/faas/guest"
)

// file is an open file of an SFTP session.
type file struct {
	*guest.File
	tree      *tree
	name      string
	closed    atomic.Bool
	appending bool

	mu  sync.Mutex // of end
	end int64      // where an appending file goes on
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.File.ReadAt(p, offset)
	return n, failure(f.name, err)
}

// WriteAt implements io.WriterAt. A file that was opened to append to takes no
// offsets.
func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	if f.appending {
		f.mu.Lock()
		defer f.mu.Unlock()
		offset = f.end
		f.end += int64(len(p))
	}
	n, err := f.File.WriteAt(p, offset)
	return n, failure(f.name, err)
}

// Close implements io.Closer.
func (f *file) Close() error {
	if f.closed.Swap(true) {
		return nil
	}
	f.tree.open.Add(-1)
	return f.File.Close()
}
