// Package idempotency remembers the answers of requests that carry a key, so
// that a retry gets the answer of the first attempt in the place of a second
// effect.
//
// A request is on record before it begins. What a daemon's death cuts short is
// therefore known to have begun: its retry is refused, since nobody can tell
// whether it was done.
package idempotency

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/faas-platform/faas"
)

// Bounds of what is remembered.
const (
	Life     = 24 * time.Hour // of an answer
	MaxKey   = 255            // bytes of a key
	MaxBody  = 4 << 20        // of one answer; a larger one is remembered as done, without its body
	MaxTotal = 256 << 20      // of all of them; the oldest go first
)

// Answer is a remembered answer. Status is 0 while its request goes on.
type Answer struct {
	Fingerprint string      `json:"-"` // of the request
	Status      int         `json:"status"`
	Header      http.Header `json:"header,omitempty"`
	Body        []byte      `json:"body,omitempty"`
	Cut         bool        `json:"cut,omitempty"` // the body was too large
}

// Store keeps answers by project and key. A write that returned survives the
// death of the process.
type Store interface {
	// BeginAnswer notes that a request begins, or returns what is known of an
	// earlier one with the same key.
	BeginAnswer(ctx context.Context, project, key, fingerprint string, expires time.Time) (earlier *Answer, err error)
	// FinishAnswer keeps the answer of a request that began.
	FinishAnswer(ctx context.Context, project, key string, answer Answer) error
	// DropAnswer forgets a request, which may be tried again then.
	DropAnswer(ctx context.Context, project, key string) error
}

// Keeper runs requests at most once. Safe for concurrent use.
type Keeper struct {
	store Store

	mu      sync.Mutex
	flights map[flightKey]*flight
}

type flightKey struct{ project, key string }

type flight struct {
	fingerprint string
	ended       chan struct{}
}

// New returns a keeper over a store.
func New(store Store) *Keeper { return &Keeper{store: store, flights: map[flightKey]*flight{}} }

// ValidKey says whether a text can be a key: 1 to MaxKey visible ASCII
// characters.
func ValidKey(key string) bool {
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return key != "" && len(key) <= MaxKey
}

// Begin starts a request. Either it returns the answer of an earlier one, or
// finish, which must be called with the answer, or with nil when there is none
// worth keeping. A request with the same key that goes on is waited for.
func (k *Keeper) Begin(ctx context.Context, project, key, fingerprint string) (earlier *Answer, finish func(*Answer) error, err error) {
	id := flightKey{project, key}
	for {
		k.mu.Lock()
		other := k.flights[id]
		if other == nil {
			own := &flight{fingerprint: fingerprint, ended: make(chan struct{})}
			k.flights[id] = own
			k.mu.Unlock()
			return k.begin(ctx, id, own)
		}
		k.mu.Unlock()
		if other.fingerprint != fingerprint {
			return nil, nil, differs()
		}
		select {
		case <-other.ended:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// writeTimeout bounds a write that a caller's leaving does not end.
const writeTimeout = 10 * time.Second

func (k *Keeper) begin(ctx context.Context, id flightKey, own *flight) (*Answer, func(*Answer) error, error) {
	land := func() {
		k.mu.Lock()
		delete(k.flights, id)
		k.mu.Unlock()
		close(own.ended)
	}
	earlier, err := k.store.BeginAnswer(ctx, id.project, id.key, own.fingerprint, time.Now().Add(Life))
	switch {
	case err != nil:
	case earlier == nil:
		return nil, func(answer *Answer) error {
			defer land()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
			defer cancel()
			if answer == nil {
				return k.store.DropAnswer(ctx, id.project, id.key)
			}
			return k.store.FinishAnswer(ctx, id.project, id.key, *answer)
		}, nil
	case earlier.Fingerprint != own.fingerprint:
		err = differs()
	case earlier.Status == 0:
		err = &faas.Error{Kind: faas.KindConflict, Op: "idempotency",
			Detail: "a request with this Idempotency-Key was cut short by the server's end: whether it was done is not known",
			Remedy: "look whether it was, and use another key to try again"}
	case earlier.Cut:
		err = &faas.Error{Kind: faas.KindConflict, Op: "idempotency",
			Detail: "the request with this Idempotency-Key was done; its answer was too large to be kept", Remedy: "look for what it made"}
	}
	land()
	return earlier, nil, err
}

func differs() error {
	return &faas.Error{Kind: faas.KindConflict, Op: "idempotency", Field: "Idempotency-Key",
		Detail: "another request was sent with this key", Remedy: "use a new key for every request, and the same one for its retries only"}
}
