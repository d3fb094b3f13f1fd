package executor

import (
	"context"
	"errors"
	"sync"

	"github.com/faas-platform/faas"
)

// errCancelled is the cause by which Cancel ends an execution.
var errCancelled = errors.New("cancelled on request")

// live knows the executions of this process that have not ended, those that
// wait for admission included.
type live struct {
	mu      sync.Mutex
	entries map[string]*liveEntry
}

type liveEntry struct {
	project string
	cancel  context.CancelCauseFunc
	outputs *outputs
	ended   chan struct{} // closed when its end is recorded and, if it was cancelled, its processes are gone
}

func newLive() *live { return &live{entries: make(map[string]*liveEntry)} }

// add registers an execution; the function that it returns says that it ended.
func (l *live) add(x *execution, cancel context.CancelCauseFunc) (end func(), err error) {
	id := x.req.ID
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entries[id] != nil {
		return nil, &faas.Error{Kind: faas.KindConflict, Op: "execute", Field: "id",
			Detail: "an execution with this id is running", Remedy: "give every request an id of its own"}
	}
	entry := &liveEntry{project: x.req.Project, cancel: cancel, outputs: &x.outputs, ended: make(chan struct{})}
	l.entries[id] = entry
	return func() {
		l.mu.Lock()
		delete(l.entries, id)
		l.mu.Unlock()
		close(entry.ended)
	}, nil
}

func (l *live) find(project, id string) *liveEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if entry := l.entries[id]; entry != nil && entry.project == project {
		return entry
	}
	return nil
}

func (l *live) cancelAll(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, entry := range l.entries {
		entry.cancel(cause)
	}
}
