// Package ticket issues tickets: each stands for its maker's key once, for a
// short time, where a browser cannot send a header. Tickets live in memory and
// end with the process.
package ticket

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/auth"
)

const (
	// Life is how long a ticket may be used.
	Life = 30 * time.Second
	// perKey bounds the tickets of one key that wait to be used.
	perKey = 1024
)

// Ticket is what a ticket stands for.
type Ticket struct {
	Identity  auth.Identity
	Path      string // "": any
	ExpiresAt time.Time
}

// Office issues and takes tickets. Safe for concurrent use.
type Office struct {
	mu     sync.Mutex
	issued map[[sha256.Size]byte]Ticket
	counts map[string]int // by key
}

// New returns an office without tickets.
func New() *Office {
	return &Office{issued: map[[sha256.Size]byte]Ticket{}, counts: map[string]int{}}
}

// Issue makes a ticket for a path, "" for any.
func (o *Office) Issue(who auth.Identity, path string) (plain string, expires time.Time, err error) {
	var b [32]byte
	rand.Read(b[:]) //nolint:errcheck // crypto/rand.Read never fails since Go 1.24
	plain = base64.RawURLEncoding.EncodeToString(b[:])
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts[who.KeyID] >= perKey {
		o.sweep(now)
	}
	if o.counts[who.KeyID] >= perKey {
		return "", time.Time{}, &faas.Error{Kind: faas.KindResourceExhausted, Op: "issue ticket",
			Detail: "the key has too many tickets that were not used", RetryAfter: Life}
	}
	expires = now.Add(Life)
	o.issued[sha256.Sum256([]byte(plain))] = Ticket{Identity: who, Path: path, ExpiresAt: expires}
	o.counts[who.KeyID]++
	return plain, expires.UTC(), nil
}

// Redeem takes a ticket for a path: it works once. The hash that it is found by
// makes how long that takes tell nothing.
func (o *Office) Redeem(plain, path string) (Ticket, error) {
	hash := sha256.Sum256([]byte(plain))
	o.mu.Lock()
	defer o.mu.Unlock()
	t, ok := o.issued[hash]
	if ok {
		o.drop(hash, t)
	}
	if !ok || time.Now().After(t.ExpiresAt) || t.Path != "" && t.Path != path {
		return Ticket{}, &faas.Error{Kind: faas.KindUnauthenticated, Detail: "the ticket is not valid, or no more",
			Remedy: "ask for a new one for every connection: POST /api/v1/tickets"}
	}
	return t, nil
}

func (o *Office) drop(hash [sha256.Size]byte, t Ticket) {
	delete(o.issued, hash)
	if o.counts[t.Identity.KeyID]--; o.counts[t.Identity.KeyID] <= 0 {
		delete(o.counts, t.Identity.KeyID)
	}
}

// sweep drops the tickets that have expired.
func (o *Office) sweep(now time.Time) {
	for hash, t := range o.issued {
		if now.After(t.ExpiresAt) {
			o.drop(hash, t)
		}
	}
}
