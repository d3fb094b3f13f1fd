package faas

import "time"

// PrefixSSHKey begins the ids of SSH keys and certificates.
const PrefixSSHKey = "sshkey"

// SSHKeyKind says what a record of an SSH key is about.
type SSHKeyKind string

// The kinds: a public key that may log in until it is revoked, or a
// certificate that the server has signed for a short time.
const (
	SSHKeyPlain       SSHKeyKind = "key"
	SSHKeyCertificate SSHKeyKind = "certificate"
)

// SSHKey is a public key, or a certificate, that may log in to instances of
// its project. Nothing keeps the private part.
type SSHKey struct {
	ID      string     `json:"id"` // sshkey-…
	Project string     `json:"project"`
	Name    string     `json:"name,omitempty"`
	Kind    SSHKeyKind `json:"kind" enum:"key,certificate"`
	// Origin is generated, imported or, of a certificate, signed.
	Origin      string `json:"origin" enum:"generated,imported,signed"`
	Type        string `json:"type" example:"ssh-ed25519"`
	Fingerprint string `json:"fingerprint" example:"SHA256:jN8tXh0a8Zr5yqk3WmJ7cQH0u6mV9o2LfT1sPz4bXeY"`
	PublicKey   string `json:"public_key" doc:"In the form of authorized_keys."`
	// InstanceIDs are the instances that it may log in to; none: all of the
	// project's.
	InstanceIDs  []string   `json:"instance_ids" doc:"Instances that it may log in to; empty: all of the project's."`
	MaxSessions  int        `json:"max_sessions" doc:"Connections at one time; 0: as many as the configuration allows."`
	Serial       uint64     `json:"serial,omitempty" doc:"Of a certificate."`
	Replaces     string     `json:"replaces,omitempty" doc:"Key that a rotation made this one for."`
	ReplacedBy   string     `json:"replaced_by,omitempty" doc:"Key that a rotation put in this one's place."`
	CreatedBy    string     `json:"created_by,omitempty" doc:"API key that it was made with."`
	CreatedAt    time.Time  `json:"created_at"`
	ExpiresAt    *time.Time `json:"expires_at,omitempty" doc:"After which it cannot log in; absent: never."`
	LastUsedAt   *time.Time `json:"last_used_at,omitempty"`
	LastUsedFrom string     `json:"last_used_from,omitempty" doc:"Address of the last login."`
}

// SSHKeyFilter selects keys; a zero field selects all.
type SSHKeyFilter struct {
	Kind       SSHKeyKind
	InstanceID string // those that may log in to it
	Limit      int    // 1 to 1000; 0: 50
	Cursor     string // of the page before
}
