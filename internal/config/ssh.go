package config

import (
	"path/filepath"
	"time"

	"github.com/faas-platform/faas"
)

// SSH configures the SSH server in front of instances.
type SSH struct {
	Listen          string   `toml:"listen" help:"address and port of the SSH server; empty: none"`
	Host            string   `toml:"host" help:"name or address that clients are told to connect to; empty: the one that it listens on, or that they know the API by"`
	TrustedUserCA   string   `toml:"trusted_user_ca" help:"file with public keys of certificate authorities whose certificates log in; project=\"NAME\" before a key says whose instances"`
	AgentForwarding bool     `toml:"agent_forwarding" help:"let clients forward their agents"`
	Connections     int64    `toml:"connections" help:"connections at one time"`
	SessionsPerKey  int64    `toml:"sessions_per_key" help:"connections at one time of a key that sets no number itself"`
	LoginTimeout    Duration `toml:"login_timeout" help:"time to log in"`
	KeepAlive       Duration `toml:"keep_alive" help:"time between signs of life; three that stay out end a connection"`
	BanAfter        int64    `toml:"ban_after" help:"failed connections in a row after which an address is refused"`
	BanTime         Duration `toml:"ban_time" help:"how long it is refused"`
}

// DefaultSSHListen is where the SSH server listens unless told otherwise.
const DefaultSSHListen = "127.0.0.1:2222"

func (s SSH) validate() error {
	for _, check := range []struct {
		key string
		ok  bool
		why string
	}{
		{"ssh.listen", s.Listen == "" || validListen(s.Listen), "must be HOST:PORT"},
		{"ssh.trusted_user_ca", s.TrustedUserCA == "" || filepath.IsAbs(s.TrustedUserCA), "must be an absolute path"},
		{"ssh.connections", s.Connections > 0, "must be above 0"},
		{"ssh.sessions_per_key", s.SessionsPerKey > 0, "must be above 0"},
		{"ssh.login_timeout", s.LoginTimeout > 0, "must be above 0"},
		{"ssh.keep_alive", s.KeepAlive > 0, "must be above 0"},
		{"ssh.ban_after", s.BanAfter > 0, "must be above 0"},
		{"ssh.ban_time", s.BanTime > 0, "must be above 0"},
	} {
		if !check.ok {
			return faas.InvalidField(check.key, "%s", check.why)
		}
	}
	return nil
}

func defaultSSH() SSH {
	return SSH{
		Connections: 1024, SessionsPerKey: 64, LoginTimeout: Duration(30 * time.Second),
		KeepAlive: Duration(15 * time.Second), BanAfter: 20, BanTime: Duration(10 * time.Minute),
	}
}
