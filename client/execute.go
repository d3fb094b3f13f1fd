package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Execute runs a command and returns its result with up to 10 MiB of each
// output stream. The command is ended when ctx is.
func (c *Client) Execute(ctx context.Context, request api.ExecuteRequest) (*api.ExecuteResponse, error) {
	result, err := call[api.ExecuteResponse](ctx, c, http.MethodPost, api.PathExecute, request)
	if err != nil {
		return nil, err
	}
	return c.finish(request.Mode, result), nil
}

// finish counts an execution and tells those who want to know.
func (c *Client) finish(mode faas.Mode, result *api.ExecuteResponse) *api.ExecuteResponse {
	c.counter.execution(result.CacheHit, mode == faas.ModeCached)
	if c.hooks.Execution != nil {
		c.hooks.Execution(result)
	}
	switch {
	case result.CacheHit && c.hooks.CacheHit != nil:
		c.hooks.CacheHit(result)
	case !result.CacheHit && mode == faas.ModeCached && c.hooks.CacheMiss != nil:
		c.hooks.CacheMiss(result)
	}
	return result
}

// ExecuteTo runs a command and copies its standard output to stdout as it
// comes, without a limit. The response holds up to 8 KiB of standard error and
// no standard output.
func (c *Client) ExecuteTo(ctx context.Context, req api.ExecuteRequest, stdout io.Writer) (*api.ExecuteResponse, error) {
	return c.rawTo(ctx, api.PathExecute, req, req.Mode, stdout)
}

// rawTo runs the command of a route and copies its raw output.
func (c *Client) rawTo(ctx context.Context, path string, req any, mode faas.Mode, stdout io.Writer) (*api.ExecuteResponse, error) {
	response, err := c.send(ctx, http.MethodPost, path, "application/octet-stream", req)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body := &readError{from: response.Body}
	if _, err := io.Copy(stdout, body); err != nil {
		if body.err != nil {
			return nil, c.unreachable(body.err)
		}
		return nil, err // the caller's own writer
	}
	if text := response.Trailer.Get(api.TrailerError); text != "" {
		var p api.Problem
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return nil, faas.Errorf(faas.KindInternal, "the execution broke off: %s", text)
		}
		return nil, p.Err(0)
	}
	result := new(api.ExecuteResponse)
	if err := json.Unmarshal([]byte(response.Trailer.Get(api.TrailerResult)), result); err != nil {
		return nil, faas.Errorf(faas.KindUnavailable, "the server's answer ended without a result")
	}
	return c.finish(mode, result), nil
}

// readError remembers whether a copy failed in reading.
type readError struct {
	from io.Reader
	err  error
}

func (r *readError) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
