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
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/faas-platform/faas"
)

// DefaultURL is where a server listens unless configured otherwise.
const DefaultURL = "http://127.0.0.1:8080"

// Options configures a Client. Every field may be left empty.
type Options struct {
	URL     string // of the server; FAAS_API_URL, then DefaultURL
	Key     string // API key; FAAS_API_KEY, then KeyFile
	KeyFile string // FAAS_API_KEY_FILE, then the usual place
	HTTP    *http.Client

	// MaxRetries bounds how often a request is sent again where that is safe:
	// when the server cannot have seen it, refused it for now, or does it once
	// however often it comes. 0 means DefaultRetries, less than 0 never.
	MaxRetries int
	// Hooks are called as things happen.
	Hooks Hooks
}

// DefaultRetries is how often a request is sent again unless Options say
// otherwise.
const DefaultRetries = 3

// Client calls one server. It is safe for concurrent use.
type Client struct {
	base    *url.URL
	key     string
	http    *http.Client
	retries int
	once    string // Idempotency-Key; "" for one made for each request
	hooks   Hooks
	counter *counter
}

// New returns a client. It reads the key, and sends nothing.
func New(opts Options) (*Client, error) {
	address := firstOf(opts.URL, os.Getenv("FAAS_API_URL"), DefaultURL)
	base, err := url.Parse(strings.TrimSuffix(address, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, faas.InvalidField("URL", "%q is not an http or https URL", address)
	}
	c := &Client{
		base: base, http: opts.HTTP, key: firstOf(opts.Key, os.Getenv("FAAS_API_KEY")),
		retries: opts.MaxRetries, hooks: opts.Hooks, counter: &counter{},
	}
	if c.retries == 0 {
		c.retries = DefaultRetries
	}
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

// RequestOptions is what WithOptions changes; what is zero stays.
type RequestOptions struct {
	MaxRetries     int    // less than 0: never
	IdempotencyKey string // a request that creates something and is made twice with it is done once
}

// WithOptions returns the same client with other options; connections and
// counters are shared.
func (c *Client) WithOptions(opts RequestOptions) *Client {
	other := *c
	if opts.MaxRetries != 0 {
		other.retries = opts.MaxRetries
	}
	other.once = firstOf(opts.IdempotencyKey, c.once)
	return &other
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

// String names the server, never the key.
func (c *Client) String() string { return fmt.Sprintf("faas server %s", c.base.Redacted()) }
