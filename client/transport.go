package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (*T, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return call[T](ctx, c, http.MethodGet, path, nil)
}

// maxAnswer bounds what is read of a JSON answer: two streams of 10 MiB, each
// twice, as text and base64, with escapes.
const maxAnswer = 512 << 20

func call[T any](ctx context.Context, c *Client, method, path string, body any) (*T, error) {
	return answer[T](ctx, c, request{method: method, path: path, body: body})
}

// answer sends a request and reads the whole of a JSON answer; one that breaks
// off is a trial that failed.
func answer[T any](ctx context.Context, c *Client, r request) (*T, error) {
	var content []byte
	r.read = func(body io.Reader) (err error) {
		content, err = io.ReadAll(io.LimitReader(body, maxAnswer+1))
		return err
	}
	response, err := c.perform(ctx, r)
	if err != nil {
		return nil, err
	}
	response.Body.Close()
	if len(content) > maxAnswer {
		return nil, faas.Errorf(faas.KindPayloadTooLarge, "the server's answer is larger than %d bytes", maxAnswer)
	}
	value := new(T)
	if err := json.Unmarshal(content, value); err != nil {
		return nil, faas.Errorf(faas.KindInternal, "%s %s: the server's answer is not understood: %w", r.method, r.path, err)
	}
	return value, nil
}

// request is one request, as often as it is sent.
type request struct {
	method, path string
	accept       string // application/json unless set
	body         any
	content      io.Reader // in place of body; can be sent once
	contentType  string
	lastEventID  string
	read         func(io.Reader) error // reads the answer as part of the trial
}

// send sends a request and returns the answer with its body still to come.
func (c *Client) send(ctx context.Context, method, path, accept string, body any) (*http.Response, error) {
	return c.perform(ctx, request{method: method, path: path, accept: accept, body: body})
}

// perform sends a request until it has an answer that is a success, or trying
// again makes no sense.
func (c *Client) perform(ctx context.Context, r request) (*http.Response, error) {
	started := time.Now()
	response, err := c.sendUntilDone(ctx, r)
	c.counter.request(time.Since(started), err)
	if err != nil && c.hooks.Error != nil {
		c.hooks.Error(err)
	}
	return response, err
}

func (c *Client) sendUntilDone(ctx context.Context, r request) (*http.Response, error) {
	var encoded []byte
	if r.body != nil {
		var err error
		if encoded, err = json.Marshal(r.body); err != nil {
			return nil, faas.Errorf(faas.KindInvalidArgument, "encode request: %w", err)
		}
	}
	once := ""
	// Done once, however often it comes; the server keeps JSON answers only.
	if r.method == http.MethodPost && (r.accept == "" || r.accept == "application/json") {
		once = firstOf(c.once, rand.Text())
	}
	safe := r.content == nil && (once != "" || r.method != http.MethodPost && r.method != http.MethodPatch)
	lost := false // a trial may have been done without our knowing
	for attempt := 0; ; attempt++ {
		response, err := c.sendOnce(ctx, r, encoded, once)
		if err == nil {
			return response, nil
		}
		if lost && r.method == http.MethodDelete && errors.Is(err, faas.ErrNotFound) && r.read != nil {
			return &http.Response{Body: http.NoBody}, r.read(strings.NewReader("{}"))
		}
		t := trial{attempt: attempt, max: c.retries, err: err, safe: safe, repeatable: r.content == nil}
		lost = lost || t.reached()
		delay, again := t.delay()
		if !again || ctx.Err() != nil {
			return nil, err
		}
		if err := c.wait(ctx, Retry{Method: r.method, Path: r.path, Attempt: attempt + 1, Delay: delay, Err: err}); err != nil {
			return nil, err
		}
	}
}

// wait says that something is tried again, and waits until then.
func (c *Client) wait(ctx context.Context, retry Retry) error {
	c.counter.retried()
	if c.hooks.Retry != nil {
		c.hooks.Retry(retry)
	}
	timer := time.NewTimer(retry.Delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *Client) sendOnce(ctx context.Context, r request, encoded []byte, once string) (*http.Response, error) {
	content := r.content
	if encoded != nil {
		content = bytes.NewReader(encoded)
	}
	sent, err := http.NewRequestWithContext(ctx, r.method, c.base.String()+r.path, content)
	if err != nil {
		return nil, faas.Errorf(faas.KindInvalidArgument, "%w", err)
	}
	c.headers(sent.Header)
	sent.Header.Set("Accept", firstOf(r.accept, "application/json"))
	if content != nil {
		sent.Header.Set("Content-Type", firstOf(r.contentType, "application/json"))
	}
	if once != "" {
		sent.Header.Set("Idempotency-Key", once)
	}
	if r.lastEventID != "" {
		sent.Header.Set("Last-Event-ID", r.lastEventID)
	}
	response, err := c.http.Do(sent)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if response.StatusCode/100 != 2 {
		defer response.Body.Close()
		return nil, problem(response)
	}
	if r.read != nil {
		if err := r.read(response.Body); err != nil {
			response.Body.Close()
			return nil, c.unreachable(err)
		}
	}
	return response, nil
}

func (c *Client) headers(h http.Header) {
	h.Set("User-Agent", "faas-go/"+api.Version)
	if c.key != "" {
		h.Set("Authorization", "Bearer "+c.key)
	}
}

// unreachable is the error of a request that got no answer.
func (c *Client) unreachable(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var dial *net.OpError
	remedy := ""
	if errors.As(err, &dial) && dial.Op == "dial" {
		remedy = "start it with `faas serve`, or name another with FAAS_API_URL"
	}
	return &faas.Error{Kind: faas.KindUnavailable, Detail: "no answer from the server at " + c.base.String(), Remedy: remedy, Err: err}
}

// maxProblem bounds what is read of an error's body.
const maxProblem = 1 << 20

// problem reads an error answer.
func problem(response *http.Response) error {
	content, err := io.ReadAll(io.LimitReader(response.Body, maxProblem))
	var p api.Problem
	if err == nil {
		err = json.Unmarshal(content, &p)
	}
	if err != nil || p.Code == "" {
		return faas.Errorf(faas.KindUnavailable, "the server answered %s, which is no answer of this API", response.Status)
	}
	var retryAfter time.Duration
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		retryAfter = time.Duration(seconds) * time.Second
	}
	if len(p.Conflicts) > 0 {
		return &MergeError{p.Err(retryAfter), p.Conflicts}
	}
	return p.Err(retryAfter)
}
