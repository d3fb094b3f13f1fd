package contract

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

// goRun runs one scenario with the Go SDK.
type goRun struct {
	g      *gateway
	c      *client.Client
	values map[string]any // as JSON has them
	events []any
	sink   bytes.Buffer // of raw output
	input  io.Reader
}

func (r *goRun) dial(key string, retries int) (*client.Client, error) {
	event := func(name string) func(*api.ExecuteResponse) {
		return func(*api.ExecuteResponse) { r.events = append(r.events, name) }
	}
	return client.New(client.Options{URL: r.g.proxy, Key: key, MaxRetries: retries, Hooks: client.Hooks{
		Execution: event("execution"), CacheHit: event("cache-hit"), CacheMiss: event("cache-miss"),
	}})
}

// probe asks what sandboxes have.
func probe(t *testing.T, g *gateway) []string {
	r := &goRun{g: g}
	c, err := r.dial(g.key, 0)
	if err != nil {
		t.Fatal(err)
	}
	result, err := c.Execute(t.Context(), api.ExecuteRequest{Command: api.Command{
		Shell: `command -v deno || command -v bun || command -v tsx || node --experimental-strip-types -e ''`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if result.ExitCode == 0 {
		return []string{"typescript"}
	}
	return nil
}

func runGo(t *testing.T, g *gateway, s scenario) {
	r := &goRun{g: g, values: map[string]any{"run": strings.ToLower(rand.Text()[:12])}}
	var err error
	if r.c, err = r.dial(g.key, 0); err != nil {
		t.Fatal(err)
	}
	for i, step := range s.Steps {
		if err := r.do(t.Context(), step); err != nil {
			t.Fatalf("step %d, %+v: %v", i+1, step, err)
		}
	}
}

func (r *goRun) do(ctx context.Context, s step) error {
	switch {
	case s.Faults != nil:
		response, err := http.Post(r.g.proxy+"/__faults", "application/json", bytes.NewReader(s.Faults)) //nolint:noctx // answered at once
		if err != nil {
			return err
		}
		return response.Body.Close()
	case s.Metrics != nil:
		got, err := plain(r.c.ClientMetrics())
		if err != nil {
			return err
		}
		return check(s.Metrics, got, "metrics")
	case s.Events != nil:
		return check(s.Events, r.events, "events")
	case s.Cancel != "":
		cancelled, cancel := context.WithTimeout(ctx, time.Duration(s.AfterMS)*time.Millisecond)
		defer cancel()
		if _, err := r.call(cancelled, r.c, s.Cancel, s); !errors.Is(err, context.DeadlineExceeded) {
			return errors.Join(errors.New("a cancelled call did not say so"), err)
		}
		return nil
	case s.Until != "":
		return r.until(ctx, s)
	}
	return r.ask(ctx, s)
}

func (r *goRun) until(ctx context.Context, s step) error {
	s.List, s.Until = s.Until, ""
	for range 300 {
		err := r.ask(ctx, s)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
	return r.ask(ctx, s)
}

func (r *goRun) ask(ctx context.Context, s step) error {
	c := r.c
	if s.Client != nil {
		key, _ := fill(s.Client.APIKey, r.values).(string)
		if key == "" {
			key = r.g.key
		}
		retries := 0
		if s.Client.MaxRetries != nil {
			retries = -1
		}
		var err error
		if c, err = r.dial(key, retries); err != nil {
			return err
		}
		if s.Client.TimeoutMS > 0 {
			limited, cancel := context.WithTimeout(ctx, time.Duration(s.Client.TimeoutMS)*time.Millisecond)
			defer cancel()
			ctx = limited
		}
	}
	r.sink.Reset()
	r.input = bytes.NewReader(make([]byte, s.InputBytes))
	got, err := r.call(ctx, c, s.Call+s.Stream+s.List, s)
	if s.Error != nil {
		return r.refused(s, err)
	}
	if err != nil {
		return err
	}
	if s.Written != nil && r.sink.Len() != *s.Written {
		return errors.New("not as many bytes were written as wanted")
	}
	return r.judge(s, got)
}

func (r *goRun) refused(s step, err error) error {
	code := string(faas.KindOf(err))
	if errors.Is(err, context.DeadlineExceeded) { // Go's own word for a time-out
		code = string(faas.KindDeadlineExceeded)
	}
	var e *faas.Error
	errors.As(err, &e)
	switch {
	case err == nil:
		return errors.New("no error")
	case !slices.Contains(strings.Split(s.Error.Code, "|"), code), s.Error.Field != "" && (e == nil || e.Field != s.Error.Field):
		return errors.Join(errors.New("another error"), err)
	}
	return nil
}

func (r *goRun) judge(s step, value any) error {
	got, err := plain(value)
	if err != nil {
		return err
	}
	if s.Expect != nil {
		if err := check(fill(s.Expect, r.values), got, "answer"); err != nil {
			return err
		}
	}
	if s.ExpectEvents != nil {
		if err := check(s.ExpectEvents, got, "events"); err != nil {
			return err
		}
	}
	list, _ := got.([]any)
	if s.ExpectAny != nil && !slices.ContainsFunc(list, func(each any) bool { return check(fill(s.ExpectAny, r.values), each, "") == nil }) {
		return errors.New("none of those listed is the one")
	}
	if s.Count != nil && len(list) != *s.Count {
		return errors.New("not as many entries as wanted")
	}
	if s.As != "" {
		r.values[s.As] = got
	}
	return nil
}

// decoded reads the arguments of a step as what a method takes.
func decoded[T any](r *goRun, s step) (T, error) {
	var value T
	encoded, err := json.Marshal(fill(s.Args, r.values))
	if err != nil {
		return value, err
	}
	return value, json.Unmarshal(encoded, &value)
}

// arg is one argument that is text.
func (r *goRun) arg(s step, name string) string {
	text, _ := fill(s.Args[name], r.values).(string)
	return text
}

// collect takes up to limit entries; 0: all.
func collect[T any](entries iter.Seq2[T, error], limit int) (all []T, err error) {
	all = []T{}
	for each, err := range entries {
		if err != nil {
			return all, err
		}
		if all = append(all, each); len(all) == limit {
			break
		}
	}
	return all, nil
}
