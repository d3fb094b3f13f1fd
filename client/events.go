package client

import (
	"bufio"
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

// sse is one server-sent event.
type sse struct{ id, name, data string }

const (
	// maxEvent bounds one event.
	maxEvent = 64 << 20
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
func (c *Client) follow(ctx context.Context, path, since string, last func(sse) bool) iter.Seq2[sse, error] {
	return func(yield func(sse, error) bool) {
		pause := firstPause
		for {
			err := c.readEvents(ctx, path, since, func(e sse) bool {
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
				yield(sse{}, ctx.Err())
				return
			case faas.KindOf(err) != faas.KindUnavailable:
				yield(sse{}, err)
				return
			}
			if !wait(ctx, pause) {
				yield(sse{}, ctx.Err())
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

// readEvents reads one connection's events until each wants no more.
func (c *Client) readEvents(ctx context.Context, path, since string, each func(sse) bool) error {
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
	lines := bufio.NewReader(response.Body)
	var e sse
	for {
		line, err := readLine(lines)
		if err != nil {
			return c.unreachable(lostStream(err))
		}
		alive.Reset(silence)
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && e.name != "":
			if !each(e) {
				return errEnough
			}
			e = sse{}
		case name == "id":
			e.id = value
		case name == "event":
			e.name = value
		case name == "data":
			e.data += value
		}
	}
}

// lostStream is what becomes of a stream's connection that ended: it can be
// taken up again.
func lostStream(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		piece, more, err := r.ReadLine()
		line = append(line, piece...)
		switch {
		case err != nil:
			return "", err
		case len(line) > maxEvent:
			return "", faas.Errorf(faas.KindPayloadTooLarge, "an event is larger than %d bytes", maxEvent)
		case !more:
			return string(line), nil
		}
	}
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
	return decoded[api.ServerFrame](c.follow(ctx, api.PathLogs+"/"+url.PathEscape(id)+"/stream", "", func(e sse) bool {
		return e.name == api.FrameExit || e.name == api.FrameError
	}))
}

func decoded[T any](events iter.Seq2[sse, error]) iter.Seq2[T, error] {
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
