package api

import (
	"time"

	"github.com/faas-platform/faas"
)

// Paths of the routes about SSH.
const (
	PathSSHKeys     = "/api/v1/ssh-keys"
	PathSSHSign     = PathSSHKeys + "/sign"
	PathSSHServer   = "/api/v1/ssh/server"
	PathSSHHostKeys = "/api/v1/ssh/host-keys/rotate"
)

// SSHKeyRequest asks for an SSH key: a generated one, or with PublicKey one
// that is there.
type SSHKeyRequest struct {
	Name        string     `json:"name,omitempty" maxLength:"128" doc:"For people."`
	Type        string     `json:"type,omitempty" enum:"ed25519,ecdsa,rsa" doc:"Of a key to generate; ed25519 when absent."`
	Bits        int        `json:"bits,omitempty" doc:"Of a key to generate: 256, 384 or 521 for ecdsa, 3072 to 8192 for rsa."`
	PublicKey   string     `json:"public_key,omitempty" doc:"A key to import, as one line of authorized_keys."`
	InstanceIDs []string   `json:"instance_ids,omitempty" doc:"Instances that it may log in to; absent: all of the project's."`
	ExpiresAt   *time.Time `json:"expires_at,omitempty" doc:"After which it cannot log in; absent: never."`
	TTLMS       int64      `json:"ttl_ms,omitempty" minimum:"1" doc:"The same as a time from now."`
	MaxSessions int        `json:"max_sessions,omitempty" minimum:"0" doc:"Connections at one time; 0: as many as the configuration allows."`
}

// SSHKeyCreated is a new key with its private part.
type SSHKeyCreated struct {
	faas.SSHKey
	PrivateKey string `json:"private_key,omitempty" doc:"Of a generated key, in OpenSSH's form. It is not shown again, and nothing keeps it."`
}

// SSHKeyList is one page of keys, newest first.
type SSHKeyList struct {
	SSHKeys    []faas.SSHKey `json:"ssh_keys"`
	NextCursor string        `json:"next_cursor" doc:"Cursor of the next page; empty at the end."`
}

// SSHRotateRequest asks for a new key in the place of another.
type SSHRotateRequest struct {
	OverlapMS *int64 `json:"overlap_ms,omitempty" minimum:"0" doc:"How long the old one logs in still; absent: a day."`
	PublicKey string `json:"public_key,omitempty" doc:"The new one; absent: one like the old is generated."`
}

// SSHSignRequest asks for a certificate.
type SSHSignRequest struct {
	PublicKey   string   `json:"public_key" doc:"That the certificate is for, as one line of authorized_keys."`
	Name        string   `json:"name,omitempty" maxLength:"128" doc:"For people."`
	InstanceIDs []string `json:"instance_ids,omitempty" doc:"Instances that it logs in to; absent: all of the project's."`
	TTLMS       int64    `json:"ttl_ms,omitempty" minimum:"1000" doc:"How long it logs in; absent: five minutes. At most a day."`
	MaxSessions int      `json:"max_sessions,omitempty" minimum:"0" doc:"Connections at one time; 0: as many as the configuration allows."`
}

// SSHCertificate is a signed certificate.
type SSHCertificate struct {
	faas.SSHKey
	Certificate string `json:"certificate" doc:"The line of a -cert.pub file."`
}

// SSHServer says where the SSH server is and how it is known.
type SSHServer struct {
	Host       string       `json:"ssh_host"`
	Port       int          `json:"ssh_port"`
	HostKeys   []SSHHostKey `json:"host_keys"`
	KnownHosts string       `json:"known_hosts" doc:"Lines for a known_hosts file."`
	UserCA     string       `json:"user_ca" doc:"Public key of the server's own certificate authority."`
}

// SSHHostKey is a key by which the server is known.
type SSHHostKey struct {
	Type        string     `json:"type" example:"ssh-ed25519"`
	Fingerprint string     `json:"fingerprint"`
	PublicKey   string     `json:"public_key"`
	CountsFrom  *time.Time `json:"counts_from,omitempty" doc:"Of a key that a rotation has announced: when it takes the place of the old one."`
}

// SSHHostKeysRequest asks for new host keys.
type SSHHostKeysRequest struct {
	OverlapMS *int64 `json:"overlap_ms,omitempty" minimum:"0" doc:"How long they are announced before they take the place of the old; absent: a week, 0: at once."`
}

// InstanceSSH says how to log in to an instance.
type InstanceSSH struct {
	SSHServer
	InstanceID string        `json:"instance_id"`
	Username   string        `json:"ssh_username"`
	Command    string        `json:"command" example:"ssh -p 2222 inst-0c7v4g6k1w0003f9a2m5d8r1t6@127.0.0.1"`
	Keys       []faas.SSHKey `json:"ssh_keys" doc:"Keys that may log in to it."`
}
