package docker

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/faas-platform/faas"
)

// How long one call of each class may take before the engine counts as not
// answering. A loaded engine needs seconds to start a container; it answers
// questions at once or not at all.
const (
	pingTimeout   = 5 * time.Second
	askTimeout    = 20 * time.Second
	changeTimeout = 90 * time.Second
)

// minAPI is the oldest API that the driver works with (engine 20.10): older
// ones cannot give one-shot statistics.
const minAPI = "1.41"

// engine is a connection to one engine, made when it is first needed.
type engine struct {
	host, context string

	turn chan struct{} // holds one token: who has it may change what follows
	conn *connection
}

// connection is an engine that answered once, and what is known of it.
type connection struct {
	api     *client.Client
	ep      endpoint
	version client.ServerVersionResult

	mu     sync.Mutex                    // held while what follows is being made
	agent  struct{ name, digest string } // volume that holds the agent
	shared *sharing                      // what the engine has in common with this machine
}

func newEngine(host, context string) *engine {
	e := &engine{host: host, context: context, turn: make(chan struct{}, 1)}
	e.turn <- struct{}{}
	return e
}

// connect returns the connection, making it first. fresh forgets an earlier
// one, so that an address or engine that changed is noticed.
func (e *engine) connect(ctx context.Context, fresh bool) (*connection, error) {
	select {
	case <-e.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { e.turn <- struct{}{} }()
	if e.conn != nil && !fresh {
		return e.conn, nil
	}
	conn, err := openConnection(ctx, e.host, e.context)
	if err != nil {
		return nil, err
	}
	if e.conn != nil {
		_ = e.conn.api.Close()
	}
	e.conn = conn
	return conn, nil
}

// openConnection finds the engine, asks it for a sign of life and agrees on an
// API version.
func openConnection(ctx context.Context, host, contextName string) (*connection, error) {
	ep, err := resolveEndpoint(host, contextName)
	if err != nil {
		return nil, err
	}
	dial, err := ep.dialer()
	if err != nil {
		return nil, err
	}
	// Without HTTP/2 the transport has no TLS settings, by which the client
	// would take the engine for one that is spoken to in HTTPS.
	tr := &http.Transport{
		MaxIdleConns: 6, MaxIdleConnsPerHost: 6, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	// The address is only a name here: every connection goes through dial. A
	// socket's name keeps proxies of the environment out.
	api, err := client.New(
		client.WithHTTPClient(&http.Client{Transport: tr, CheckRedirect: client.CheckRedirect}),
		client.WithHost("unix://docker-engine"),
		client.WithDialContext(func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }),
		client.WithAPIVersionFromEnv(),
	)
	if err != nil {
		return nil, &faas.Error{Kind: faas.KindInternal, Op: "set up docker client", Detail: ep.host, Err: err}
	}
	c := &connection{api: api, ep: ep}
	if err := c.greet(ctx); err != nil {
		_ = api.Close()
		return nil, err
	}
	return c, nil
}

// greet agrees on an API version and asks the engine what it is.
func (c *connection) greet(ctx context.Context) error {
	pingCtx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	ping, err := c.api.Ping(pingCtx, client.PingOptions{NegotiateAPIVersion: true})
	if err != nil {
		return c.explain(ctx, pingTimeout, err)
	}
	if ping.APIVersion != "" && versions.LessThan(ping.APIVersion, minAPI) {
		return &faas.Error{
			Kind: faas.KindCapabilityUnavailable, Op: "connect to docker engine",
			Detail: "the engine at " + c.ep.host + " speaks API " + ping.APIVersion + "; " + minAPI + " or newer is needed",
			Remedy: "update Docker Engine to 20.10 or newer",
		}
	}
	c.version, err = c.api.ServerVersion(pingCtx, client.ServerVersionOptions{})
	if err != nil {
		return c.explain(ctx, pingTimeout, err)
	}
	c.version.Arch = strings.ToLower(c.version.Arch)
	if c.version.Os != "linux" {
		return &faas.Error{
			Kind: faas.KindCapabilityUnavailable, Op: "connect to docker engine",
			Detail: "the engine at " + c.ep.host + " runs " + c.version.Os + " containers", Remedy: "switch Docker to Linux containers",
		}
	}
	return nil
}

// close gives up the idle connections.
func (e *engine) close() error {
	<-e.turn
	defer func() { e.turn <- struct{}{} }()
	if e.conn == nil {
		return nil
	}
	err := e.conn.api.Close()
	e.conn = nil
	return err
}

// call runs one exchange with the engine within limit and explains its error.
func (e *engine) call(ctx context.Context, limit time.Duration, fn func(ctx context.Context, api *client.Client) error) error {
	conn, err := e.connect(ctx, false)
	if err != nil {
		return err
	}
	return conn.call(ctx, limit, fn)
}

func (c *connection) call(ctx context.Context, limit time.Duration, fn func(ctx context.Context, api *client.Client) error) error {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := fn(bounded, c.api); err != nil {
		return c.explain(ctx, limit, err)
	}
	return nil
}

// inspect describes a container.
func (e *engine) inspect(ctx context.Context, id string) (container.InspectResponse, error) {
	var out container.InspectResponse
	err := e.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		out = res.Container
		return err
	})
	return out, err
}

// remove removes a container with its anonymous volumes, running or not; one
// that is gone is no error.
func (e *engine) remove(ctx context.Context, id string) error {
	err := e.call(ctx, changeTimeout, func(ctx context.Context, api *client.Client) error {
		_, err := api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		return err
	})
	if errors.Is(err, faas.ErrNotFound) {
		return nil
	}
	return err
}
