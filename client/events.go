package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

const (
	// silence is how long a stream may say nothing, heartbeats included, before
	// its connection counts as dead.
	silence = 45 * time.Second
	// Waits between attempts to connect again grow between these.
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// follow reads an event stream to its end, and connects again from where it
// was when the connection is lost. last says with which event the stream is
// over; nil: it has no end.
func (c *Client) follow(ctx context.Context, path, since string, last func(serverEvent) bool) iter.Seq2[serverEvent, error] {
	return func(yield func(serverEvent, error) bool) {
		pause := firstPause
		for {
			err := c.followOnce(ctx, path, since, func(e serverEvent) bool {
				pause = firstPause
				if e.id != "" {
					since = e.id
				}
				return yield(e, nil) && (last == nil || !last(e))
			})
			switch {
			case errors.Is(err, errEnough):
				return
			case ctx.Err() != nil:
				yield(serverEvent{}, ctx.Err())
				return
			case faas.KindOf(err) != faas.KindUnavailable:
				yield(serverEvent{}, err)
				return
			}
			if !wait(ctx, pause) {
				yield(serverEvent{}, ctx.Err())
				return
			}
			pause = min(2*pause, longestPause)
		}
	}
}

// errEnough ends the reading of a stream that nobody wants more of.
var errEnough = errors.New("enough was read")

func wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// followOnce reads one connection's events until each wants no more.
func (c *Client) followOnce(ctx context.Context, path, since string, each func(serverEvent) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	header := http.Header{"Accept": {"text/event-stream"}}
	if since != "" {
		header.Set("Last-Event-ID", since)
	}
	response, err := c.transfer(ctx, http.MethodGet, path, header, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	alive := time.AfterFunc(silence, cancel)
	defer alive.Stop()
	enough := false
	err = readEvents(&aliveReader{response.Body, alive}, func(e serverEvent) bool {
		enough = !each(e)
		return !enough
	})
	if enough {
		return errEnough
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return c.unreachable(lostStream(err))
}

// aliveReader puts a connection's end off whenever something comes.
type aliveReader struct {
	from  io.Reader
	alive *time.Timer
}

func (r *aliveReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if n > 0 {
		r.alive.Reset(silence)
	}
	return n, err
}

// lostStream is what becomes of a stream's connection that ended: it can be
// taken up again.
func lostStream(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// EventOptions says which events are wanted. Every field may be left empty.
type EventOptions struct {
	Since int64    // continue after the event of this number; 0: from now on
	Types []string // those whose type is one of these or begins with it and a dot, as "instance"
}

// Events follows what changes in the project, without end: it connects again
// by itself, and misses nothing unless an event of type api.EventsLost says so.
func (c *Client) Events(ctx context.Context, opts EventOptions) iter.Seq2[api.Event, error] {
	path, since := api.PathEvents, ""
	if len(opts.Types) > 0 {
		path += "?" + url.Values{"types": {strings.Join(opts.Types, ",")}}.Encode()
	}
	if opts.Since != 0 {
		since = strconv.FormatInt(opts.Since, 10)
	}
	return decoded[api.Event](c.follow(ctx, path, since, nil))
}

// Logs returns what an execution has written so far.
func (c *Client) Logs(ctx context.Context, id string) (*api.Logs, error) {
	return get[api.Logs](ctx, c, api.PathExecutions+"/"+url.PathEscape(id)+"/logs", nil)
}

// FollowLogs follows the output of an execution from its beginning to its end:
// frames of type stdout and stderr, then exit or error. It connects again by
// itself, from where it was.
func (c *Client) FollowLogs(ctx context.Context, id string) iter.Seq2[api.ServerFrame, error] {
	return decoded[api.ServerFrame](c.follow(ctx, api.PathLogs+"/"+url.PathEscape(id)+"/stream", "", func(e serverEvent) bool {
		return e.name == api.FrameExit || e.name == api.FrameError
	}))
}

func decoded[T any](events iter.Seq2[serverEvent, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for e, err := range events {
			var value T
			if err == nil {
				if err = json.Unmarshal([]byte(e.data), &value); err != nil {
					err = faas.Errorf(faas.KindInternal, "the server's event is not understood: %w", err)
				}
			}
			if !yield(value, err) || err != nil {
				return
			}
		}
	}
}
