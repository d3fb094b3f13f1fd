package executor

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/executor/stream"
	"github.com/faas-platform/faas/snapshot"
)

const (
	// eventBytes is how much of a project's events is kept for readers that
	// come back.
	eventBytes = 1 << 20
	eventSize  = 768 // about what an event takes besides its command
)

// events are the feeds of the projects that someone has ever listened to; the
// events of others are not made.
type events struct {
	mu    sync.RWMutex
	feeds map[string]*stream.Feed[faas.Event]
}

func newEvents() *events { return &events{feeds: map[string]*stream.Feed[faas.Event]{}} }

// of returns a project's feed, nil when nobody listens.
func (v *events) of(project string) *stream.Feed[faas.Event] {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.feeds[project]
}

// listen returns a project's feed.
func (v *events) listen(project string) *stream.Feed[faas.Event] {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.feeds[project] == nil {
		v.feeds[project] = stream.NewFeed[faas.Event](eventBytes)
	}
	return v.feeds[project]
}

// LastEvent returns the number of a project's newest event: what comes is
// beyond it.
func (e *Executor) LastEvent(project string) int64 { return e.events.listen(orDefault(project)).Last() }

// NextEvents waits for events of a project beyond a number and returns some of
// them, and the number to continue from. lost says that there were others
// before, which are not kept any more.
func (e *Executor) NextEvents(ctx context.Context, project string, since int64) (found []stream.Entry[faas.Event], at int64, lost bool, err error) {
	found, at, lost, err = e.events.listen(orDefault(project)).Next(ctx, since)
	if err != nil {
		return nil, since, false, stopped(ctx, "wait for events")
	}
	return found, at, lost, nil
}

// publish adds an event of a project; make fills it in when someone listens.
func (e *Executor) publish(project string, kind faas.EventType, id string, fill func(*faas.Event) (size int)) {
	feed := e.events.of(project)
	if feed == nil {
		return
	}
	event := faas.Event{Type: kind, Time: time.Now().UTC(), ID: id}
	size := eventSize
	if fill != nil {
		size += fill(&event)
	}
	feed.Add(event, size)
}

// instanceChanged tells what became of an instance: its project's listeners
// and its own clients.
func (e *Executor) instanceChanged(kind faas.EventType, before, after faas.Instance) {
	if kind == faas.EventInstanceChanged && reflect.DeepEqual(before, after) {
		return
	}
	e.publish(after.Project, kind, after.ID, func(event *faas.Event) int {
		event.Instance = &after
		return 0
	})
	e.streams.changed(kind, before, after)
}

func (e *Executor) snapshotChanged(kind faas.EventType, m *snapshot.Manifest) {
	if m.Hidden {
		return
	}
	e.publish(m.Project, kind, m.ID, func(event *faas.Event) int {
		event.Snapshot = e.snapshotView(m)
		return len(m.Description)
	})
}

// executionChanged tells of an execution, without its output.
func (e *Executor) executionChanged(kind faas.EventType, record faas.Execution) {
	e.publish(record.Project, kind, record.ID, func(event *faas.Event) int {
		event.Execution = &record
		size := 0
		for _, word := range record.Command {
			size += len(word)
		}
		if record.Result != nil {
			result := *record.Result
			result.Stdout, result.Stderr = nil, nil
			record.Result = &result
		}
		return size
	})
}
