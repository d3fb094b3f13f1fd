package gateway

import (
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

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

// caller is what the chain knows of one request.
type caller struct {
	requestID string
	identity  auth.Identity
}

type callerKey struct{}

func requestID(ctx context.Context) string {
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		return c.requestID
	}
	return ""
}

func identity(ctx context.Context) auth.Identity {
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
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
		c := &caller{requestID: id}
		recorder := &statusRecorder{ResponseWriter: w}
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

// statusRecorder remembers the status for the log.
type statusRecorder struct {
	http.ResponseWriter
	status int
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
// what is configured.
func (g *Gateway) allowedHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
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

// limit bounds what a request may bring.
func (g *Gateway) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.RawQuery)+len(r.URL.Path) > maxQueryBytes {
			g.fail(w, r, faas.Errorf(faas.KindPayloadTooLarge, "path and query are larger than %d bytes", maxQueryBytes))
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
		c, ok := r.Context().Value(callerKey{}).(*caller)
		if !ok {
			g.fail(w, r, errors.New("request without a caller"))
			return
		}
		if g.opts.Auth == nil {
			c.identity = auth.Identity{KeyID: "none", Project: faas.DefaultProject, Role: auth.RoleAdmin}
			next.ServeHTTP(w, r)
			return
		}
		if slices.Contains(open, r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		key, err := keyOf(r)
		if err == nil {
			c.identity, err = g.opts.Auth.Authenticate(r.Context(), key)
		}
		if err == nil && r.Method != http.MethodGet && r.Method != http.MethodHead && !c.identity.Role.Allows(auth.RoleMember) {
			err = faas.Errorf(faas.KindPermissionDenied, "a key with the role %s may only read", c.identity.Role)
		}
		if err != nil {
			g.fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
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
