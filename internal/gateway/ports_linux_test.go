package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

// startProgram is a program that listens inside: a fake machine's sandboxes
// have this machine's loopback. It tells what it was asked.
func startProgram(t *testing.T) int {
	t.Helper()
	program := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/socket":
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
			if err != nil {
				return
			}
			defer c.CloseNow() //nolint:errcheck // over
			for {
				kind, p, err := c.Read(r.Context())
				if err != nil {
					return
				}
				c.Write(r.Context(), kind, append([]byte("echo "), p...)) //nolint:errcheck // seen by the test
			}
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "event: one\ndata: 1\n\n") //nolint:errcheck // seen by the test
			http.NewResponseController(w).Flush()        //nolint:errcheck // seen by the test
			<-r.Context().Done()
		case "/elsewhere":
			http.Redirect(w, r, "/login?x=1", http.StatusFound)
		default:
			w.Header().Add("Set-Cookie", "theirs=1; Domain=localhost; Path=/")
			w.Header().Add("Set-Cookie", portCookie+"=stolen")
			w.Header().Set("Strict-Transport-Security", "max-age=1")
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Trailer", "After")
			body, _ := io.ReadAll(r.Body) //nolint:errcheck // seen by the test
			answer := map[string]any{
				"method": r.Method, "uri": r.RequestURI, "host": r.Host, "proto": r.Proto, "body": len(body),
				"authorization": r.Header.Get("Authorization"), "key": r.Header.Get("X-API-Key"), "cookie": r.Header.Get("Cookie"),
				"prefix": r.Header.Get("X-Forwarded-Prefix"),
			}
			json.NewEncoder(w).Encode(answer) //nolint:errcheck // seen by the test
			w.Header().Set("After", "all")
		}
	}))
	program.Config.Protocols = new(http.Protocols)
	program.Config.Protocols.SetHTTP1(true)
	program.Config.Protocols.SetUnencryptedHTTP2(true)
	program.Start()
	t.Cleanup(func() { program.CloseClientConnections(); program.Close() })
	return program.Listener.Addr().(*net.TCPAddr).Port
}

func (f *fixture) expose(t *testing.T, body string) api.Port {
	t.Helper()
	a := f.do(t, http.MethodPost, api.PathExpose, body)
	var p api.Port
	if err := json.Unmarshal(a.body, &p); err != nil || a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return p
}

// told is what the program was asked, as its answer says.
func told(t *testing.T, a answerOf) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(a.body, &out); err != nil {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return out
}

func TestPortByHostName(t *testing.T) {
	f, x := startLive(t)
	port := startProgram(t)
	p := f.expose(t, fmt.Sprintf(`{"instance_id": "box", "internal_port": %d, "subdomain": "app"}`, port))
	if u, err := url.Parse(p.PublicURL); err != nil || u.Hostname() != "app.localhost" || u.Port() == "" || p.Access != "key" || p.InstanceID != x.ID {
		t.Errorf("%+v", p)
	}
	host := []string{"Host", "app.localhost:8080"}
	a := f.do(t, http.MethodPost, "/a%2Fb/../c?d=e", strings.Repeat("x", 1000), append(host, "Cookie", "mine=1; "+portCookie+"=x; more=2")...)
	got := told(t, a)
	if got["method"] != "POST" || got["uri"] != "/a%2Fb/../c?d=e" || got["host"] != "app.localhost:8080" || got["body"] != 1000.0 ||
		got["authorization"] != "" || got["cookie"] != "mine=1; more=2" {
		t.Errorf("%v", got)
	}
	if set := a.header.Values("Set-Cookie"); len(set) != 1 || set[0] != "theirs=1; Path=/" {
		t.Errorf("%q", set)
	}
	if a.header.Get("Strict-Transport-Security") != "" || a.trailer.Get("After") != "all" {
		t.Errorf("%v %v", a.header, a.trailer)
	}
	own := told(t, f.do(t, http.MethodGet, "/", "", append(host, "X-API-Key", f.keys[auth.RoleAdmin], "Authorization", "Basic own")...))
	if own["authorization"] != "Basic own" || own["key"] != "" {
		t.Errorf("%v", own)
	}
	for what, c := range map[string]struct {
		headers []string
		want    faas.Kind
	}{
		"no key":            {append(host, "Authorization", ""), faas.KindUnauthenticated},
		"another project's": {append(host, "Authorization", "Bearer "+f.keys[auth.RoleUser]), faas.KindNotFound},
		"another name":      {[]string{"Host", "other.localhost"}, faas.KindNotFound},
	} {
		if p := f.do(t, http.MethodGet, "/", "", c.headers...).problem(t); p.Code != c.want {
			t.Errorf("%s: %s", what, p.Code)
		}
	}
	// Whatever stands under that name is the program's, the API's paths too.
	if got := told(t, f.do(t, http.MethodGet, api.PathExecutions, "", host...)); got["uri"] != api.PathExecutions {
		t.Errorf("%v", got)
	}
	if a := f.do(t, http.MethodDelete, api.PathPorts+"/"+p.ID, ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if p := f.do(t, http.MethodGet, "/", "", host...).problem(t); p.Code != faas.KindNotFound {
		t.Errorf("a closed port: %s", p.Code)
	}
}

func TestPortInABrowser(t *testing.T) {
	f, _ := startLive(t)
	f.expose(t, fmt.Sprintf(`{"instance_id": "box", "internal_port": %d, "subdomain": "app"}`, startProgram(t)))
	var ticket api.Ticket
	if a := f.do(t, http.MethodPost, api.PathTickets, `{}`); json.Unmarshal(a.body, &ticket) != nil || ticket.Ticket == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	f.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	open := func(path string, headers ...string) answerOf {
		return f.do(t, http.MethodGet, path, "", append(headers, "Host", "app.localhost", "Authorization", "")...)
	}
	a := open("/page?a=b&ticket=" + url.QueryEscape(ticket.Ticket))
	cookie := a.header.Get("Set-Cookie")
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/page?a=b" || !strings.Contains(cookie, "HttpOnly") {
		t.Fatalf("%d %v", a.status, a.header)
	}
	value, _, _ := strings.Cut(cookie, ";")
	if got := told(t, open("/page", "Cookie", value)); got["uri"] != "/page" || got["cookie"] != "" {
		t.Errorf("%v", got)
	}
	if p := open("/page?ticket=" + url.QueryEscape(ticket.Ticket)).problem(t); p.Code != faas.KindUnauthenticated {
		t.Errorf("a ticket works twice: %s", p.Code)
	}
	if p := open("/page", "Cookie", portCookie+"=other").problem(t); p.Code != faas.KindUnauthenticated {
		t.Errorf("a made-up cookie: %s", p.Code)
	}
	// It is good for that port and nothing else.
	if p := f.do(t, http.MethodGet, api.PathExecutions, "", "Authorization", "", "Cookie", value).problem(t); p.Code != faas.KindUnauthenticated {
		t.Errorf("the API takes the cookie: %s", p.Code)
	}
}

func TestPortBelowTheAPI(t *testing.T) {
	f, x := startLive(t, func(o *Options) { o.MaxBodyBytes = 100 })
	port := startProgram(t)
	below := fmt.Sprintf("%s/box/ports/%d", api.PathInstances, port)
	a := f.do(t, http.MethodPut, below+"/a%2Fb?c=d", strings.Repeat("x", 1000), "Cookie", "a=b")
	got := told(t, a)
	if got["method"] != "PUT" || got["uri"] != "/a%2Fb?c=d" || got["host"] != fmt.Sprintf("localhost:%d", port) || got["body"] != 1000.0 ||
		got["authorization"] != "" || got["cookie"] != "" || got["prefix"] != below {
		t.Errorf("%v", got)
	}
	if a.header.Get("Content-Security-Policy") != sandboxPolicy || len(a.header.Values("Set-Cookie")) != 0 || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%v", a.header)
	}
	f.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if a := f.do(t, http.MethodGet, below+"/elsewhere", ""); a.header.Get("Location") != below+"/login?x=1" {
		t.Errorf("%v", a.header)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().(*net.TCPAddr).Port
	closed.Close() //nolint:errcheck // so that nobody listens
	for path, want := range map[string]faas.Kind{
		fmt.Sprintf("%s/box/ports/%d/", api.PathInstances, nobody): faas.KindUnavailable,
		api.PathInstances + "/box/ports/0/":                        faas.KindInvalidArgument,
		api.PathInstances + "/none/ports/1/":                       faas.KindNotFound,
	} {
		if p := f.do(t, http.MethodGet, path, "").problem(t); p.Code != want {
			t.Errorf("%s: %s %s", path, p.Code, p.Detail)
		}
	}
	byID := fmt.Sprintf("%s/%s/ports/%d/", api.PathInstances, x.ID, port)
	if p := f.do(t, http.MethodGet, byID, "", "Authorization", "").problem(t); p.Code != faas.KindUnauthenticated {
		t.Errorf("no key: %s", p.Code)
	}
	if p := f.do(t, http.MethodGet, byID, "", "Authorization", "Bearer "+f.keys[auth.RoleUser]).problem(t); p.Code != faas.KindNotFound {
		t.Errorf("another project's: %s", p.Code)
	}
	f.expose(t, fmt.Sprintf(`{"instance_id": "box", "internal_port": %d, "access": "public"}`, port))
	if got := told(t, f.do(t, http.MethodPost, byID, "", "Authorization", "Basic own")); got["authorization"] != "Basic own" {
		t.Errorf("public: %v", got)
	}
	var list api.PortList
	if a := f.do(t, http.MethodGet, api.PathPorts+"?instance_id=box", ""); json.Unmarshal(a.body, &list) != nil || len(list.Ports) != 1 {
		t.Errorf("%s", a.body)
	}
	f.do(t, http.MethodDelete, api.PathInstances+"/box", "")
	if p := f.do(t, http.MethodGet, api.PathPorts+"/"+list.Ports[0].ID, "").problem(t); p.Code != faas.KindNotFound {
		t.Errorf("the port outlives its instance: %s", p.Code)
	}
}

func TestPortStreams(t *testing.T) {
	f, _ := startLive(t)
	port := startProgram(t)
	f.expose(t, fmt.Sprintf(`{"instance_id": "box", "internal_port": %d, "subdomain": "app", "access": "public"}`, port))
	below := fmt.Sprintf("%s/box/ports/%d", api.PathInstances, port)
	next := f.follow(t, below+"/events")
	if e := next(); e.name != "one" || e.data != "1" {
		t.Errorf("%+v", e)
	}
	for path, options := range map[string]*websocket.DialOptions{
		below + "/socket": {HTTPHeader: http.Header{"X-Api-Key": {f.keys[auth.RoleAdmin]}}},
		"/socket":         {Host: "app.localhost"},
	} {
		conn, _, err := websocket.Dial(t.Context(), f.URL+path, options) //nolint:bodyclose // the library's
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if err := conn.Write(t.Context(), websocket.MessageText, []byte("hi")); err != nil {
			t.Fatal(err)
		}
		if _, p, err := conn.Read(t.Context()); string(p) != "echo hi" || err != nil {
			t.Errorf("%s: %q, %v", path, p, err)
		}
		conn.CloseNow() //nolint:errcheck // over
	}
}

// HTTP/2 all the way, as gRPC speaks it.
func TestPortSpeaksHTTP2(t *testing.T) {
	f, _ := startLive(t)
	f.expose(t, fmt.Sprintf(`{"instance_id": "box", "internal_port": %d, "subdomain": "rpc", "access": "public", "protocol": "h2c"}`, startProgram(t)))
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL+"/pkg.Service/Call", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "rpc.localhost"
	request.Header.Set("Te", "trailers")
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var got map[string]any
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, response.Body) //nolint:errcheck // up to the trailer
	if response.Proto != "HTTP/2.0" || got["proto"] != "HTTP/2.0" || got["uri"] != "/pkg.Service/Call" || response.Trailer.Get("After") != "all" {
		t.Errorf("%s %v %v", response.Proto, got, response.Trailer)
	}
}
