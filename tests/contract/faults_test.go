package contract

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// fault is what goes wrong with the next Times requests that match.
type fault struct {
	Method string `json:"method"`
	Path   string `json:"path"` // the beginning of the request's
	Kind   string `json:"kind"` // reset, lost, status, malformed, cut, delay
	Times  int    `json:"times"`

	Status     int    `json:"status"`      // status: of the refusal
	Code       string `json:"code"`        // status
	RetryAfter string `json:"retry_after"` // status
	Bytes      int64  `json:"bytes"`       // cut: passed on of the answer
	DelayMS    int    `json:"delay_ms"`    // delay: before the request goes on
}

// proxy stands before the gateway and breaks what it is told to.
type proxy struct {
	mu     sync.Mutex
	faults []*fault
	next   *httputil.ReverseProxy
}

// startProxy returns the address of a proxy of the gateway. POST /__faults sets
// what is to go wrong from then on.
func startProxy(t *testing.T, gateway string) string {
	t.Helper()
	target, err := url.Parse(gateway)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{next: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		FlushInterval: -1,
		Transport:     &http.Transport{DisableCompression: true},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			panic(http.ErrAbortHandler) // the gateway is gone: so is the connection
		},
	}}
	server := httptest.NewServer(p)
	server.Config.ErrorLog = nil
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/__faults" {
		p.set(w, r)
		return
	}
	f := p.take(r)
	if f == nil {
		p.next.ServeHTTP(w, r)
		return
	}
	switch f.Kind {
	case "reset":
		panic(http.ErrAbortHandler)
	case "lost":
		p.next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case "status":
		refuse(w, f)
	case "malformed":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"half": `)
	case "cut":
		p.next.ServeHTTP(&cutter{ResponseWriter: w, left: f.Bytes}, r)
	case "delay":
		select {
		case <-r.Context().Done():
		case <-time.After(time.Duration(f.DelayMS) * time.Millisecond):
			p.next.ServeHTTP(w, r)
		}
	}
}

func (p *proxy) set(w http.ResponseWriter, r *http.Request) {
	var faults []*fault
	if err := json.NewDecoder(r.Body).Decode(&faults); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = faults
	_, _ = io.WriteString(w, "{}")
}

// take returns the fault that the request meets, and uses it up.
func (p *proxy) take(r *http.Request) *fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		if f.Times > 0 && r.Method == f.Method && strings.HasPrefix(r.URL.Path, f.Path) {
			f.Times--
			return f
		}
	}
	return nil
}

func refuse(w http.ResponseWriter, f *fault) {
	w.Header().Set("Content-Type", "application/problem+json")
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "about:blank", "title": http.StatusText(f.Status), "status": f.Status, "code": f.Code,
		"detail": "the proxy refuses", "remedy": "ask again", "request_id": "req-proxy",
	})
}

// cutter ends the connection in the middle of the answer.
type cutter struct {
	http.ResponseWriter
	left int64
}

func (c *cutter) Write(b []byte) (int, error) {
	if int64(len(b)) > c.left {
		_, _ = c.ResponseWriter.Write(b[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= int64(len(b))
	return c.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (c *cutter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
