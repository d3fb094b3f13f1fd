// Package auth says who a caller is: API keys with a project and a role, kept
// as hashes, and the local key that the user who started the server finds in a
// file of their own.
//
// A key holds 256 random bits, so one round of SHA-256 is enough to keep it:
// there is nothing to guess. The plain key is shown once, when it is made.
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

// Role says what a key may do.
type Role string

// The roles. A viewer reads what its project has, a member uses the project,
// an admin does everything, for the installation as well.
const (
	RoleViewer Role = "viewer"
	RoleMember Role = "member"
	RoleAdmin  Role = "admin"
)

// ranks orders the roles.
var ranks = []Role{RoleViewer, RoleMember, RoleAdmin}

// Allows says whether the role includes what another may do.
func (r Role) Allows(need Role) bool {
	return slices.Index(ranks, r) >= slices.Index(ranks, need) && slices.Contains(ranks, r)
}

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
	ID        string    `json:"id"` // key-…
	Name      string    `json:"name"`
	Project   string    `json:"project"`
	Role      Role      `json:"role"`
	Hash      Hash      `json:"hash"`
	CreatedAt time.Time `json:"created_at"`
}

// Identity is an authenticated caller.
type Identity struct {
	KeyID   string
	Project string
	Role    Role
}

// Store keeps the records of keys. Implementations are safe for concurrent
// use, and a write that returned is durable.
type Store interface {
	// KeyByHash returns the key with that hash, or an error of
	// KindNotFound. It is on the path of every request.
	KeyByHash(ctx context.Context, hash Hash) (Key, error)
	// Keys lists every key, oldest first.
	Keys(ctx context.Context) ([]Key, error)
	// PutKey adds a key; KindConflict when its id or hash is taken.
	PutKey(ctx context.Context, key Key) error
	// DeleteKey revokes a key; KindNotFound when there is none.
	DeleteKey(ctx context.Context, id string) error
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

// Authenticator recognises callers by their keys.
type Authenticator struct{ store Store }

// New returns an authenticator over a store.
func New(store Store) *Authenticator { return &Authenticator{store: store} }

// Authenticate returns whose key it is, or an error of KindUnauthenticated
// that does not say what is wrong with the key.
func (a *Authenticator) Authenticate(ctx context.Context, plain string) (Identity, error) {
	refused := &faas.Error{
		Kind: faas.KindUnauthenticated, Detail: "the API key is not known here",
		Remedy: "use a key of this server; its first one is in the key file of the user who started it (`faas config show` names it)",
	}
	if !WellFormed(plain) {
		return Identity{}, refused
	}
	hash := HashOf(plain)
	key, err := a.store.KeyByHash(ctx, hash)
	switch {
	case faas.KindOf(err) == faas.KindNotFound && err != nil:
		return Identity{}, refused
	case err != nil:
		return Identity{}, err
	case !key.Hash.equal(hash):
		return Identity{}, refused
	}
	return Identity{KeyID: key.ID, Project: key.Project, Role: key.Role}, nil
}

// NewKey makes and stores a key and returns it with its plain form, which
// nothing keeps.
func NewKey(ctx context.Context, store Store, name, project string, role Role) (Key, string, error) {
	plain := NewSecret()
	key, err := put(ctx, store, plain, name, project, role)
	return key, plain, err
}

func put(ctx context.Context, store Store, plain, name, project string, role Role) (Key, error) {
	key := Key{
		ID: faas.NewID(faas.PrefixKey), Name: name, Project: project, Role: role,
		Hash: HashOf(plain), CreatedAt: time.Now().UTC(),
	}
	return key, store.PutKey(ctx, key)
}
