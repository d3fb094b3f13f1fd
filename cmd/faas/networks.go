package main

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"path/filepath"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/config"
	"github.com/faas-platform/faas/network"
)

// networkOptions configures the networks of one runtime's sandboxes. What
// belongs to a runtime of an installation carries a name made of both, so that
// sweeping one leaves the others alone.
func networkOptions(cfg *config.Loaded, runtime faas.Runtime, log *slog.Logger) network.Options {
	dir := filepath.Clean(cfg.Data.Dir)
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		dir = resolved
	}
	sum := sha256.Sum256([]byte(dir))
	opts := network.Options{Installation: string(runtime) + "-" + hex.EncodeToString(sum[:8]), Logger: log}
	// The configuration was validated.
	opts.Prefix, _ = netip.ParsePrefix(cfg.Network.Prefix)
	for _, server := range cfg.Network.DNS {
		if addr, err := netip.ParseAddr(server); err == nil {
			opts.DNS = append(opts.DNS, addr)
		}
	}
	return opts
}
