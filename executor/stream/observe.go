package stream

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/faas-platform/faas/guest"
)

// EventsDir is where programs inside leave files to send events to the
// instance's clients: one file is one event, named as the file.
const EventsDir = "/run/faas/events"

const (
	maxEvent      = 64 << 10
	observeWait   = 10 * time.Second // for one answer of the agent
	processPeriod = time.Second
)

// observer is one way of looking inside, while a client wants it.
type observer struct {
	wanted func(*Conn) bool
	run    func(context.Context, *guest.Client)
	stop   context.CancelFunc // not nil: it runs
}

func (h *Hub) newObservers() []*observer {
	return []*observer{
		{wanted: func(*Conn) bool { return true }, run: h.watchEvents},
		{wanted: func(c *Conn) bool { return c.processes }, run: h.watchProcesses},
	}
}

// observe begins to look inside where clients want it, and ends it where none
// does; the lock is held.
func (h *Hub) observe() {
	for _, o := range h.observers {
		wanted := false
		for c := range h.conns {
			wanted = wanted || h.closed == nil && o.wanted(c)
		}
		switch {
		case wanted && o.stop == nil:
			agent := h.instance.Agent()
			if agent == nil {
				return // Refresh comes when it has one
			}
			ctx, cancel := context.WithCancel(h.ctx)
			o.stop = cancel
			h.tasks.Go(func() { o.run(ctx, agent) })
		case !wanted && o.stop != nil:
			o.stop()
			o.stop = nil
		}
	}
}

// watchEvents turns the files in EventsDir into frames, those that were there
// before too, until ctx or the sandbox ends.
func (h *Hub) watchEvents(ctx context.Context, agent *guest.Client) {
	asked, cancel := context.WithTimeout(ctx, observeWait)
	defer cancel()
	if agent.Mkdir(asked, EventsDir, guest.WriteOptions{Mode: fs.ModePerm | fs.ModeSticky}) != nil {
		return // a root file system that cannot be written to has no events
	}
	events, err := agent.Watch(ctx, EventsDir, false)
	if err != nil {
		return
	}
	h.collect(ctx, agent)
	for e := range events {
		switch e.Event {
		case guest.EventOverflow:
			h.collect(ctx, agent)
		case guest.EventModified, guest.EventRenamed:
			h.event(ctx, agent, e.Path)
		}
	}
}

// collect sends the events that lie there.
func (h *Hub) collect(ctx context.Context, agent *guest.Client) {
	asked, cancel := context.WithTimeout(ctx, observeWait)
	defer cancel()
	found, err := agent.List(asked, EventsDir)
	if err != nil {
		return
	}
	for _, f := range found {
		if f.Mode.IsRegular() {
			h.event(ctx, agent, path.Join(EventsDir, f.Name))
		}
	}
}

// event sends one file as an event and removes it. An empty one is being
// written still.
func (h *Hub) event(ctx context.Context, agent *guest.Client, name string) {
	if strings.HasPrefix(path.Base(name), ".") {
		return // written aside, to be renamed
	}
	ctx, cancel := context.WithTimeout(ctx, observeWait)
	defer cancel()
	r, info, err := agent.ReadFile(ctx, name, 0, maxEvent)
	if err != nil {
		return
	}
	content, err := io.ReadAll(io.LimitReader(r, maxEvent))
	r.Close() //nolint:errcheck // read only
	if err != nil || len(content) == 0 || info.Size > maxEvent {
		return
	}
	if agent.Remove(ctx, name, false) != nil {
		return // somebody else has sent it
	}
	h.Tell(Frame{Kind: Custom, Name: path.Base(name), Value: asJSON(content)})
}

// asJSON returns content that is JSON as it is, everything else as a string.
func asJSON(content []byte) json.RawMessage {
	if json.Valid(content) {
		return content
	}
	text := string(content)
	if !utf8.ValidString(text) {
		encoded, _ := json.Marshal(map[string][]byte{"base64": content}) //nolint:errcheck // cannot fail
		return encoded
	}
	encoded, _ := json.Marshal(text) //nolint:errcheck // cannot fail
	return encoded
}

// watchProcesses reports processes that come and go until ctx ends.
func (h *Hub) watchProcesses(ctx context.Context, agent *guest.Client) {
	ticker := time.NewTicker(processPeriod)
	defer ticker.Stop()
	var known map[int]guest.Process
	for {
		known = h.compare(ctx, agent, known)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// compare tells how the processes differ from those known; nil: nothing was.
func (h *Hub) compare(ctx context.Context, agent *guest.Client, known map[int]guest.Process) map[int]guest.Process {
	ctx, cancel := context.WithTimeout(ctx, observeWait)
	defer cancel()
	list, err := agent.Processes(ctx)
	if err != nil {
		return known
	}
	now := make(map[int]guest.Process, len(list))
	for _, p := range list {
		now[p.PID] = p
		if before, was := known[p.PID]; known != nil && (!was || !before.Started.Equal(p.Started)) {
			h.Tell(Frame{Kind: Process, PID: p.PID, Command: p.Command, Event: "started"})
		}
	}
	for pid, p := range known {
		if after, is := now[pid]; !is || !after.Started.Equal(p.Started) {
			h.Tell(Frame{Kind: Process, PID: pid, Command: p.Command, Event: "exited"})
		}
	}
	return now
}
