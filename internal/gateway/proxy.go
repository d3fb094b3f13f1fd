package gateway

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

// target is where one request is passed on to.
type target struct {
	project, instance string
	port              int
	h2c               bool
	prefix            string // of the path that is the proxy's own; empty: by host name
	keep              bool   // Authorization is the program's, not ours
}

type targetKey struct{}

// host is the target's name for the transport, which keeps connections by it.
func (t *target) host() string {
	return net.JoinHostPort(t.instance+"."+hex.EncodeToString([]byte(t.project)), strconv.Itoa(t.port))
}

// proxy passes requests on to ports of instances.
type proxy struct {
	httputil.ReverseProxy
	plain, h2c *http.Transport
}

const (
	// idlePort is how long a connection to a port is kept without a request.
	idlePort = 15 * time.Second
	// sandboxPolicy keeps a page that comes from the API's own origin out of
	// it: without allow-same-origin it has an origin of its own.
	sandboxPolicy = "sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads"
)

func (g *Gateway) newProxy() *proxy {
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		instance, encoded, _ := strings.Cut(host, ".")
		project, err := hex.DecodeString(encoded)
		if err != nil {
			return nil, err
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			return nil, err
		}
		return g.opts.Executor.DialPort(ctx, string(project), instance, number)
	}
	p := &proxy{}
	p.plain = &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 8, IdleConnTimeout: idlePort, DisableCompression: true}
	p.h2c = &http.Transport{DialContext: dial, IdleConnTimeout: idlePort, DisableCompression: true, Protocols: new(http.Protocols)}
	p.h2c.Protocols.SetUnencryptedHTTP2(true)
	p.ReverseProxy = httputil.ReverseProxy{
		Rewrite: rewrite, Transport: p, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		ModifyResponse: modifyResponse, ErrorHandler: g.proxyFailed,
	}
	return p
}

// RoundTrip implements http.RoundTripper.
func (p *proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	t, ok := r.Context().Value(targetKey{}).(*target)
	if !ok {
		return nil, errors.New("a proxied request without its target")
	}
	if t.h2c {
		return p.h2c.RoundTrip(r)
	}
	return p.plain.RoundTrip(r)
}

func (p *proxy) close() {
	p.plain.CloseIdleConnections()
	p.h2c.CloseIdleConnections()
}

// forward passes a request on.
func (g *Gateway) forward(w http.ResponseWriter, r *http.Request, t *target) {
	if g.draining.Load() {
		g.fail(w, r, errDraining)
		return
	}
	ctx := context.WithValue(r.Context(), targetKey{}, t)
	if r.Header.Get("Upgrade") != "" {
		// Nobody else counts the connection from here on.
		g.work.Add(1)
		defer g.work.Done()
		var done context.CancelFunc
		ctx, done = g.streaming(ctx)
		defer done()
	}
	g.proxy.ServeHTTP(w, r.WithContext(ctx))
}

// portCookie is the name of the cookie by which a browser is known on the host
// name of a port; see portSessions.
const portCookie = "faas-port"

// rewrite makes the request that the program inside gets: nothing in it is a
// credential of ours.
func rewrite(p *httputil.ProxyRequest) {
	t, ok := p.In.Context().Value(targetKey{}).(*target)
	if !ok {
		return
	}
	p.Out.URL.Scheme, p.Out.URL.Host = "http", t.host()
	p.SetXForwarded()
	header := p.Out.Header
	header.Del("X-API-Key")
	if !t.keep || auth.WellFormed(bearer(header)) {
		header.Del("Authorization")
	}
	if t.prefix == "" {
		dropCookie(header)
		return
	}
	p.Out.Host = "localhost:" + strconv.Itoa(t.port)
	header.Del("Cookie")
	header.Set("X-Forwarded-Prefix", strings.TrimSuffix(t.prefix, "/"))
	rest := strings.TrimPrefix(p.In.URL.EscapedPath(), strings.TrimSuffix(t.prefix, "/"))
	if plain, err := url.PathUnescape(rest); err == nil {
		p.Out.URL.Path, p.Out.URL.RawPath = plain, rest
	}
}

func bearer(header http.Header) string {
	_, token, _ := strings.Cut(header.Get("Authorization"), " ")
	return strings.TrimSpace(token)
}

// dropCookie removes our cookie and leaves the program's.
func dropCookie(header http.Header) {
	lines := header.Values("Cookie")
	header.Del("Cookie")
	for _, line := range lines {
		var kept []string
		for part := range strings.SplitSeq(line, ";") {
			if name, _, _ := strings.Cut(strings.TrimSpace(part), "="); name != portCookie && name != "" {
				kept = append(kept, strings.TrimSpace(part))
			}
		}
		if len(kept) > 0 {
			header.Add("Cookie", strings.Join(kept, "; "))
		}
	}
}

// Headers by which an answer could reach beyond itself. On a host name of its
// own a program may set its own cookies, for that name alone; below the API it
// may set nothing.
var (
	neverFromGuests = []string{"Strict-Transport-Security", "Alt-Svc", "Public-Key-Pins", "Nel", "Report-To", "Reporting-Endpoints"}
	notBelowTheAPI  = []string{"Set-Cookie", "Clear-Site-Data", "Service-Worker-Allowed", "Www-Authenticate", "Sourcemap", "Origin-Agent-Cluster",
		"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"}
)

func modifyResponse(r *http.Response) error {
	t, ok := r.Request.Context().Value(targetKey{}).(*target)
	if !ok {
		return errors.New("an answer without its target")
	}
	for _, name := range neverFromGuests {
		r.Header.Del(name)
	}
	if t.prefix == "" {
		ownCookies(r.Header)
		return nil
	}
	for _, name := range notBelowTheAPI {
		r.Header.Del(name)
	}
	r.Header.Add("Content-Security-Policy", sandboxPolicy)
	r.Header.Set("X-Content-Type-Options", "nosniff")
	r.Header.Set("X-Frame-Options", "SAMEORIGIN")
	if to := r.Header.Get("Location"); strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") {
		r.Header.Set("Location", strings.TrimSuffix(t.prefix, "/")+to)
	}
	return nil
}

// ownCookies lets a program's cookies be those of its host name alone, and
// keeps it from setting ours.
func ownCookies(header http.Header) {
	lines := header.Values("Set-Cookie")
	header.Del("Set-Cookie")
	for _, line := range lines {
		parts := strings.Split(line, ";")
		if name, _, _ := strings.Cut(strings.TrimSpace(parts[0]), "="); name == portCookie {
			continue
		}
		kept := parts[:1]
		for _, part := range parts[1:] {
			if name, _, _ := strings.Cut(strings.TrimSpace(part), "="); !strings.EqualFold(name, "Domain") {
				kept = append(kept, part)
			}
		}
		header.Add("Set-Cookie", strings.Join(kept, ";"))
	}
}

// proxyFailed answers a request that could not be passed on.
func (g *Gateway) proxyFailed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody waits for an answer
	}
	var known *faas.Error
	if !errors.As(err, &known) {
		known = &faas.Error{Kind: faas.KindUnavailable, Detail: "the program inside did not answer as HTTP does: " + err.Error()}
	}
	g.fail(w, r, known)
}

// portPath is the pattern of the reverse proxy below the API.
const portPath = api.PathInstances + "/{id}/ports/{port}/{path}"

// byPath says whether a request is for the reverse proxy below the API.
func byPath(r *http.Request) bool {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), api.PathInstances+"/")
	if !ok {
		return false
	}
	parts := strings.SplitN(rest, "/", 4)
	return len(parts) == 4 && parts[1] == "ports"
}
