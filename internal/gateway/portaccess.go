package gateway

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

// portsArea is the area of exposed ports in the scopes of keys.
const portsArea = "ports"

// byHost passes on what comes under the host name of an exposed port. Nothing
// under such a name ever reaches the API: its pages are the guests'.
func (g *Gateway) byHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := g.subdomainOf(r.Host)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		port, err := g.opts.Executor.PortOf(r.Context(), name)
		if err != nil {
			g.fail(w, r, err)
			return
		}
		t := &target{project: port.Project, instance: port.InstanceID, port: port.Port, h2c: port.Protocol == faas.PortH2C, keep: true}
		if port.Access != faas.PortPublic {
			answered, err := g.admitToPort(w, r, port, t)
			if answered {
				return
			}
			if err != nil {
				g.fail(w, r, err)
				return
			}
		}
		g.forward(w, r, t)
	})
}

// subdomainOf returns what stands before the domain of exposed ports in a Host
// header.
func (g *Gateway) subdomainOf(hostport string) (string, bool) {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	name, ok := strings.CutSuffix(host, "."+g.opts.PortDomain)
	return name, ok && name != ""
}

// admitToPort finds out whether a request may use a port that asks for a key:
// by a key, a ticket, which becomes a cookie, or that cookie. It says whether
// it has answered already.
func (g *Gateway) admitToPort(w http.ResponseWriter, r *http.Request, port *faas.Port, t *target) (answered bool, err error) {
	c := callerOf(r.Context())
	if g.opts.Auth == nil {
		return false, nil
	}
	plain := ticketIn(r)
	cookie, cookieErr := r.Cookie(portCookie)
	switch {
	case plain != "":
		if c.identity, err = g.redeemAny(r, plain); err != nil {
			return false, err
		}
		if err := portAllowed(c.identity, port, r.Method); err != nil {
			return false, err
		}
		http.SetCookie(w, &http.Cookie{
			Name: portCookie, Value: g.sessions.begin(c.identity.KeyID, port.ID), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
			Secure: r.TLS != nil, MaxAge: int(sessionLife / time.Second),
		})
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, r.URL.RequestURI(), http.StatusSeeOther) //nolint:gosec // the same address without its ticket
		return true, nil
	case cookieErr == nil && r.Header.Get("X-API-Key") == "" && !auth.WellFormed(bearer(r.Header)):
		c.identity, err = g.sessionIdentity(r, cookie.Value, port.ID)
	default:
		t.keep = r.Header.Get("X-API-Key") != ""
		var key string
		if key, err = keyOf(r); err == nil {
			c.identity, err = g.opts.Auth.Authenticate(r.Context(), key, remoteAddr(r))
		}
	}
	if err == nil {
		err = portAllowed(c.identity, port, r.Method)
	}
	if err == nil {
		err = g.opts.Quota.Request(c.identity)
	}
	return false, err
}

func portAllowed(who auth.Identity, port *faas.Port, method string) error {
	switch {
	case who.Project != port.Project:
		return faas.Errorf(faas.KindNotFound, "there is no exposed port %s", port.Subdomain)
	case !who.InScope(portsArea, changes(method)):
		return outOfScope(portsArea)
	case changes(method) && !who.Role.Allows(auth.RoleUser):
		return faas.Errorf(faas.KindPermissionDenied, "a key with the role %s may only read", who.Role)
	}
	return nil
}

// sessionIdentity finds the caller whose browser sends a port's cookie.
func (g *Gateway) sessionIdentity(r *http.Request, token, port string) (auth.Identity, error) {
	keyID, ok := g.sessions.find(token, port)
	if !ok {
		return auth.Identity{}, &faas.Error{Kind: faas.KindUnauthenticated, Detail: "the browser's session for this port is over",
			Remedy: "open it again with a new ticket: POST /api/v1/tickets, then ?ticket="}
	}
	return g.identityOf(r.Context(), keyID)
}

const (
	// sessionLife is how long a browser may use a port on one ticket.
	sessionLife = 12 * time.Hour
	maxSessions = 4096
)

// portSessions are the browsers that showed a ticket for a port. They live in
// memory and end with the process, and with the key.
type portSessions struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]portSession
}

type portSession struct {
	keyID, port string
	expires     time.Time
}

// begin starts a session and returns the value of its cookie.
func (s *portSessions) begin(keyID, port string) string {
	var b [32]byte
	rand.Read(b[:]) //nolint:errcheck // crypto/rand.Read never fails since Go 1.24
	token := base64.RawURLEncoding.EncodeToString(b[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[[sha256.Size]byte]portSession{}
	}
	now := time.Now()
	for hash, one := range s.all {
		if len(s.all) >= maxSessions || now.After(one.expires) {
			delete(s.all, hash)
		}
	}
	s.all[sha256.Sum256([]byte(token))] = portSession{keyID, port, now.Add(sessionLife)}
	return token
}

// find returns the key of a session for a port. The hash that it is found by
// makes how long that takes tell nothing.
func (s *portSessions) find(token, port string) (keyID string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.all[sha256.Sum256([]byte(token))]
	return one.keyID, ok && one.port == port && time.Now().Before(one.expires)
}

// registerPortProxy registers the reverse proxy below the API, for every
// method, and describes it once.
func (g *Gateway) registerPortProxy(op huma.Operation) {
	op = g.document(op)
	op.Parameters = []*huma.Param{
		pathID("Id of the instance, or its name."),
		{Name: "port", In: "path", Required: true, Description: "Port inside.", Schema: &huma.Schema{Type: huma.TypeInteger}, Example: 8000},
		{Name: "path", In: "path", Required: true, Description: "And query: the program's own.", Schema: stringForm()},
	}
	op.Responses["200"] = &huma.Response{Description: "What the program answers, whatever its status.", Content: map[string]*huma.MediaType{"*/*": {Schema: &huma.Schema{}}}}
	g.api.OpenAPI().AddOperation(&op)
	g.mux.HandleFunc(strings.Replace(portPath, "{path}", "{path...}", 1), g.forwardByPath)
}

// forwardByPath passes on a request below the API.
func (g *Gateway) forwardByPath(w http.ResponseWriter, r *http.Request) {
	port, err := strconv.Atoi(r.PathValue("port"))
	if err != nil || port < 1 || port > 65535 {
		g.fail(w, r, faas.InvalidField("port", "must be a number from 1 to 65535"))
		return
	}
	who := identity(r.Context())
	if !who.InScope(portsArea, changes(r.Method)) {
		g.fail(w, r, outOfScope(portsArea))
		return
	}
	if r.Header.Get("Service-Worker") != "" {
		g.fail(w, r, faas.Errorf(faas.KindPermissionDenied, "a program inside has no service worker on the API's origin"))
		return
	}
	id, err := g.instanceID(r.Context(), r.PathValue("id"))
	if err == nil {
		_, err = g.opts.Executor.Instance(r.Context(), who.Project, id)
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	parts := strings.SplitAfterN(r.URL.EscapedPath(), "/", 8) // "", api, v1, instances, ID, ports, PORT, rest
	t := &target{project: who.Project, instance: id, port: port, prefix: strings.Join(parts[:7], "")}
	exposed, err := g.opts.Executor.Ports(r.Context(), who.Project, id)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	t.keep = r.Header.Get("X-API-Key") != ""
	for _, p := range exposed {
		if p.Port == port {
			t.h2c, t.keep = t.h2c || p.Protocol == faas.PortH2C, t.keep || p.Access == faas.PortPublic
		}
	}
	g.forward(w, r, t)
}

// publicPath returns the identity of nobody in particular when a request is for
// a public port below the API.
func (g *Gateway) publicPath(r *http.Request) (auth.Identity, bool) {
	if !byPath(r) {
		return auth.Identity{}, false
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), api.PathInstances+"/"), "/")
	port, err := strconv.Atoi(parts[2])
	if err != nil || !faas.ValidID(faas.PrefixInstance, parts[0]) {
		return auth.Identity{}, false
	}
	p, err := g.opts.Executor.PublicPort(r.Context(), parts[0], port)
	if err != nil {
		return auth.Identity{}, false
	}
	return auth.Identity{KeyID: "none", Project: p.Project, Role: auth.RoleReadOnly}, true
}
