// Package gateway is the HTTP front door: it decodes, authenticates and
// encodes, and leaves everything else to the executor.
//
// A request passes, in this order: a request id, the log and the net under
// panics; the check of Host and Origin; the limits; the key; then its route.
// Every error leaves as problem+json with a stable code (package api).
package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/audit"
	"github.com/faas-platform/faas/internal/auth"
	"github.com/faas-platform/faas/internal/idempotency"
	"github.com/faas-platform/faas/internal/quota"
	"github.com/faas-platform/faas/internal/ticket"
	"github.com/faas-platform/faas/internal/usage"
)

// Executor is what the gateway needs of the executor, an interface for each
// area of the API, which stands beside the area's routes.
type Executor interface {
	Executions
	Pools
	Runtimes
	Streams
	Ports
	Instances
	Snapshots
	Transfers
	Branches
	Forks
}

// Options configures a Gateway. Executor is required.
type Options struct {
	Executor Executor
	Auth     *auth.Authenticator // nil: everyone is an admin of the default project
	Audit    *audit.Log          // nil: nothing is written
	Quota    *quota.Ledger       // nil: keys have no bounds
	Usage    *usage.Meter        // nil: nothing is metered
	Answers  idempotency.Store   // nil: Idempotency-Key does nothing
	SSH      *SSH                // nil: no routes about SSH answer
	Images   ImageStore          // nil: there are none
	// ImageNames says which project uses which image; nil: all use all.
	ImageNames ImageNames
	Version    string       // of the program, for /health
	Logger     *slog.Logger // nil: discard
	// AllowedHosts are names that a Host header may carry besides localhost,
	// its subdomains and IP addresses; "*" accepts every name.
	AllowedHosts []string
	// AllowedOrigins are the web origins whose pages may use the API.
	AllowedOrigins []string
	// PortDomain is what stands behind the names of exposed ports; "": localhost.
	PortDomain   string
	MaxBodyBytes int64 // 0: 64 MiB
	// Resources are what an execution gets that does not say: quotas count with
	// them.
	Resources faas.Resources
	Counters  func() *api.ExecutorMetrics // nil: not offered
}

// Limits that no configuration moves: no honest request comes near them.
const (
	defaultMaxBody  = 64 << 20
	maxQueryBytes   = 8 << 10
	maxHeaderBytes  = 64 << 10
	bodyReadTimeout = 60 * time.Second
	answerTimeout   = 60 * time.Second // for writing an answer that is not a stream
	heartbeatPeriod = 15 * time.Second // silence on a stream is never longer
)

// Gateway serves the HTTP API.
type Gateway struct {
	opts    Options
	log     *slog.Logger
	handler http.Handler
	mux     *http.ServeMux
	api     huma.API
	openapi []byte // /openapi.json
	started time.Time

	tickets  *ticket.Office
	answers  *idempotency.Keeper
	counters counters
	served   served
	runtimes runtimeCache

	draining atomic.Bool
	base     context.Context // of every request and probe
	stop     context.CancelCauseFunc
	leaving  context.Context // ends when the server begins to go away
	leave    context.CancelFunc
	proxy    *proxy
	sessions portSessions
	work     sync.WaitGroup // hijacked connections and probes
}

// New builds a gateway.
func New(opts Options) (*Gateway, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.MaxBodyBytes == 0 {
		opts.MaxBodyBytes = defaultMaxBody
	}
	g := &Gateway{opts: opts, log: opts.Logger, mux: http.NewServeMux(), tickets: ticket.New(), started: time.Now()}
	g.opts.Executor = &metered{Executor: opts.Executor, quota: opts.Quota, usage: opts.Usage, defaults: opts.Resources, names: opts.ImageNames}
	if opts.Answers != nil {
		g.answers = idempotency.New(opts.Answers)
	}
	g.base, g.stop = context.WithCancelCause(context.Background())
	if g.opts.PortDomain == "" {
		g.opts.PortDomain = "localhost"
	}
	g.proxy = g.newProxy()
	g.leaving, g.leave = context.WithCancel(g.base)
	g.api = humago.New(g.mux, g.humaConfig())
	describeForms(g.api.OpenAPI().Components.Schemas)
	g.api.UseMiddleware(g.humaProblems, g.measured, g.audited, g.scoped)
	g.register()
	spec, err := g.api.OpenAPI().MarshalJSON()
	if err != nil {
		return nil, faas.Errorf(faas.KindInternal, "describe the API: %w", err)
	}
	g.openapi = spec
	g.handler = g.identify(g.byHost(g.guard(g.limit(g.authenticate(g.idempotent(http.HandlerFunc(g.route)))))))
	return g, nil
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }

// OpenAPI returns the description of the API as YAML.
func (g *Gateway) OpenAPI() ([]byte, error) { return g.api.OpenAPI().YAML() }

// Server returns an HTTP server for the gateway with its limits and time-outs
// set. Close cancels the requests that it runs.
func (g *Gateway) Server() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true) // gRPC clients of exposed ports
	return &http.Server{
		Protocols:         protocols,
		Handler:           g,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return g.base },
	}
}

// Drain makes /health say that the server is going away, refuses new
// executions, and waits until the connections that http.Server does not count
// have ended, or ctx does.
func (g *Gateway) Drain(ctx context.Context) error {
	g.draining.Store(true)
	g.leave()
	ended := make(chan struct{})
	go func() {
		g.work.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errStopped is what an execution ends with when the server does not wait.
var errStopped = &faas.Error{Kind: faas.KindUnavailable, Detail: "the server was shut down before the command ended"}

// Close cancels what is left. It waits for connections and probes, not for
// what an http.Server runs.
func (g *Gateway) Close() {
	g.draining.Store(true)
	g.stop(errStopped)
	g.work.Wait()
	g.proxy.close()
}
