package sshkey

import (
	"context"
	"crypto"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas"
)

// Store keeps the records of keys. A write that returned is durable, except
// for TouchSSHKey's.
type Store interface {
	CreateSSHKey(ctx context.Context, k faas.SSHKey) error
	UpdateSSHKey(ctx context.Context, k faas.SSHKey) error
	TouchSSHKey(ctx context.Context, id string, at time.Time, from string) error
	DeleteSSHKey(ctx context.Context, project, id string) error
	PruneSSHCertificates(ctx context.Context, before time.Time) error
	SSHKey(ctx context.Context, id string) (faas.SSHKey, error)
	SSHKeysByFingerprint(ctx context.Context, fingerprint string) ([]faas.SSHKey, error)
	SSHKeys(ctx context.Context, project string, filter faas.SSHKeyFilter) ([]faas.SSHKey, string, error)
}

const (
	maxKeyName     = 128
	maxInstances   = 256 // of one key
	maxMaxSessions = 10_000
	defaultPage    = 50
	maxPage        = 1000
	// DefaultOverlap is how long a rotated key still logs in.
	DefaultOverlap = 24 * time.Hour
	maxOverlap     = 90 * 24 * time.Hour
)

// Service makes, lists and revokes the keys that log in to instances.
type Service struct {
	store     Store
	authority *Authority

	mu       sync.Mutex
	watchers map[int]func(id string)
	last     int
}

// NewService returns a service over a store. authority signs certificates.
func NewService(store Store, authority *Authority) *Service {
	return &Service{store: store, authority: authority, watchers: map[int]func(string){}}
}

// Request asks for a key.
type Request struct {
	Project     string
	Name        string
	Type        string // of one to generate: TypeEd25519 when empty
	Bits        int
	PublicKey   string // of one to import; then Type and Bits are empty
	InstanceIDs []string
	ExpiresAt   *time.Time
	MaxSessions int
	CreatedBy   string
}

// check refuses what no key may be. Fields are named as in the HTTP API.
func (r Request) check(now time.Time) error {
	switch {
	case len(r.Name) > maxKeyName || strings.ContainsFunc(r.Name, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return faas.InvalidField("name", "at most %d bytes, without control characters", maxKeyName)
	case r.ExpiresAt != nil && !r.ExpiresAt.After(now):
		return faas.InvalidField("expires_at", "is over already")
	case r.MaxSessions < 0 || r.MaxSessions > maxMaxSessions:
		return faas.InvalidField("max_sessions", "is not between 0 and %d", maxMaxSessions)
	case r.PublicKey != "" && (r.Type != "" || r.Bits != 0):
		return faas.InvalidField("public_key", "is what it is: leave type and bits out")
	}
	return checkInstances(r.InstanceIDs)
}

func checkInstances(ids []string) error {
	if len(ids) > maxInstances {
		return faas.InvalidField("instance_ids", "at most %d", maxInstances)
	}
	for _, id := range ids {
		if !faas.ValidID(faas.PrefixInstance, id) {
			return faas.InvalidField("instance_ids", "%q is not the id of an instance", shorten(id))
		}
	}
	return nil
}

func shorten(text string) string {
	if len(text) > 64 {
		return text[:64] + "…"
	}
	return text
}

// Create generates a key, or imports one, and returns its record with the
// private part of a generated one, which nothing keeps.
func (s *Service) Create(ctx context.Context, r Request) (faas.SSHKey, string, error) {
	now := time.Now().UTC()
	if err := r.check(now); err != nil {
		return faas.SSHKey{}, "", err
	}
	record := faas.SSHKey{
		ID: faas.NewID(faas.PrefixSSHKey), Project: r.Project, Name: r.Name, Kind: faas.SSHKeyPlain,
		InstanceIDs: slices.Clone(r.InstanceIDs), MaxSessions: r.MaxSessions, CreatedBy: r.CreatedBy, CreatedAt: now, ExpiresAt: r.ExpiresAt,
	}
	if record.InstanceIDs == nil {
		record.InstanceIDs = []string{}
	}
	private, err := s.fill(&record, r)
	if err != nil {
		return faas.SSHKey{}, "", err
	}
	if err := s.store.CreateSSHKey(ctx, record); err != nil {
		return faas.SSHKey{}, "", err
	}
	return record, private, nil
}

// fill gives a record its public key: the imported one, or that of a new pair,
// whose private part it returns.
func (s *Service) fill(record *faas.SSHKey, r Request) (private string, err error) {
	var public ssh.PublicKey
	comment := record.Name
	if r.PublicKey != "" {
		record.Origin = "imported"
		var given string
		if public, given, err = ParsePublic("public_key", r.PublicKey); err != nil {
			return "", err
		}
		if record.Name == "" && Request.check(Request{Name: given}, time.Now()) == nil {
			record.Name = given
		}
		comment = given
	} else {
		record.Origin = "generated"
		if comment == "" {
			comment = record.ID
		}
		var pair crypto.Signer
		if pair, err = Generate(r.Type, r.Bits); err != nil {
			return "", err
		}
		if private, err = EncodePrivate(pair, comment); err != nil {
			return "", err
		}
		if public, err = ssh.NewPublicKey(pair.Public()); err != nil {
			return "", faas.Errorf(faas.KindInternal, "encode a public key: %w", err)
		}
	}
	record.Type, record.Fingerprint, record.PublicKey = public.Type(), ssh.FingerprintSHA256(public), Line(public, comment)
	return private, nil
}

// Key returns a project's key or certificate.
func (s *Service) Key(ctx context.Context, project, id string) (faas.SSHKey, error) {
	record, err := s.store.SSHKey(ctx, id)
	if err == nil && record.Project != project {
		err = &faas.Error{Kind: faas.KindNotFound, Op: "find SSH key", Detail: "there is no SSH key " + shorten(id)}
	}
	if err != nil {
		return faas.SSHKey{}, err
	}
	return record, nil
}

// Keys lists a project's keys, newest first, and the cursor of the next page.
func (s *Service) Keys(ctx context.Context, project string, filter faas.SSHKeyFilter) ([]faas.SSHKey, string, error) {
	switch {
	case filter.Limit == 0:
		filter.Limit = defaultPage
	case filter.Limit < 0 || filter.Limit > maxPage:
		return nil, "", faas.InvalidField("limit", "%d is not between 1 and %d", filter.Limit, maxPage)
	}
	return s.store.SSHKeys(ctx, project, filter)
}

// Revoke removes a key or certificate. It logs in no more, and its open
// sessions end.
func (s *Service) Revoke(ctx context.Context, project, id string) (faas.SSHKey, error) {
	record, err := s.Key(ctx, project, id)
	if err != nil {
		return record, err
	}
	if err := s.store.DeleteSSHKey(ctx, project, id); err != nil {
		return record, err
	}
	s.mu.Lock()
	watchers := make([]func(string), 0, len(s.watchers))
	for _, w := range s.watchers {
		watchers = append(watchers, w)
	}
	s.mu.Unlock()
	for _, w := range watchers {
		w(id)
	}
	return record, nil
}

// OnRevoke has f called with the id of every key that is revoked, until the
// function that it returns is called. f must not wait for long.
func (s *Service) OnRevoke(f func(id string)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	n := s.last
	s.watchers[n] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, n)
	}
}

// Rotate puts a new key into the place of another, which logs in for the
// overlap still. publicKey is that of the new one; when it is empty a pair of
// the same type is generated, and its private part returned.
func (s *Service) Rotate(ctx context.Context, project, id, publicKey string, overlap time.Duration, by string) (faas.SSHKey, string, error) {
	old, err := s.Key(ctx, project, id)
	switch {
	case err != nil:
		return faas.SSHKey{}, "", err
	case overlap < 0 || overlap > maxOverlap:
		return faas.SSHKey{}, "", faas.InvalidField("overlap_ms", "is not between 0 and %d", maxOverlap.Milliseconds())
	case old.Kind != faas.SSHKeyPlain:
		return faas.SSHKey{}, "", &faas.Error{Kind: faas.KindFailedPrecondition, Op: "rotate SSH key", Detail: "it is a certificate", Remedy: "sign another"}
	case old.ReplacedBy != "":
		return faas.SSHKey{}, "", &faas.Error{Kind: faas.KindFailedPrecondition, Op: "rotate SSH key", Detail: "it was rotated already", Remedy: "rotate " + old.ReplacedBy}
	case old.ExpiresAt != nil && !old.ExpiresAt.After(time.Now()):
		return faas.SSHKey{}, "", &faas.Error{Kind: faas.KindFailedPrecondition, Op: "rotate SSH key", Detail: "it has expired", Remedy: "make a new one"}
	}
	now := time.Now().UTC()
	record := old
	record.ID, record.Replaces, record.CreatedBy, record.CreatedAt = faas.NewID(faas.PrefixSSHKey), old.ID, by, now
	record.LastUsedAt, record.LastUsedFrom = nil, ""
	if old.ExpiresAt != nil { // as long as the old one had from its making
		expires := now.Add(old.ExpiresAt.Sub(old.CreatedAt))
		record.ExpiresAt = &expires
	}
	request := Request{PublicKey: publicKey}
	if publicKey == "" {
		request.Type, request.Bits = shape(old.PublicKey)
	}
	private, err := s.fill(&record, request)
	if err != nil {
		return faas.SSHKey{}, "", err
	}
	if err := s.store.CreateSSHKey(ctx, record); err != nil {
		return faas.SSHKey{}, "", err
	}
	ends := now.Add(overlap)
	if old.ExpiresAt == nil || old.ExpiresAt.After(ends) {
		old.ExpiresAt = &ends
	}
	old.ReplacedBy = record.ID
	return record, private, s.store.UpdateSSHKey(ctx, old)
}

// shape is what to generate to get a key like another.
func shape(line string) (kind string, bits int) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return TypeEd25519, 0
	}
	switch key.Type() {
	case ssh.KeyAlgoECDSA256:
		return TypeECDSA, 256
	case ssh.KeyAlgoECDSA384:
		return TypeECDSA, 384
	case ssh.KeyAlgoECDSA521:
		return TypeECDSA, 521
	case ssh.KeyAlgoRSA:
		return TypeRSA, min(max(rsaBits(key), minRSABits), maxRSABits)
	default:
		return TypeEd25519, 0
	}
}
