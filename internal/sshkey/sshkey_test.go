package sshkey

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/meta"
)

func service(t *testing.T) *Service {
	t.Helper()
	accounts, err := meta.OpenAccounts(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accounts.Close() })
	authority, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return NewService(accounts, authority)
}

// finds is a Find that knows one instance.
func finds(project, id, name string) Find {
	return func(_ context.Context, asked string) (string, string, error) {
		if asked != project {
			return "", "", faas.ErrNotFound
		}
		return id, name, nil
	}
}

var here = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}

func TestGeneratedKeys(t *testing.T) {
	s := service(t)
	instance := faas.NewID(faas.PrefixInstance)
	for _, c := range []struct {
		kind, want string
		bits       int
	}{{"", ssh.KeyAlgoED25519, 0}, {TypeECDSA, ssh.KeyAlgoECDSA384, 384}, {TypeRSA, ssh.KeyAlgoRSA, 0}} {
		record, private, err := s.Create(t.Context(), Request{Project: "default", Name: "n " + c.kind, Type: c.kind, Bits: c.bits})
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.ParsePrivateKey([]byte(private))
		if err != nil || signer.PublicKey().Type() != c.want || record.Type != c.want || ssh.FingerprintSHA256(signer.PublicKey()) != record.Fingerprint {
			t.Errorf("%+v: %+v, %v", c, record, err)
		}
		if strings.Contains(record.PublicKey, "PRIVATE") {
			t.Error("the record has the private part")
		}
		login, err := s.Authorize(t.Context(), signer.PublicKey(), here, nil, finds("default", instance, "x"))
		if err != nil || login.KeyID != record.ID || !login.Allows(instance, "") {
			t.Errorf("%+v %v", login, err)
		}
		if _, err := s.Authorize(t.Context(), signer.PublicKey(), here, nil, finds("other", instance, "x")); err == nil {
			t.Error("a key of one project logs in to another's instance")
		}
	}
}

func TestRefusedKeys(t *testing.T) {
	s := service(t)
	past := time.Now().Add(-time.Second)
	pair, err := Generate("", 0)
	if err != nil {
		t.Fatal(err)
	}
	private, err := EncodePrivate(pair, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]Request{
		"bits": {Type: TypeRSA, Bits: 2048}, "type": {Type: "dsa"}, "expires_at": {ExpiresAt: &past},
		"public_key": {PublicKey: private}, "instance_ids": {InstanceIDs: []string{"x"}}, "max_sessions": {MaxSessions: -1}, "name": {Name: "a\nb"},
	} {
		r.Project = "default"
		_, _, err := s.Create(t.Context(), r)
		var e *faas.Error
		if !errors.As(err, &e) || e.Kind != faas.KindInvalidArgument || e.Field != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	weak := "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC5vWmhAtp4zYiQ6Y3fGvXkTqTBxgQ8OYz2oCWO7tYWqXhMyU1pUiXjVZ3ZlB1yVvTA9ER5vTqzI1m3l6xS1PdaBq1kT8Ut1p2l2tqv4Q=="
	if _, _, err := ParsePublic("public_key", weak); err == nil {
		t.Error("a weak or broken key is accepted")
	}
}

func TestRevocationIsTold(t *testing.T) {
	s := service(t)
	record, _, err := s.Create(t.Context(), Request{Project: "default"})
	if err != nil {
		t.Fatal(err)
	}
	var told string
	stop := s.OnRevoke(func(id string) { told = id })
	if _, err := s.Revoke(t.Context(), "other", record.ID); !errors.Is(err, faas.ErrNotFound) || told != "" {
		t.Error(err, told)
	}
	if _, err := s.Revoke(t.Context(), "default", record.ID); err != nil || told != record.ID {
		t.Error(err, told)
	}
	stop()
	if s.Valid(t.Context(), record.ID) {
		t.Error("a revoked key is valid")
	}
}

func TestHostKeysRotate(t *testing.T) {
	dir := t.TempDir()
	h, err := OpenHostKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	old := h.Published()
	if err := h.Rotate(time.Hour); err != nil {
		t.Fatal(err)
	}
	if again, err := OpenHostKeys(dir); err != nil || len(again.All()) != 2*len(old) || again.Published()[0].Fingerprint != old[0].Fingerprint {
		t.Fatal(err)
	}
	if err := h.advance(time.Now().Add(2 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	now := h.Published()
	if len(now) != len(old) || now[0].Fingerprint == old[0].Fingerprint {
		t.Errorf("%+v became %+v", old, now)
	}
	again, err := OpenHostKeys(dir)
	if err != nil || again.Published()[0].Fingerprint != now[0].Fingerprint {
		t.Error("the new keys did not outlive the server", err)
	}
	if lines := again.KnownHosts("127.0.0.1:2222"); !strings.HasPrefix(lines, "[127.0.0.1]:2222 ssh-ed25519 ") {
		t.Errorf("%q", lines)
	}
}

func TestTrusted(t *testing.T) {
	pair, err := Generate("", 0)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(pair.Public())
	if err != nil {
		t.Fatal(err)
	}
	line := Line(public, "ca")
	list, err := ParseTrusted("f", []byte("# all\nproject=\"team-a\" "+line+"\n"+line+"\n\n# end\n"))
	if err != nil || len(list) != 2 || list[0].Project != "team-a" || list[1].Project != faas.DefaultProject {
		t.Errorf("%+v %v", list, err)
	}
	if _, err := ParseTrusted("f", []byte("from=\"x\" "+line)); err == nil {
		t.Error("an option without meaning is accepted")
	}
}
