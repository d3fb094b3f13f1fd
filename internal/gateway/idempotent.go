package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/idempotency"
)

// detachedTimeout bounds a request whose client may have gone.
const detachedTimeout = 30 * time.Minute

// idempotent runs a POST that carries an Idempotency-Key at most once, and
// answers its retries with what the first attempt was answered.
func (g *Gateway) idempotent(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get(api.HeaderIdempotencyKey)
		if key == "" || r.Method != http.MethodPost || g.answers == nil || byPath(r) { // what is behind a port has keys of its own
			next.ServeHTTP(w, r)
			return
		}
		fingerprint, err := fingerprintOf(w, r, key)
		if err != nil {
			g.fail(w, r, err)
			return
		}
		earlier, finish, err := g.answers.Begin(r.Context(), identity(r.Context()).Project, key, fingerprint)
		switch {
		case err != nil:
			g.fail(w, r, err)
		case earlier != nil:
			replay(w, earlier)
		default:
			g.runOnce(w, r, next, finish)
		}
	})
}

// runOnce runs a request and keeps its answer. What only the caller wanted, an
// execution, ends when the caller goes; everything else goes on, so that a
// retry finds its answer.
func (g *Gateway) runOnce(w http.ResponseWriter, r *http.Request, next http.Handler, finish func(*idempotency.Answer) error) {
	ephemeral := strings.HasPrefix(r.URL.Path, api.PathExecute) || r.URL.Path == "/api/v1/fork"
	if !ephemeral {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), detachedTimeout)
		defer cancel()
		defer context.AfterFunc(g.base, cancel)()
		r = r.WithContext(ctx)
	}
	kept := &answerKeeper{ResponseWriter: w}
	defer func() {
		answer := kept.answer()
		if ephemeral && r.Context().Err() != nil || !final(answer.Status) {
			answer = nil
		}
		if err := finish(answer); err != nil {
			g.log.LogAttrs(r.Context(), slog.LevelError, "an answer could not be remembered", slog.String("request_id", requestID(r.Context())), slog.Any("error", err))
		}
	}()
	next.ServeHTTP(kept, r)
}

// final says whether an answer is the request's own: not a refusal that may
// not stand the next time, nor a failure.
func final(status int) bool {
	switch status {
	case 0, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return false
	}
	return status < http.StatusInternalServerError
}

// fingerprintOf tells requests apart: by the key that makes them, so that nobody
// is given another's answer, by route, query and the whole body, unless that is
// a stream.
func fingerprintOf(w http.ResponseWriter, r *http.Request, key string) (string, error) {
	if !idempotency.ValidKey(key) {
		return "", faas.InvalidField(api.HeaderIdempotencyKey, "must be 1 to %d visible ASCII characters", idempotency.MaxKey)
	}
	if form := accepted(r.Header.Values("Accept")); form != "application/json" {
		return "", faas.InvalidField(api.HeaderIdempotencyKey, "works with JSON answers only, not with %s", form)
	}
	hash := sha256.New()
	io.WriteString(hash, identity(r.Context()).KeyID+"\x00"+r.URL.Path+"\x00"+r.URL.RawQuery+"\x00") //nolint:errcheck // hashes take everything
	if !endless(r) {
		body, err := readBody(w, r)
		if err != nil {
			return "", err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		hash.Write(body) //nolint:errcheck // see above
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// keptHeaders are those of an answer that its replay repeats.
var keptHeaders = []string{"Content-Type", "Location", api.HeaderExecutionID, "Retry-After"}

func replay(w http.ResponseWriter, a *idempotency.Answer) {
	maps.Copy(w.Header(), a.Header)
	w.Header().Set(api.HeaderIdempotentReplayed, "true")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body)
}

// answerKeeper remembers an answer on its way out.
type answerKeeper struct {
	http.ResponseWriter
	status int
	header http.Header
	body   bytes.Buffer
	cut    bool
}

func (k *answerKeeper) WriteHeader(status int) {
	if k.status == 0 && status >= http.StatusOK {
		k.status, k.header = status, http.Header{}
		for _, name := range keptHeaders {
			if value := k.Header().Get(name); value != "" {
				k.header.Set(name, value)
			}
		}
	}
	k.ResponseWriter.WriteHeader(status)
}

// Write passes on what the client still takes; what it does not is kept all the
// same.
func (k *answerKeeper) Write(b []byte) (int, error) {
	if k.status == 0 {
		k.WriteHeader(http.StatusOK)
	}
	if k.body.Len()+len(b) > idempotency.MaxBody {
		k.cut = true
	}
	if !k.cut {
		k.body.Write(b)
	}
	return k.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (k *answerKeeper) Unwrap() http.ResponseWriter { return k.ResponseWriter }

func (k *answerKeeper) answer() *idempotency.Answer {
	a := &idempotency.Answer{Status: k.status, Header: k.header, Body: k.body.Bytes(), Cut: k.cut}
	if k.cut {
		a.Body = nil
	}
	return a
}

// idempotencyParam describes the header on every operation that it is for.
func idempotencyParam() *huma.Param {
	low, high := 1, idempotency.MaxKey
	return &huma.Param{
		Name: api.HeaderIdempotencyKey, In: "header",
		Description: "A name for this request, unique in the project. A retry with the same key and body gets the first attempt's answer for a day, and changes nothing.",
		Schema:      &huma.Schema{Type: huma.TypeString, MinLength: &low, MaxLength: &high, Pattern: "^[!-~]+$"},
	}
}
