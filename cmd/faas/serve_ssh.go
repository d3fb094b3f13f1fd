package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/executor"
	"github.com/faas-platform/faas/internal/audit"
	"github.com/faas-platform/faas/internal/config"
	"github.com/faas-platform/faas/internal/gateway"
	"github.com/faas-platform/faas/internal/meta"
	"github.com/faas-platform/faas/internal/sshd"
	"github.com/faas-platform/faas/internal/sshkey"
)

// maxTrustedFile bounds the file of trusted authorities.
const maxTrustedFile = 1 << 20

// sshFlag lets --ssh stand without an address.
func sshFlag(args []string) []string {
	if len(args) == 0 || args[0] != "serve" {
		return args
	}
	args = append([]string(nil), args...)
	for i, arg := range args {
		if arg == "--ssh" && (i+1 == len(args) || strings.HasPrefix(args[i+1], "-")) {
			args[i] = "--ssh=" + config.DefaultSSHListen
		}
	}
	return args
}

// sshFront is the SSH server, if there is one, with its keys, which are
// managed in any case.
type sshFront struct {
	listener net.Listener // nil: it does not run
	server   *sshd.Server
	about    *gateway.SSH
	keys     *sshkey.Service
	events   *audit.Log
	failed   chan error
}

// openSSH opens the keys and, where the configuration wants a server, takes
// its address.
func openSSH(cfg *config.Loaded, accounts *meta.Accounts, events *audit.Log) (*sshFront, error) {
	dir := filepath.Join(cfg.Data.Dir, "ssh")
	authority, err := sshkey.OpenAuthority(dir)
	if err != nil {
		return nil, err
	}
	hostKeys, err := sshkey.OpenHostKeys(dir)
	if err != nil {
		return nil, err
	}
	keys := sshkey.NewService(accounts, authority)
	front := &sshFront{
		about: &gateway.SSH{Keys: keys, HostKeys: hostKeys, UserCA: sshkey.Line(authority.PublicKey(), "faas")},
		keys:  keys, events: events, failed: make(chan error, 1),
	}
	if cfg.SSH.Listen == "" {
		return front, nil
	}
	if front.listener, err = listen(context.Background(), cfg.SSH.Listen); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(front.listener.Addr().String())
	if err == nil {
		front.about.Port, err = strconv.Atoi(port)
	}
	if err != nil {
		front.close()
		return nil, faas.Errorf(faas.KindInternal, "serve SSH: %w", err)
	}
	front.about.Host = cfg.SSH.Host
	if ip := net.ParseIP(host); front.about.Host == "" && (ip == nil || !ip.IsUnspecified()) {
		front.about.Host = host
	}
	return front, nil
}

// serve starts the server.
func (f *sshFront) serve(cfg *config.Loaded, log *slog.Logger, engine *executor.Executor) error {
	if f.listener == nil {
		return nil
	}
	trusted, err := trustedAuthorities(cfg)
	if err != nil {
		return err
	}
	f.server = sshd.New(sshd.Options{
		Instances: engine, Keys: f.keys, HostKeys: f.about.HostKeys, Trusted: trusted, Audit: f.events, Logger: log,
		AgentForwarding: cfg.SSH.AgentForwarding,
		Limits: sshd.Limits{
			Connections: int(cfg.SSH.Connections), SessionsPerKey: int(cfg.SSH.SessionsPerKey),
			LoginTimeout: time.Duration(cfg.SSH.LoginTimeout), KeepAlive: time.Duration(cfg.SSH.KeepAlive),
			BanAfter: int(cfg.SSH.BanAfter), BanTime: time.Duration(cfg.SSH.BanTime),
		},
	})
	go func() { f.failed <- f.server.Serve(f.listener) }()
	log.Info("serving SSH", "address", f.listener.Addr().String())
	return nil
}

// drain lets open connections end until ctx does, then ends them.
func (f *sshFront) drain(ctx context.Context) {
	if f.server != nil {
		f.listener.Close()
		f.server.Drain(ctx)
		f.server.Close()
	}
}

func (f *sshFront) close() {
	if f.server != nil {
		f.server.Close()
	}
	if f.listener != nil {
		f.listener.Close()
	}
}

// trustedAuthorities reads the file of authorities that the configuration
// names.
func trustedAuthorities(cfg *config.Loaded) ([]sshkey.Trusted, error) {
	path := cfg.SSH.TrustedUserCA
	if path == "" {
		return nil, nil
	}
	st, err := os.Stat(path)
	if err == nil && st.Size() > maxTrustedFile {
		return nil, faas.InvalidField("ssh.trusted_user_ca", "%s is larger than %d bytes", path, maxTrustedFile)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, faas.InvalidField("ssh.trusted_user_ca", "%v", err)
	}
	return sshkey.ParseTrusted("ssh.trusted_user_ca", content)
}
