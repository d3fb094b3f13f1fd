package docker

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
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

// explain turns an error of a call into one of the platform's. ctx is the
// caller's own context, limit what the call was given.
func (c *connection) explain(ctx context.Context, limit time.Duration, err error) error {
	var known *faas.Error
	switch {
	case errors.As(err, &known):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "permission denied while trying to connect"):
		return &faas.Error{
			Kind: faas.KindUnavailable, Detail: "no permission to use the docker engine's socket " + c.ep.host,
			Remedy: "add the user to the docker group (`sudo usermod -aG docker $USER`, then log in again) or use rootless Docker",
			Err:    quiet{err},
		}
	case errors.Is(err, os.ErrNotExist):
		return c.unreachable("there is no docker engine at "+c.ep.host+" (from "+c.ep.source+")", quiet{err})
	case errors.Is(err, context.DeadlineExceeded):
		return c.unreachable("the docker engine at "+c.ep.host+" did not answer within "+limit.String(), quiet{err})
	case client.IsErrConnectionFailed(err) || isBrokenConnection(err):
		return c.unreachable("the docker engine at "+c.ep.host+" cannot be reached or went away", innermost(err))
	}
	return answered(err)
}

func (c *connection) unreachable(detail string, err error) error {
	return &faas.Error{
		Kind: faas.KindUnavailable, Detail: detail, Err: err,
		Remedy: "start Docker, or point DOCKER_HOST or `docker context use` at a running engine", RetryAfter: time.Second,
	}
}

// answered classes an error that the engine itself gave.
func answered(err error) error {
	text := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	e := &faas.Error{Kind: faas.KindInternal, Detail: "docker engine: " + text, Err: quiet{err}}
	switch {
	case strings.Contains(text, "no space left on device"), strings.Contains(text, "cannot allocate memory"):
		e.Kind = faas.KindResourceExhausted
	case cerrdefs.IsNotFound(err):
		e.Kind = faas.KindNotFound
	case cerrdefs.IsConflict(err):
		e.Kind = faas.KindConflict
	case cerrdefs.IsInvalidArgument(err):
		e.Kind = faas.KindInvalidArgument
	case cerrdefs.IsUnauthorized(err), cerrdefs.IsPermissionDenied(err):
		e.Kind = faas.KindPermissionDenied
	case cerrdefs.IsUnavailable(err):
		e.Kind = faas.KindUnavailable
	}
	return e
}

// isBrokenConnection says whether err is that of a connection that ended
// rather than the engine's answer.
func isBrokenConnection(err error) bool {
	var netErr net.Error
	var opErr *net.OpError
	return errors.As(err, &opErr) || (errors.As(err, &netErr) && netErr.Timeout()) ||
		errors.Is(err, net.ErrClosed) || isEOF(err)
}

// innermost leaves the client's own words about the engine's address out,
// which is only a name to it.
func innermost(err error) error {
	var opErr *net.OpError
	if errors.As(err, &opErr) {
		return opErr
	}
	return err
}

// quiet keeps a cause reachable whose text the detail already holds.
type quiet struct{ error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.error }

// opError says during which operation, and on what, an error happened.
func opError(op, what string, err error) *faas.Error {
	var known *faas.Error
	if !errors.As(err, &known) {
		return &faas.Error{Kind: faas.KindOf(err), Op: op, Detail: what, Err: err}
	}
	e := *known
	if e.Op != "" && e.Op != op {
		return &faas.Error{Kind: e.Kind, Op: op, Field: e.Field, Detail: what, Remedy: "", RetryAfter: e.RetryAfter, Err: err}
	}
	e.Op = op
	if what != "" {
		e.Detail = what + ": " + e.Detail
	}
	return &e
}
