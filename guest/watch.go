package guest

import (
	"context"
	"encoding/json"

	"github.com/faas-platform/faas/guest/internal/wire"
)

// Events are the values of FileEvent.Event.
const (
	EventCreated  = "created"
	EventModified = "modified"
	EventRemoved  = "removed"
	EventRenamed  = "renamed"  // the path is the new name
	EventOverflow = "overflow" // events were lost: look at everything again
)

// eventBuffer is how many events wait for the channel's reader.
const eventBuffer = 256

// Watch reports changes below path, recursively when asked, until ctx ends.
// The channel is closed then, or when the connection fails; a reader that is
// too slow gets an "overflow" event in place of what was dropped.
func (c *Client) Watch(ctx context.Context, path string, recursive bool) (<-chan FileEvent, error) {
	o, err := c.beginWatch(ctx, path, recursive)
	if err != nil {
		return nil, failure("watch", err)
	}
	events := make(chan FileEvent, eventBuffer)
	c.own(func() {
		defer close(events)
		for o != nil {
			c.forward(ctx, o, events)
			if !o.wasDetached() {
				return
			}
			o = c.resumeWatch(ctx, path, recursive, events)
		}
	})
	return events, nil
}

func (c *Client) beginWatch(ctx context.Context, path string, recursive bool) (*operation, error) {
	return c.begin(ctx, wire.OpWatch, wire.FileArgs{Path: path, Recursive: recursive}, shape{in: true}, nil)
}

// resumeWatch begins again after a checkpoint, once something else has shown
// that the agent answers.
func (c *Client) resumeWatch(ctx context.Context, path string, recursive bool, events chan<- FileEvent) *operation {
	if !c.awaitResume(ctx) {
		return nil
	}
	o, err := c.beginWatch(ctx, path, recursive)
	if err != nil {
		return nil
	}
	select {
	case events <- FileEvent{Path: path, Event: EventOverflow}:
	case <-ctx.Done():
	}
	return o
}

// forward copies events until the operation ends.
func (c *Client) forward(ctx context.Context, o *operation, events chan<- FileEvent) {
	b := newBody(ctx, o, "watch")
	defer b.Close()
	dec := json.NewDecoder(b)
	for {
		var ev FileEvent
		if dec.Decode(&ev) != nil {
			return
		}
		select {
		case events <- ev:
		case <-ctx.Done():
			return
		}
	}
}

func (o *operation) wasDetached() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.detached
}
