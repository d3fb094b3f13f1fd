package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// maxEvent bounds one event of a stream, which may carry a result with both
// streams of output.
const maxEvent = 64 << 20

// serverEvent is one server-sent event.
type serverEvent struct{ name, data, id string }

// readEvents yields the events of a stream until it ends.
func readEvents(body io.Reader, yield func(serverEvent) bool) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 64<<10), maxEvent)
	var event serverEvent
	var data bytes.Buffer
	for lines.Scan() {
		line := lines.Bytes()
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch {
		case len(line) == 0 && data.Len() > 0:
			event.data = data.String()
			if !yield(event) {
				return nil
			}
			event, data = serverEvent{id: event.id}, bytes.Buffer{}
		case string(name) == "event":
			event.name = string(value)
		case string(name) == "id":
			event.id = string(value)
		case string(name) == "data":
			if data.Len() > 0 {
				data.WriteByte('\n')
			}
			data.Write(value)
		}
	}
	return lines.Err()
}

// stream yields the frames of one connection; the error of a frame that says
// so, and of a connection that breaks, is the last.
func (c *Client) stream(ctx context.Context, r request, yield func(*api.ServerFrame) bool) error {
	r.accept = "text/event-stream"
	response, err := c.perform(ctx, r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var refused error
	err = readEvents(response.Body, func(e serverEvent) bool {
		frame := new(api.ServerFrame)
		if err := json.Unmarshal([]byte(e.data), frame); err != nil {
			refused = faas.Errorf(faas.KindInternal, "the server sent an event that is not understood: %w", err)
			return false
		}
		if frame.Type == "" {
			frame.Type = e.name
		}
		if frame.Type == api.FrameError && frame.Error != nil {
			refused = frame.Error.Err(0)
			return false
		}
		return yield(frame)
	})
	switch {
	case refused != nil:
		return refused
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return &faas.Error{Kind: faas.KindUnavailable, Detail: "the stream from the server broke off", Err: err}
	}
	return nil
}

// errNoResult is the error of a stream that ended in order, and too early.
func errNoResult() error {
	return &faas.Error{Kind: faas.KindUnavailable, Detail: "the stream ended before its last event"}
}

// ExecuteStream runs a command and yields what happens as it happens: started,
// stdout, stderr, exit and, last, the result without the output. Leaving the
// loop ends the command.
func (c *Client) ExecuteStream(ctx context.Context, req api.ExecuteRequest) iter.Seq2[*api.ServerFrame, error] {
	return c.executeStream(ctx, api.PathExecute, req.Mode, req)
}

func (c *Client) executeStream(ctx context.Context, path string, mode faas.Mode, body any) iter.Seq2[*api.ServerFrame, error] {
	return func(yield func(*api.ServerFrame, error) bool) {
		ended, left := false, false
		r := request{method: http.MethodPost, path: path, body: body}
		err := c.stream(ctx, r, func(frame *api.ServerFrame) bool {
			if frame.Type == api.FrameResult && frame.Result != nil {
				ended = true
				c.finish(mode, frame.Result)
			}
			left = !yield(frame, nil)
			return !left
		})
		switch {
		case left:
		case err != nil:
			yield(nil, err)
		case !ended:
			yield(nil, errNoResult())
		}
	}
}
