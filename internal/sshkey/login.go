package sshkey

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas"
)

// Trusted is a certificate authority whose certificates log in to the
// instances of one project.
type Trusted struct {
	Key     ssh.PublicKey
	Project string
}

// ParseTrusted reads lines in the form of authorized_keys with the public keys
// of authorities. The option project="NAME" says whose instances a key's
// certificates log in to; without it the default project's.
func ParseTrusted(field string, text []byte) ([]Trusted, error) {
	var list []Trusted
	for len(bytes.TrimSpace(text)) > 0 {
		key, _, options, rest, err := ssh.ParseAuthorizedKey(text)
		if err != nil {
			if len(list) > 0 && len(bytes.TrimSpace(rest)) == 0 {
				break // comments at the end
			}
			return nil, faas.InvalidField(field, "holds what is no public key in the form of authorized_keys")
		}
		if why := Weak(key); why != "" {
			return nil, faas.InvalidField(field, "%s: %s", ssh.FingerprintSHA256(key), why)
		}
		t := Trusted{Key: key, Project: faas.DefaultProject}
		for _, option := range options {
			value, ok := strings.CutPrefix(option, "project=")
			switch {
			case ok:
				t.Project = strings.Trim(value, `"`)
			case option != "cert-authority":
				return nil, faas.InvalidField(field, "there is no option %q: project=\"NAME\" is", option)
			}
		}
		list, text = append(list, t), rest
	}
	return list, nil
}

// Login is what a key or certificate may do, for one instance.
type Login struct {
	// KeyID is the record's id; of a certificate of a trusted authority, which
	// has none, its authority's fingerprint and serial number.
	KeyID       string
	Recorded    bool // there is a record of it, which may be revoked
	Project     string
	Fingerprint string
	MaxSessions int // 0: as many as the configuration allows
	// What a certificate forbids; a plain key may do all of it.
	NoTerminal, NoForwarding, NoAgent bool
	ForcedCommand                     string // of a certificate: instead of any other

	allows func(id, name string) bool
}

// Allows says whether the login holds for another instance of its project too.
func (l *Login) Allows(id, name string) bool { return l.allows(id, name) }

// Find looks an instance up in a project: by its id, or by its name. It
// returns faas.ErrNotFound when there is none.
type Find func(ctx context.Context, project string) (id, name string, err error)

// errUnknown does not say what is wrong, since whoever asks may be anybody.
var errUnknown = errors.New("this key may not log in here")

// Authorize finds out what a public key or a certificate that a client offers
// may do with the instance that find knows. The client has not proved yet that
// it has the private part.
func (s *Service) Authorize(ctx context.Context, offered ssh.PublicKey, from net.Addr, trusted []Trusted, find Find) (*Login, error) {
	if Weak(offered) != "" {
		return nil, errUnknown
	}
	if cert, ok := offered.(*ssh.Certificate); ok {
		return s.authorizeCertificate(ctx, cert, from, trusted, find)
	}
	records, err := s.store.SSHKeysByFingerprint(ctx, ssh.FingerprintSHA256(offered))
	if err != nil {
		return nil, err
	}
	for _, record := range records {
		login, err := s.authorizeRecord(ctx, record, offered, find)
		if err == nil {
			return login, nil
		}
	}
	return nil, errUnknown
}

func (s *Service) authorizeRecord(ctx context.Context, record faas.SSHKey, offered ssh.PublicKey, find Find) (*Login, error) {
	if record.ExpiresAt != nil && !time.Now().Before(*record.ExpiresAt) {
		return nil, errUnknown
	}
	// The fingerprint found it; the key itself decides.
	known, _, _, _, err := ssh.ParseAuthorizedKey([]byte(record.PublicKey))
	if err != nil || !bytes.Equal(known.Marshal(), offered.Marshal()) {
		return nil, errUnknown
	}
	id, _, err := find(ctx, record.Project)
	if err != nil {
		return nil, err
	}
	if len(record.InstanceIDs) > 0 && !slices.Contains(record.InstanceIDs, id) {
		return nil, errUnknown
	}
	return &Login{
		KeyID: record.ID, Recorded: true, Project: record.Project, Fingerprint: record.Fingerprint, MaxSessions: record.MaxSessions,
		allows: func(id, _ string) bool {
			return len(record.InstanceIDs) == 0 || slices.Contains(record.InstanceIDs, id)
		},
	}, nil
}

// authorizeCertificate accepts certificates of the server's own authority,
// which are on record, and of the trusted ones.
func (s *Service) authorizeCertificate(ctx context.Context, cert *ssh.Certificate, from net.Addr, trusted []Trusted, find Find) (*Login, error) {
	var login *Login
	var err error
	if bytes.Equal(cert.SignatureKey.Marshal(), s.authority.PublicKey().Marshal()) {
		var record faas.SSHKey
		if record, err = s.store.SSHKey(ctx, cert.KeyId); err != nil || record.Kind != faas.SSHKeyCertificate || record.Serial != cert.Serial {
			return nil, errUnknown // revoked
		}
		if login, err = s.authorizeRecord(ctx, record, cert.Key, find); err != nil {
			return nil, err
		}
	} else {
		i := slices.IndexFunc(trusted, func(t Trusted) bool { return bytes.Equal(t.Key.Marshal(), cert.SignatureKey.Marshal()) })
		if i < 0 {
			return nil, errUnknown
		}
		authority := ssh.FingerprintSHA256(cert.SignatureKey)
		login = &Login{KeyID: authority + "#" + formatSerial(cert), Project: trusted[i].Project, Fingerprint: ssh.FingerprintSHA256(cert.Key)}
	}
	id, name, err := find(ctx, login.Project)
	if err != nil {
		return nil, err
	}
	if err := checkCertificate(cert, from, []string{id, name, ProjectPrincipal(login.Project)}); err != nil {
		return nil, errUnknown
	}
	login.allows = func(id, name string) bool {
		return names(cert, []string{id, name, ProjectPrincipal(login.Project)}) != ""
	}
	login.ForcedCommand = cert.CriticalOptions["force-command"]
	login.NoTerminal, login.NoForwarding, login.NoAgent = lacks(cert, "permit-pty"), lacks(cert, "permit-port-forwarding"), lacks(cert, "permit-agent-forwarding")
	return login, nil
}

func lacks(cert *ssh.Certificate, extension string) bool {
	_, ok := cert.Extensions[extension]
	return !ok
}

// checkCertificate checks a certificate's signature, times, principals and
// critical options.
func checkCertificate(cert *ssh.Certificate, from net.Addr, principals []string) error {
	if cert.CertType != ssh.UserCert || cert.Signature == nil || cert.Signature.Format == ssh.KeyAlgoRSA { // the last is SHA-1
		return errUnknown
	}
	if forced, ok := cert.CriticalOptions["force-command"]; ok && forced == "" {
		return errUnknown // whatever it was meant to be, it is not every command
	}
	principal := names(cert, principals)
	if principal == "" {
		return errUnknown // one that names nobody is for nobody
	}
	if sources, ok := cert.CriticalOptions["source-address"]; ok && !allowedSource(sources, from) {
		return errUnknown
	}
	checker := ssh.CertChecker{SupportedCriticalOptions: []string{"force-command", "source-address"}}
	return checker.CheckCert(principal, cert)
}

// names returns the first of the principals that a certificate is for.
func names(cert *ssh.Certificate, principals []string) string {
	for _, p := range cert.ValidPrincipals {
		if p != "" && slices.Contains(principals, p) {
			return p
		}
	}
	return ""
}

// allowedSource says whether an address is in a list of addresses and
// networks.
func allowedSource(list string, from net.Addr) bool {
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return false
	}
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if ip := net.ParseIP(part); ip != nil && ip.Equal(tcp.IP) {
			return true
		}
		if _, network, err := net.ParseCIDR(part); err == nil && network.Contains(tcp.IP) {
			return true
		}
	}
	return false
}

// Used notes that a key has logged in.
func (s *Service) Used(ctx context.Context, id, from string) error {
	return s.store.TouchSSHKey(ctx, id, time.Now(), from)
}

// Valid says whether the record of a key is still there; a failing store says
// so.
func (s *Service) Valid(ctx context.Context, id string) bool {
	_, err := s.store.SSHKey(ctx, id)
	return !errors.Is(err, faas.ErrNotFound)
}

// rsaBits is the size of an RSA key.
func rsaBits(key ssh.PublicKey) int {
	if k, ok := key.(ssh.CryptoPublicKey); ok {
		if public, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok {
			return public.N.BitLen()
		}
	}
	return 0
}

func formatSerial(cert *ssh.Certificate) string { return strconv.FormatUint(cert.Serial, 10) }
