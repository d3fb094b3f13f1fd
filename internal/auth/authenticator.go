package auth

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/faas-platform/faas"
)

const (
	// keyAge is how long a key that was found is taken as valid without
	// looking again: what another process revokes is refused that much later.
	keyAge = time.Second
	// touchAge is how exactly the last use of a key is kept.
	touchAge = time.Minute
	// maxKnown bounds the keys that are remembered.
	maxKnown = 4096
)

// Authenticator recognises callers by their keys, and slows down addresses that
// guess.
type Authenticator struct {
	store    Store
	throttle *throttle

	mu    sync.Mutex
	known map[Hash]knownKey
}

type knownKey struct {
	key     Key
	at      time.Time // when the store was asked
	touched time.Time
}

// New returns an authenticator over a store.
func New(store Store) *Authenticator {
	return &Authenticator{store: store, throttle: newThrottle(), known: map[Hash]knownKey{}}
}

// Store returns the keys below.
func (a *Authenticator) Store() Store { return a.store }

// Forget makes a key that was changed or revoked be looked up at its next use.
func (a *Authenticator) Forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for hash, known := range a.known {
		if known.key.ID == id {
			delete(a.known, hash)
		}
	}
}

// Authenticate returns whose key it is, or an error of KindUnauthenticated
// that does not say what is wrong with the key. An address that sent many wrong
// keys is refused with KindResourceExhausted for a while, before its key is
// looked at; a key in use goes on, so that nobody is locked out by a neighbour.
func (a *Authenticator) Authenticate(ctx context.Context, plain string, from netip.Addr) (Identity, error) {
	now := time.Now()
	if WellFormed(plain) {
		hash := HashOf(plain)
		key, known, fresh := a.recall(hash, now)
		if fresh {
			return a.accept(ctx, hash, key, now)
		}
		if wait := a.throttle.wait(from, now); wait > 0 && !known {
			return Identity{}, tooManyGuesses(wait)
		}
		key, err := a.store.KeyByHash(ctx, hash)
		switch {
		case err != nil && faas.KindOf(err) != faas.KindNotFound:
			return Identity{}, err
		case err == nil && key.Hash.equal(hash):
			a.remember(hash, key, now)
			return a.accept(ctx, hash, key, now)
		}
		a.forgetHash(hash)
	}
	if wait := a.throttle.wait(from, now); wait > 0 {
		return Identity{}, tooManyGuesses(wait)
	}
	a.throttle.failed(from, now)
	return Identity{}, refused()
}

func refused() error {
	return &faas.Error{
		Kind: faas.KindUnauthenticated, Detail: "the API key is not known here",
		Remedy: "use a key of this server; its first one is in the key file of the user who started it (`faas config show` names it)",
	}
}

func tooManyGuesses(wait time.Duration) error {
	return &faas.Error{Kind: faas.KindResourceExhausted, Detail: "too many wrong API keys came from this address", RetryAfter: wait}
}

// accept checks what can change while a key is known.
func (a *Authenticator) accept(ctx context.Context, hash Hash, key Key, now time.Time) (Identity, error) {
	if key.Expired(now) {
		return Identity{}, &faas.Error{Kind: faas.KindUnauthenticated, Detail: "the API key has expired", Remedy: "ask an admin for a new one"}
	}
	a.touch(ctx, hash, now)
	return key.Identity(), nil
}

// recall returns a key that was looked up before, and whether that was a moment
// ago.
func (a *Authenticator) recall(hash Hash, now time.Time) (key Key, known, fresh bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k, ok := a.known[hash]
	return k.key, ok, ok && now.Sub(k.at) < keyAge
}

func (a *Authenticator) remember(hash Hash, key Key, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for old := range a.known {
		if len(a.known) < maxKnown {
			break
		}
		delete(a.known, old)
	}
	a.known[hash] = knownKey{key: key, at: now, touched: a.known[hash].touched}
}

func (a *Authenticator) forgetHash(hash Hash) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, hash)
}

// touch notes the use of a key, once a minute.
func (a *Authenticator) touch(ctx context.Context, hash Hash, now time.Time) {
	a.mu.Lock()
	known, ok := a.known[hash]
	due := ok && now.Sub(known.touched) >= touchAge
	if due {
		known.touched = now
		a.known[hash] = known
	}
	a.mu.Unlock()
	if due {
		_ = a.store.TouchKey(ctx, known.key.ID, now) //nolint:errcheck // a note for people; the request does not depend on it
	}
}
