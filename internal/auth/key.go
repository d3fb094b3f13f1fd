package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/faas-platform/faas"
)

// Hash is the SHA-256 of a plain key in hexadecimal.
type Hash string

// HashOf returns the hash of a plain key.
func HashOf(plain string) Hash {
	sum := sha256.Sum256([]byte(plain))
	return Hash(hex.EncodeToString(sum[:]))
}

// equal compares in constant time.
func (h Hash) equal(other Hash) bool {
	return subtle.ConstantTimeCompare([]byte(h), []byte(other)) == 1
}

// Key is the record of one API key.
type Key struct {
	ID      string `json:"id"` // key-…
	Name    string `json:"name"`
	Project string `json:"project"`
	Role    Role   `json:"role"`
	// Scopes narrow the role to areas of the API (the tags of its
	// description), each for everything ("instances") or for reading
	// ("instances:read"). Empty: every area.
	Scopes     []string   `json:"scopes,omitempty"`
	Quota      Quota      `json:"quota"`
	Hash       Hash       `json:"-"`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty"`   // nil: never
	LastUsedAt *time.Time `json:"last_used_at,omitempty"` // to the minute; nil: not yet
}

// Quota bounds what one key uses. A field at zero bounds nothing.
type Quota struct {
	ExecutionsPerDay int64   `json:"executions_per_day,omitempty" minimum:"0" doc:"Executions begun since midnight UTC. 0: no bound."`
	Concurrency      int64   `json:"concurrency,omitempty" minimum:"0" doc:"Executions that run or wait, and instances that are not stopped, at one time. 0: no bound."`
	MemoryMB         int64   `json:"memory_mb,omitempty" minimum:"0" doc:"Memory limits of all of those together, in MiB. 0: no bound."`
	DiskMB           int64   `json:"disk_mb,omitempty" minimum:"0" doc:"Disk limits of all of those together, in MiB. 0: no bound."`
	RatePerSecond    float64 `json:"rate_per_second,omitempty" minimum:"0" doc:"Requests a second. 0: no bound."`
	Burst            int64   `json:"burst,omitempty" minimum:"0" doc:"Requests that may come at once within the rate. 0: one second's."`
}

// Identity is who a key makes its bearer.
func (k Key) Identity() Identity {
	return Identity{KeyID: k.ID, Project: k.Project, Role: k.Role, Scopes: k.Scopes, Quota: k.Quota}
}

// Expired says whether the key has ended by now.
func (k Key) Expired(now time.Time) bool { return k.ExpiresAt != nil && !now.Before(*k.ExpiresAt) }

const maxKeyName = 128

// check refuses what no key may be. Fields are named as in the HTTP API.
func (k Key) check() error {
	switch {
	case len(k.Name) > maxKeyName || strings.ContainsFunc(k.Name, func(c rune) bool { return c < ' ' }):
		return faas.InvalidField("name", "at most %d bytes, without control characters", maxKeyName)
	case !faas.ValidProject(k.Project):
		return faas.InvalidField("project", "is not a project name: up to 63 lower-case letters, digits and hyphens")
	case !slices.Contains(Roles(), k.Role):
		return faas.InvalidField("role", "%q is not one of admin, user, read-only", k.Role)
	case k.ExpiresAt != nil && !k.ExpiresAt.After(k.CreatedAt):
		return faas.InvalidField("expires_at", "is over already")
	case k.Quota.Burst > 0 && k.Quota.RatePerSecond == 0:
		return faas.InvalidField("quota.burst", "needs rate_per_second")
	}
	q := k.Quota
	if min(q.ExecutionsPerDay, q.Concurrency, q.MemoryMB, q.DiskMB, q.Burst) < 0 || !(q.RatePerSecond >= 0) {
		return faas.InvalidField("quota", "no bound is negative")
	}
	return nil
}

// Store keeps the records of keys. Implementations are safe for concurrent
// use, and a write that returned is durable.
type Store interface {
	// KeyByHash returns the key with that hash, or an error of KindNotFound.
	KeyByHash(ctx context.Context, hash Hash) (Key, error)
	// Key returns the key of that id, or an error of KindNotFound.
	Key(ctx context.Context, id string) (Key, error)
	// Keys lists a project's keys, oldest first; "" means every project's.
	Keys(ctx context.Context, project string) ([]Key, error)
	// PutKey adds a key; KindConflict when its id or hash is taken.
	PutKey(ctx context.Context, key Key) error
	// DeleteKey revokes a key; KindNotFound when there is none.
	DeleteKey(ctx context.Context, id string) error
	// TouchKey notes that a key was used.
	TouchKey(ctx context.Context, id string, at time.Time) error
}

// prefix marks a string as one of our keys, for people and secret scanners.
const prefix = "faas_"

// encoding spells keys: lower case, digits, nothing that a shell minds.
var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewSecret returns a new plain key.
func NewSecret() string {
	var b [32]byte
	rand.Read(b[:]) //nolint:errcheck // crypto/rand.Read never fails since Go 1.24
	return prefix + encoding.EncodeToString(b[:])
}

// WellFormed says whether a string has the form of a plain key.
func WellFormed(plain string) bool {
	rest, ok := strings.CutPrefix(plain, prefix)
	if !ok {
		return false
	}
	b, err := encoding.DecodeString(rest)
	return err == nil && len(b) == 32
}

// NewKey completes a key (id, hash, time of creation), stores it and returns it
// with its plain form, which nothing keeps.
func NewKey(ctx context.Context, store Store, key Key) (Key, string, error) {
	plain := NewSecret()
	key, err := put(ctx, store, plain, key)
	return key, plain, err
}

func put(ctx context.Context, store Store, plain string, key Key) (Key, error) {
	key.ID, key.Hash, key.CreatedAt = faas.NewID(faas.PrefixKey), HashOf(plain), time.Now().UTC()
	if err := key.check(); err != nil {
		return Key{}, err
	}
	return key, store.PutKey(ctx, key)
}
