package gateway

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
	"github.com/faas-platform/faas/internal/idempotency"
)

func TestIdempotencyKey(t *testing.T) {
	f := start(t)
	post := func(key, path, body string, headers ...string) answerOf {
		return f.do(t, "POST", path, body, append([]string{api.HeaderIdempotencyKey, key}, headers...)...)
	}
	first := post("a", api.PathAPIKeys, `{"name":"one"}`)
	again := post("a", api.PathAPIKeys, `{"name":"one"}`)
	if first.status != 201 || again.status != 201 || string(first.body) != string(again.body) || again.header.Get(api.HeaderIdempotentReplayed) != "true" || first.header.Get(api.HeaderIdempotentReplayed) != "" {
		t.Errorf("%d %s\n%d %s %v", first.status, first.body, again.status, again.body, again.header)
	}
	if again.header.Get(api.HeaderRequestID) == first.header.Get(api.HeaderRequestID) {
		t.Error("a retry has no request id of its own")
	}
	if a := post("a", api.PathAPIKeys, `{"name":"two"}`); a.status != 409 {
		t.Errorf("another body: %d %s", a.status, a.body)
	}
	// Another project's key of the same name is another key.
	if a := post("a", api.PathExecute, `{"command":"x"}`, "Authorization", "Bearer "+f.keys[auth.RoleUser]); a.status != 200 || a.header.Get(api.HeaderIdempotentReplayed) != "" {
		t.Errorf("another project: %d %s", a.status, a.body)
	}
	// A refusal of the input is the request's own answer, a failure is not.
	if a, b := post("b", api.PathAPIKeys, `{}`), post("b", api.PathAPIKeys, `{}`); a.status != 400 || b.header.Get(api.HeaderIdempotentReplayed) != "true" {
		t.Errorf("%d, %d %v", a.status, b.status, b.header)
	}
	f.fake.run = func(context.Context, faas.Request) (*faas.Result, error) { return nil, faas.ErrUnavailable }
	if a := post("c", api.PathExecute, `{"command":"x"}`); a.status != 503 {
		t.Errorf("%d", a.status)
	}
	f.fake.run = nil
	if a := post("c", api.PathExecute, `{"command":"x"}`); a.status != 200 {
		t.Errorf("after a failure: %d %s", a.status, a.body)
	}
	for _, bad := range []string{"é", "a b", strings.Repeat("x", 256)} {
		if a := post(bad, api.PathExecute, `{"command":"x"}`); a.status != 400 {
			t.Errorf("%q: %d", bad, a.status)
		}
	}
	if a := post("d", api.PathExecute, `{"command":"x"}`, "Accept", "text/event-stream"); a.status != 400 {
		t.Errorf("a stream: %d", a.status)
	}
}

// Of many at once one is done, and all get its answer.
func TestIdempotencyInFlight(t *testing.T) {
	f := start(t)
	var runs atomic.Int64
	begun, release := make(chan struct{}, 8), make(chan struct{})
	f.fake.run = func(_ context.Context, req faas.Request) (*faas.Result, error) {
		runs.Add(1)
		begun <- struct{}{}
		<-release
		return &faas.Result{ID: req.ID}, nil
	}
	answers := make(chan answerOf)
	send := func() {
		answers <- f.do(t, "POST", api.PathExecute, `{"command":"x"}`, api.HeaderIdempotencyKey, "k")
	}
	go send()
	<-begun
	for range 4 {
		go send()
	}
	if a := f.do(t, "POST", api.PathExecute, `{"command":"y"}`, api.HeaderIdempotencyKey, "k"); a.status != 409 {
		t.Errorf("another body meanwhile: %d", a.status)
	}
	close(release)
	ids := map[string]bool{}
	for range 5 {
		a := <-answers
		ids[a.header.Get(api.HeaderExecutionID)] = true
		if a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if len(ids) != 1 || runs.Load() != 1 {
		t.Errorf("%d executions, ids %v", runs.Load(), ids)
	}
}

// An execution whose client goes away is ended, and its retry runs anew.
func TestIdempotencyOfEphemeralWork(t *testing.T) {
	f := start(t)
	begun, ended := make(chan struct{}), make(chan struct{})
	f.fake.run = func(ctx context.Context, _ faas.Request) (*faas.Result, error) {
		close(begun)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}
	ctx, leave := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL+api.PathExecute, strings.NewReader(`{"command":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+f.keys[auth.RoleAdmin])
	request.Header.Set(api.HeaderIdempotencyKey, "k")
	go func() { read(f.Client().Do(request)) }()
	<-begun
	leave()
	<-ended
	f.fake.run = nil
	if a := f.do(t, "POST", api.PathExecute, `{"command":"x"}`, api.HeaderIdempotencyKey, "k"); a.status != 200 || a.header.Get(api.HeaderIdempotentReplayed) != "" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// What a server's death cut short is not done again.
func TestIdempotencyAfterDeath(t *testing.T) {
	f := start(t)
	store := f.gateway.opts.Answers
	keeper := idempotency.New(store)
	if _, _, err := keeper.Begin(t.Context(), "p", "k", "f"); err != nil {
		t.Fatal(err)
	}
	// The next process knows the record only.
	if _, _, err := idempotency.New(store).Begin(t.Context(), "p", "k", "f"); faas.KindOf(err) != faas.KindConflict || err == nil {
		t.Error(err)
	}
	waiting, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := keeper.Begin(waiting, "p", "k", "f"); waiting.Err() == nil || err == nil {
		t.Errorf("one that goes on is not waited for: %v", err)
	}
}
