package gateway

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/audit"
	"github.com/faas-platform/faas/internal/auth"
)

// caller is what the chain knows of one request.
type caller struct {
	requestID string
	identity  auth.Identity
	area      string // of the API: the operation's first tag
	answer    *statusRecorder
}

type callerKey struct{}

// callerOf returns who the context of a request is for, nil when it is of none.
func callerOf(ctx context.Context) *caller {
	c, _ := ctx.Value(callerKey{}).(*caller) //nolint:errcheck // nil says so
	return c
}

func requestID(ctx context.Context) string {
	if c := callerOf(ctx); c != nil {
		return c.requestID
	}
	return ""
}

func identity(ctx context.Context) auth.Identity {
	if c := callerOf(ctx); c != nil {
		return c.identity
	}
	return auth.Identity{}
}

// identify gives the request its id, catches panics and writes the log line.
func (g *Gateway) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(api.HeaderRequestID)
		if !validRequestID(id) {
			id = faas.NewID(faas.PrefixRequest)
		}
		started := time.Now()
		recorder := &statusRecorder{ResponseWriter: w}
		c := &caller{requestID: id, answer: recorder}
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
		w.Header().Set(api.HeaderRequestID, id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			if cause := recover(); cause != nil {
				g.recovered(recorder, r, cause)
			}
			if g.log.Enabled(r.Context(), slog.LevelInfo) {
				g.log.LogAttrs(r.Context(), slog.LevelInfo, "request",
					slog.String("request_id", id), slog.String("method", r.Method), slog.String("path", r.URL.Path),
					slog.Int("status", recorder.status), slog.Float64("duration_ms", float64(time.Since(started).Microseconds())/1000),
					slog.String("project", c.identity.Project), slog.String("key", c.identity.KeyID), slog.String("remote", r.RemoteAddr))
			}
		}()
		next.ServeHTTP(recorder, r)
	})
}

// recovered ends a request whose handler panicked. Half an answer is cut off,
// so that nobody takes it for a whole one.
func (g *Gateway) recovered(w *statusRecorder, r *http.Request, cause any) {
	if cause == http.ErrAbortHandler { //nolint:errorlint // the documented sentinel of net/http, as a panic value
		panic(cause)
	}
	g.log.LogAttrs(r.Context(), slog.LevelError, "handler panicked", slog.String("request_id", requestID(r.Context())),
		slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	g.fail(w, r, faas.Errorf(faas.KindInternal, "panic: %v", cause))
}

// validRequestID accepts what is safe in a log line and a header.
func validRequestID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	return !strings.ContainsFunc(id, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.:/+=", c)
	})
}

// maxKept bounds what is remembered of an answer's body.
const maxKept = 64 << 10

// statusRecorder remembers the status of an answer and, where it is asked to,
// a short body.
type statusRecorder struct {
	http.ResponseWriter
	status int
	keep   bool
	kept   bytes.Buffer
}

func (s *statusRecorder) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *statusRecorder) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	if s.keep && s.kept.Len()+len(b) <= maxKept {
		s.kept.Write(b)
	}
	return s.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *statusRecorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// guard refuses what a web page of somebody else could send: a request under a
// name that is not ours (DNS rebinding) or from a foreign origin.
func (g *Gateway) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.allowedHost(r.Host) {
			g.fail(w, r, &faas.Error{
				Kind: faas.KindPermissionDenied, Detail: "this server does not answer to the host name " + strconv.Quote(r.Host),
				Remedy: "use localhost or an IP address, or add the name to server.allowed_hosts",
			})
			return
		}
		origin := r.Header.Get("Origin")
		if origin == "" {
			if site := r.Header.Get("Sec-Fetch-Site"); (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
				g.fail(w, r, foreignOrigin(site))
				return
			}
			next.ServeHTTP(w, r)
			return
		}
		if !sameOrigin(origin, r) {
			if !slices.Contains(g.opts.AllowedOrigins, origin) {
				g.fail(w, r, foreignOrigin(origin))
				return
			}
			allowOrigin(w.Header(), origin)
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func foreignOrigin(origin string) error {
	return &faas.Error{
		Kind: faas.KindPermissionDenied, Detail: "web pages of " + strconv.Quote(origin) + " may not use this server",
		Remedy: "add the origin to server.allowed_origins",
	}
}

func allowOrigin(header http.Header, origin string) {
	header.Set("Access-Control-Allow-Origin", origin)
	header.Add("Vary", "Origin")
	header.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
	header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-API-Key, X-Request-Id, Idempotency-Key, Last-Event-ID")
	header.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After, "+api.TrailerExitCode+", "+api.TrailerResult+", "+api.TrailerError)
	header.Set("Access-Control-Max-Age", "600")
}

// allowedHost accepts IP addresses (rebinding needs a name), localhost and
// what is configured. Names below the domain of exposed ports do not come here.
func (g *Gateway) allowedHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" {
		return true
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return slices.ContainsFunc(g.opts.AllowedHosts, func(name string) bool {
		return name == "*" || strings.EqualFold(name, host)
	})
}

func sameOrigin(origin string, r *http.Request) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// endless says whether a request's body is passed on as it comes, so that its
// size is none of the server's business.
func endless(r *http.Request) bool {
	if r.Method == http.MethodPost && (r.URL.Path == api.PathImageImport || r.URL.Path == api.PathSnapshotImport) {
		return true
	}
	if !strings.HasPrefix(r.URL.Path, api.PathInstances+"/") {
		return false
	}
	return r.Method == http.MethodPut && (strings.HasSuffix(r.URL.Path, "/files") || strings.HasSuffix(r.URL.Path, "/archive")) || byPath(r)
}

// limit bounds what a request may bring.
func (g *Gateway) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.RawQuery)+len(r.URL.Path) > maxQueryBytes {
			g.fail(w, r, faas.Errorf(faas.KindPayloadTooLarge, "path and query are larger than %d bytes", maxQueryBytes))
			return
		}
		if endless(r) {
			next.ServeHTTP(w, r)
			return
		}
		if r.ContentLength > g.opts.MaxBodyBytes {
			g.fail(w, r, &http.MaxBytesError{Limit: g.opts.MaxBodyBytes})
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = http.MaxBytesReader(w, r.Body, g.opts.MaxBodyBytes)
		}
		next.ServeHTTP(w, r)
	})
}

// open are the routes that need no key: they tell nothing of any project.
var open = []string{api.PathHealth, api.PathOpenAPI, "/openapi.yaml", api.PathDocs}

// authenticate finds out whose request it is.
func (g *Gateway) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callerOf(r.Context())
		if c == nil {
			g.fail(w, r, errors.New("request without a caller"))
			return
		}
		if err := g.recognise(c, r); err != nil {
			g.fail(w, r, err)
			return
		}
		ctx := audit.WithActor(r.Context(), audit.Actor{
			Project: c.identity.Project, KeyID: c.identity.KeyID, RequestID: c.requestID, Remote: remoteAddr(r).String(),
		})
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// recognise finds the caller's identity, and refuses one that may not do what
// the method says.
func (g *Gateway) recognise(c *caller, r *http.Request) error {
	plain := ticketIn(r)
	if g.opts.Auth == nil {
		c.identity = auth.Identity{KeyID: "none", Project: faas.DefaultProject, Role: auth.RoleAdmin}
		return nil
	}
	if _, console := consoleRoutes[r.URL.Path]; console || slices.Contains(open, r.URL.Path) {
		return nil
	}
	if r.Header.Get("X-API-Key") == "" && !auth.WellFormed(bearer(r.Header)) {
		if who, ok := g.publicPath(r); ok {
			c.identity = who
			return nil
		}
	}
	var err error
	if plain != "" {
		c.identity, err = g.redeem(r, plain)
	} else {
		var key string
		if key, err = keyOf(r); err == nil {
			c.identity, err = g.opts.Auth.Authenticate(r.Context(), key, remoteAddr(r))
		}
	}
	if err != nil {
		return err
	}
	if err := g.opts.Quota.Request(c.identity); err != nil {
		return err
	}
	if changes(r.Method) && r.URL.Path != api.PathTickets { // a ticket gives no more than its key
		return requireUser(r.Context())
	}
	return nil
}

// scoped refuses keys whose scopes do not cover the operation.
func (g *Gateway) scoped(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	if c := callerOf(ctx.Context()); c != nil && len(op.Tags) > 0 && op.Tags[0] != serverArea {
		c.area = op.Tags[0]
		if !c.identity.InScope(c.area, changes(op.Method)) {
			r, w := humago.Unwrap(ctx)
			g.fail(w, r, outOfScope(c.area))
			return
		}
	}
	next(ctx)
}

// serverArea is the area of what every key may ask.
const serverArea = "server"

func outOfScope(area string) error {
	return &faas.Error{Kind: faas.KindPermissionDenied, Detail: "the key's scopes do not cover this: it needs " + area, Remedy: "use a key with that scope"}
}

// remoteAddr returns the address that a request comes from.
func remoteAddr(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap()
}

// keyOf takes the key from whichever header carries it.
func keyOf(r *http.Request) (string, error) {
	if key := r.Header.Get("X-API-Key"); key != "" {
		return key, nil
	}
	scheme, key, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if ok && strings.EqualFold(scheme, "Bearer") && strings.TrimSpace(key) != "" {
		return strings.TrimSpace(key), nil
	}
	return "", &faas.Error{
		Kind: faas.KindUnauthenticated, Detail: "the request carries no API key",
		Remedy: "send Authorization: Bearer KEY or X-API-Key: KEY",
	}
}

// route hands the request to its operation; what is not there is a problem
// like any other.
func (g *Gateway) route(w http.ResponseWriter, r *http.Request) {
	if _, pattern := g.mux.Handler(r); pattern != "" {
		g.mux.ServeHTTP(w, r)
		return
	}
	detail := "there is no " + r.URL.Path
	if others := g.methods(r); len(others) > 0 {
		detail = r.Method + " is not offered on " + r.URL.Path + "; " + strings.Join(others, ", ") + " is"
		w.Header().Set("Allow", strings.Join(others, ", "))
	}
	g.fail(w, r, faas.Errorf(faas.KindNotFound, "%s", detail))
}

// methods lists what else the path offers.
func (g *Gateway) methods(r *http.Request) []string {
	var found []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := g.mux.Handler(other); pattern != "" {
			found = append(found, method)
		}
	}
	return found
}
