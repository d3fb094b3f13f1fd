package executor

import (
	"context"
	"sync"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/executor/stream"
	"github.com/faas-platform/faas/guest"
)

// streams are the hubs of the instances that had clients since this process
// looks after them.
type streams struct {
	mu   sync.Mutex
	hubs map[string]*stream.Hub
}

func newStreams() *streams { return &streams{hubs: map[string]*stream.Hub{}} }

// OpenStream joins a client to an instance. The caller ends it with Leave.
func (e *Executor) OpenStream(ctx context.Context, project, id string, opts stream.Options) (*stream.Conn, error) {
	x, err := e.lookUp(ctx, orDefault(project), id)
	if err != nil {
		return nil, err
	}
	e.streams.mu.Lock()
	hub := e.streams.hubs[x.id]
	if hub == nil {
		hub = stream.NewHub(e.ctx, &e.tasks, streamed{e, x})
		e.streams.hubs[x.id] = hub
	}
	e.streams.mu.Unlock()
	return hub.Join(opts)
}

// changed tells an instance's clients what became of it.
func (l *streams) changed(kind faas.EventType, before, after faas.Instance) {
	l.mu.Lock()
	hub := l.hubs[after.ID]
	if kind == faas.EventInstanceDeleted {
		delete(l.hubs, after.ID)
	}
	l.mu.Unlock()
	if hub == nil {
		return
	}
	if before.Status != after.Status || kind != faas.EventInstanceChanged {
		hub.Tell(stream.Frame{Kind: stream.State, Instance: &after})
	}
	switch {
	case kind == faas.EventInstanceDeleted:
		hub.Close(&faas.Error{Kind: faas.KindNotFound, Op: "read stream", Detail: "the instance was deleted"})
	case after.Status == faas.InstanceRunning && before.Status != faas.InstanceRunning:
		hub.Refresh()
	}
}

// refresh lets an instance's clients see into its new sandbox.
func (l *streams) refresh(id string) {
	l.mu.Lock()
	hub := l.hubs[id]
	l.mu.Unlock()
	if hub != nil {
		hub.Refresh()
	}
}

// close ends what the clients of every instance started: commands end with
// this process, and nobody is there to see them any more.
func (l *streams) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, hub := range l.hubs {
		hub.Close(errClosing)
	}
}

// streamed is an instance as its hub sees it.
type streamed struct {
	e *Executor
	x *instance
}

// Exec implements stream.Instance.
func (s streamed) Exec(ctx context.Context, req faas.Request) (*faas.Result, error) {
	return s.e.ExecInstance(ctx, s.x.project, s.x.id, req)
}

// Agent implements stream.Instance.
func (s streamed) Agent() *guest.Client {
	record, _, sandbox := s.x.state()
	if sandbox == nil || record.Status != faas.InstanceRunning {
		return nil
	}
	return sandbox.Client
}
