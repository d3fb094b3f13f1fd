package main

import (
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/config"
)

// certificateCheck is how often the files of a certificate are looked at.
const certificateCheck = 10 * time.Second

// certificate is read again when its files change, so that a renewal needs no
// restart. A pair that cannot be read leaves the old one in use.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	pair    *tls.Certificate
	stamps  [2]time.Time
	checked time.Time
}

// secure puts TLS on a listener where the configuration asks for it.
func secure(cfg *config.Loaded, listener net.Listener, log *slog.Logger) (net.Listener, error) {
	if cfg.Server.TLSCert == "" {
		return listener, nil
	}
	c := &certificate{certFile: cfg.Server.TLSCert, keyFile: cfg.Server.TLSKey, log: log}
	if err := c.read(); err != nil {
		return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Op: "serve", Detail: "the TLS certificate cannot be used", Err: err,
			Remedy: "server.tls_cert and server.tls_key name a certificate chain and its key, in PEM"}
	}
	// HTTP/1.1 only: the WebSockets of the API are its upgrade.
	return tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: c.current}), nil
}

// read loads the pair from its files.
func (c *certificate) read() error {
	stamps := c.stampsOf()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.pair, c.stamps = &pair, stamps
	return nil
}

func (c *certificate) stampsOf() (stamps [2]time.Time) {
	for i, file := range []string{c.certFile, c.keyFile} {
		if st, err := os.Stat(file); err == nil {
			stamps[i] = st.ModTime()
		}
	}
	return stamps
}

// current returns the pair for a handshake.
func (c *certificate) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= certificateCheck {
		c.checked = now
		if c.stampsOf() != c.stamps {
			if err := c.read(); err != nil {
				c.log.Error("the new TLS certificate cannot be used, the old one stays", "error", err)
			} else {
				c.log.Info("took the new TLS certificate", "file", c.certFile)
			}
		}
	}
	return c.pair, nil
}
