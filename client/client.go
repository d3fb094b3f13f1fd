// Package client is the Go SDK of the HTTP API.
//
//	c, err := client.New(client.Options{})
//	result, err := c.Execute(ctx, api.ExecuteRequest{Command: api.Command{Shell: "echo hello"}})
//	fmt.Print(result.Stdout)
//
// Without options the server is FAAS_API_URL or http://127.0.0.1:8080, and the
// key FAAS_API_KEY or the key file of the user who runs the server on this
// machine.
//
// Errors are *faas.Error: errors.Is(err, faas.ErrNotFound) and its siblings
// tell them apart, errors.As gives field, detail and remedy. A command that
// fails is a result with an exit code, not an error.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// DefaultURL is where a server listens unless configured otherwise.
const DefaultURL = "http://127.0.0.1:8080"

// Options configures a Client. Every field may be left empty.
type Options struct {
	URL     string // of the server; FAAS_API_URL, then DefaultURL
	Key     string // API key; FAAS_API_KEY, then KeyFile
	KeyFile string // FAAS_API_KEY_FILE, then the usual place
	HTTP    *http.Client
}

// Client calls one server. It is safe for concurrent use.
type Client struct {
	base *url.URL
	key  string
	http *http.Client
}

// New returns a client. It reads the key, and sends nothing.
func New(opts Options) (*Client, error) {
	address := firstOf(opts.URL, os.Getenv("FAAS_API_URL"), DefaultURL)
	base, err := url.Parse(strings.TrimSuffix(address, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, faas.InvalidField("URL", "%q is not an http or https URL", address)
	}
	c := &Client{base: base, http: opts.HTTP, key: firstOf(opts.Key, os.Getenv("FAAS_API_KEY"))}
	if c.http == nil {
		// No time-out for the whole: an execution may stream for hours. The
		// caller's context bounds it.
		transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // the standard library's own
		transport.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext
		transport.MaxIdleConnsPerHost = 64
		transport.DisableCompression = true
		c.http = &http.Client{Transport: transport}
	}
	if c.key == "" {
		if c.key, err = readKey(firstOf(opts.KeyFile, os.Getenv("FAAS_API_KEY_FILE"))); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

// readKey reads a key file; the usual one need not exist, since a server may
// need no key.
func readKey(path string) (string, error) {
	named := path != ""
	if !named {
		dir := os.Getenv("XDG_CONFIG_HOME")
		if !filepath.IsAbs(dir) {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", nil //nolint:nilerr // no home, no key file
			}
			dir = filepath.Join(home, ".config")
		}
		path = filepath.Join(dir, "faas", "key")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		if !named {
			return "", nil //nolint:nilerr // the server says so when it wants a key
		}
		return "", &faas.Error{Kind: faas.KindFailedPrecondition, Op: "read key file", Detail: path, Err: err}
	}
	return strings.TrimSpace(string(content)), nil
}

// Health asks whether the server works. It needs no key.
func (c *Client) Health(ctx context.Context) (*api.Health, error) {
	return get[api.Health](ctx, c, api.PathHealth, nil)
}

// Runtimes lists what every runtime of the server can do; refresh probes again.
func (c *Client) Runtimes(ctx context.Context, refresh bool) ([]faas.Capabilities, error) {
	query := url.Values{}
	if refresh {
		query.Set("refresh", "true")
	}
	list, err := get[api.RuntimeList](ctx, c, api.PathRuntimes, query)
	if err != nil {
		return nil, err
	}
	return list.Runtimes, nil
}

// Executions lists executions, newest first: up to limit (0: 50, at most
// 1000), from the cursor of the page before ("": from the start).
func (c *Client) Executions(ctx context.Context, limit int, cursor string) (*api.ExecutionList, error) {
	query := url.Values{}
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	return get[api.ExecutionList](ctx, c, api.PathExecutions, query)
}

// Execution shows one execution; faas.ErrNotFound when the project has none of
// that id.
func (c *Client) Execution(ctx context.Context, id string) (*faas.Execution, error) {
	return get[faas.Execution](ctx, c, api.PathExecutions+"/"+url.PathEscape(id), nil)
}

// Cancel ends a running execution and returns when its processes are gone.
func (c *Client) Cancel(ctx context.Context, id string) (*faas.Execution, error) {
	return call[faas.Execution](ctx, c, http.MethodPost, api.PathExecutions+"/"+url.PathEscape(id)+"/cancel", nil)
}

// Metrics returns the project's counters.
func (c *Client) Metrics(ctx context.Context) (*api.Metrics, error) {
	return get[api.Metrics](ctx, c, api.PathMetrics, nil)
}

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
	response, err := c.send(ctx, method, path, "application/json", body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, c.unreachable(err)
	case len(content) > maxAnswer:
		return nil, faas.Errorf(faas.KindPayloadTooLarge, "the server's answer is larger than %d bytes", maxAnswer)
	}
	answer := new(T)
	if err := json.Unmarshal(content, answer); err != nil {
		return nil, faas.Errorf(faas.KindInternal, "%s %s: the server's answer is not understood: %w", method, path, err)
	}
	return answer, nil
}

// send sends a request and returns the answer when it is a success.
func (c *Client) send(ctx context.Context, method, path, accept string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, faas.Errorf(faas.KindInvalidArgument, "encode request: %w", err)
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, content)
	if err != nil {
		return nil, faas.Errorf(faas.KindInvalidArgument, "%w", err)
	}
	c.headers(request.Header)
	request.Header.Set("Accept", accept)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if response.StatusCode/100 != 2 {
		defer response.Body.Close()
		return nil, problem(response)
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
	return p.Err(retryAfter)
}

// String names the server, never the key.
func (c *Client) String() string { return fmt.Sprintf("faas server %s", c.base.Redacted()) }
