package sshkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas"
)

// Types of keys that can be generated.
const (
	TypeEd25519 = "ed25519" // the default
	TypeECDSA   = "ecdsa"   // 256, 384 or 521 bits
	TypeRSA     = "rsa"     // 3072 bits or more
)

const (
	minRSABits  = 3072
	maxRSABits  = 8192 // beyond it a login costs seconds
	maxKeyBytes = 16 << 10
)

// Generate makes a key pair. Bits is its size, 0 for the usual one.
func Generate(kind string, bits int) (crypto.Signer, error) {
	switch kind {
	case "", TypeEd25519:
		if bits != 0 && bits != 256 {
			return nil, faas.InvalidField("bits", "an ed25519 key has 256")
		}
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case TypeRSA:
		if bits == 0 {
			bits = minRSABits
		}
		if bits < minRSABits || bits > maxRSABits {
			return nil, faas.InvalidField("bits", "an RSA key has %d to %d", minRSABits, maxRSABits)
		}
		return rsa.GenerateKey(rand.Reader, bits)
	case TypeECDSA:
		curve, ok := map[int]elliptic.Curve{0: elliptic.P256(), 256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}[bits]
		if !ok {
			return nil, faas.InvalidField("bits", "an ECDSA key has 256, 384 or 521")
		}
		return ecdsa.GenerateKey(curve, rand.Reader)
	}
	return nil, faas.InvalidField("type", "%q is not one of %s, %s, %s", kind, TypeEd25519, TypeECDSA, TypeRSA)
}

// EncodePrivate writes a private key as OpenSSH does.
func EncodePrivate(key crypto.Signer, comment string) (string, error) {
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return "", faas.Errorf(faas.KindInternal, "encode a private key: %w", err)
	}
	return string(pem.EncodeToMemory(block)), nil
}

// Line writes a public key as a line of authorized_keys, without its end.
func Line(key ssh.PublicKey, comment string) string {
	line := strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(key)), "\n")
	if comment != "" {
		line += " " + comment
	}
	return line
}

// ParsePublic reads one public key in the form of authorized_keys, without
// options, and returns it with its comment. Private keys, certificates and
// weak keys are refused.
func ParsePublic(field, text string) (ssh.PublicKey, string, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return nil, "", faas.InvalidField(field, "is empty")
	case len(text) > maxKeyBytes:
		return nil, "", faas.InvalidField(field, "is longer than %d bytes", maxKeyBytes)
	case strings.Contains(text, "PRIVATE KEY"):
		return nil, "", faas.InvalidField(field, "is a private key: nobody should have it but you; send the file that ends in .pub")
	case strings.ContainsAny(text, "\r\n"):
		return nil, "", faas.InvalidField(field, "is more than one line")
	}
	key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return nil, "", faas.InvalidField(field, "is not a public key in the form of authorized_keys")
	}
	if len(options) > 0 {
		return nil, "", faas.InvalidField(field, "has options before the key, which have no meaning here")
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return nil, "", faas.InvalidField(field, "is a certificate: import its key, or let the server trust its authority (ssh.trusted_user_ca)")
	}
	if why := Weak(key); why != "" {
		return nil, "", faas.InvalidField(field, "%s", why)
	}
	return key, comment, nil
}

// Weak says why a public key is not strong enough, "" when it is.
func Weak(key ssh.PublicKey) string {
	if cert, ok := key.(*ssh.Certificate); ok {
		if why := Weak(cert.SignatureKey); why != "" {
			return "its authority's key: " + why
		}
		key = cert.Key
	}
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return ""
	case ssh.KeyAlgoRSA:
		cryptoKey, ok := key.(ssh.CryptoPublicKey)
		if !ok {
			return "its size cannot be told"
		}
		public, ok := cryptoKey.CryptoPublicKey().(*rsa.PublicKey)
		if !ok || public.N.BitLen() < minRSABits {
			return "an RSA key needs 3072 bits or more"
		}
		if public.N.BitLen() > maxRSABits {
			return "an RSA key has at most 8192 bits"
		}
		return ""
	}
	return "keys of type " + key.Type() + " are not accepted"
}
