package sshkey

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas"
)

const (
	// DefaultCertificateTTL is how long a certificate logs in.
	DefaultCertificateTTL = 5 * time.Minute
	// MaxCertificateTTL is the most that is signed.
	MaxCertificateTTL = 24 * time.Hour
	// clockSkew is how far back a certificate counts, for clocks that differ.
	clockSkew = time.Minute
	// keepCertificates is how long the record of one that ended is kept.
	keepCertificates = 24 * time.Hour
	authorityFile    = "user_ca"
)

// ProjectPrincipal is the principal of certificates for all instances of a
// project. Others name an instance, by its id or its name.
func ProjectPrincipal(project string) string { return "project:" + project }

// Authority is the server's own certificate authority for users.
type Authority struct{ signer ssh.Signer }

// OpenAuthority reads the authority's key in a directory, which it makes when
// missing.
func OpenAuthority(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "open the SSH certificate authority: %w", err)
	}
	signer, err := ensurePrivate(filepath.Join(dir, authorityFile), TypeEd25519, "")
	if err != nil {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "open the SSH certificate authority: %w", err)
	}
	return &Authority{signer: signer}, nil
}

// PublicKey returns the authority's public key.
func (a *Authority) PublicKey() ssh.PublicKey { return a.signer.PublicKey() }

// SignRequest asks for a certificate.
type SignRequest struct {
	Project     string
	Name        string
	PublicKey   string // that it is for
	InstanceIDs []string
	TTL         time.Duration // 0: DefaultCertificateTTL
	MaxSessions int
	CreatedBy   string
}

// Sign makes a certificate, which is on record and can be revoked, and returns
// it as a line of a -cert.pub file.
func (s *Service) Sign(ctx context.Context, r SignRequest) (faas.SSHKey, string, error) {
	now := time.Now().UTC()
	request := Request{Name: r.Name, InstanceIDs: r.InstanceIDs, MaxSessions: r.MaxSessions}
	if err := request.check(now); err != nil {
		return faas.SSHKey{}, "", err
	}
	if r.TTL == 0 {
		r.TTL = DefaultCertificateTTL
	}
	if r.TTL < time.Second || r.TTL > MaxCertificateTTL {
		return faas.SSHKey{}, "", faas.InvalidField("ttl_ms", "is not between 1000 and %d", MaxCertificateTTL.Milliseconds())
	}
	key, _, err := ParsePublic("public_key", r.PublicKey)
	if err != nil {
		return faas.SSHKey{}, "", err
	}
	expires := now.Add(r.TTL)
	record := faas.SSHKey{
		ID: faas.NewID(faas.PrefixSSHKey), Project: r.Project, Name: r.Name, Kind: faas.SSHKeyCertificate, Origin: "signed",
		Type: key.Type(), Fingerprint: ssh.FingerprintSHA256(key), PublicKey: Line(key, ""), MaxSessions: r.MaxSessions,
		InstanceIDs: append([]string{}, r.InstanceIDs...), CreatedBy: r.CreatedBy, CreatedAt: now, ExpiresAt: &expires, Serial: serial(),
	}
	cert, err := s.authority.sign(record, key)
	if err != nil {
		return faas.SSHKey{}, "", err
	}
	if err := s.store.PruneSSHCertificates(ctx, now.Add(-keepCertificates)); err != nil {
		return faas.SSHKey{}, "", err
	}
	if err := s.store.CreateSSHKey(ctx, record); err != nil {
		return faas.SSHKey{}, "", err
	}
	return record, Line(cert, record.ID), nil
}

func serial() uint64 {
	var b [8]byte
	rand.Read(b[:])                                   //nolint:errcheck // never fails since Go 1.24
	return binary.BigEndian.Uint64(b[:]) &^ (1 << 63) // fits a JSON reader's integer of 64 bits
}

// sign makes the certificate of a record. Its key id is the record's: a login
// looks the record up, so that a certificate can be revoked.
func (a *Authority) sign(record faas.SSHKey, key ssh.PublicKey) (*ssh.Certificate, error) {
	principals := slices.Clone(record.InstanceIDs)
	if len(principals) == 0 {
		principals = []string{ProjectPrincipal(record.Project)}
	}
	cert := &ssh.Certificate{
		Key: key, Serial: record.Serial, CertType: ssh.UserCert, KeyId: record.ID, ValidPrincipals: principals,
		ValidAfter: uint64(record.CreatedAt.Add(-clockSkew).Unix()), ValidBefore: uint64(record.ExpiresAt.Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{
			"permit-pty": "", "permit-port-forwarding": "", "permit-agent-forwarding": "",
		}},
	}
	if err := cert.SignCert(rand.Reader, a.signer); err != nil {
		return nil, faas.Errorf(faas.KindInternal, "sign a certificate: %w", err)
	}
	return cert, nil
}
