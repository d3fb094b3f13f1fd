package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

const benchBody = `{"command":["echo","hello"],"image":"host","timeout_ms":5000,"memory_mb":256,"env_vars":{"A":"b"}}`

// BenchmarkExecute is the gateway's own share of a captured execution, without
// a network.
func BenchmarkExecute(b *testing.B) {
	f := start(b)
	b.ReportAllocs()
	for b.Loop() {
		request := httptest.NewRequest(http.MethodPost, "http://localhost"+api.PathExecute, strings.NewReader(benchBody))
		request.Header.Set("Authorization", "Bearer "+f.keys[auth.RoleAdmin])
		recorder := httptest.NewRecorder()
		f.gateway.ServeHTTP(recorder, request)
		if recorder.Code != http.StatusOK {
			b.Fatal(recorder.Body)
		}
	}
}

// BenchmarkExecuteDirect leaves out huma and the chain: what is the handler
// itself.
func BenchmarkExecuteDirect(b *testing.B) {
	f := start(b)
	b.ReportAllocs()
	for b.Loop() {
		request := httptest.NewRequest(http.MethodPost, "http://localhost"+api.PathExecute, strings.NewReader(benchBody))
		request.Header.Set("Authorization", "Bearer "+f.keys[auth.RoleAdmin])
		recorder := httptest.NewRecorder()
		f.gateway.execute(recorder, request)
	}
}

// BenchmarkExecuteHTTP is the same over loopback with keep-alive.
func BenchmarkExecuteHTTP(b *testing.B) {
	f := start(b)
	b.ReportAllocs()
	for b.Loop() {
		if a := f.do(b, "POST", api.PathExecute, benchBody); a.status != http.StatusOK {
			b.Fatal(string(a.body))
		}
	}
}

// BenchmarkRawStream is 256 MiB a turn from an execution to an HTTP client.
func BenchmarkRawStream(b *testing.B) {
	const size, piece = 256 << 20, 256 << 10
	f := start(b)
	chunk := bytes.Repeat([]byte("y\n"), piece/2)
	f.fake.run = func(_ context.Context, req faas.Request) (*faas.Result, error) {
		for sent := 0; sent < size; sent += piece {
			if _, err := req.Stdout.Write(chunk); err != nil {
				return nil, err
			}
		}
		return &faas.Result{ID: req.ID}, nil
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, f.URL+api.PathExecute, strings.NewReader(`{"command":"x"}`))
		if err != nil {
			b.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+f.keys[auth.RoleAdmin])
		request.Header.Set("Accept", "application/octet-stream")
		response, err := f.Client().Do(request)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(struct{ io.Writer }{io.Discard}, response.Body)
		response.Body.Close()
		if err != nil || n != size || response.Trailer.Get(api.TrailerExitCode) != "0" {
			b.Fatal(n, err, response.Trailer)
		}
	}
}
