package docker

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/docker/go-connections/sockets"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
)

// dialFunc opens one connection to an engine.
type dialFunc func(ctx context.Context) (net.Conn, error)

// dialTimeout bounds one connection attempt, TLS or ssh handshake included.
const dialTimeout = 10 * time.Second

// dialer returns how connections to the endpoint are made. TLS is done here
// rather than by the HTTP transport, so that hijacked connections take the
// same way and honour the same context.
func (ep endpoint) dialer() (dialFunc, error) {
	scheme, addr, _ := strings.Cut(ep.host, "://")
	switch scheme {
	case "unix":
		return netDial("unix", addr), nil
	case "npipe":
		tr := &http.Transport{}
		if err := sockets.ConfigureTransport(tr, "npipe", addr); err != nil {
			return nil, &faas.Error{Kind: faas.KindInvalidArgument, Op: "find docker engine", Field: "host",
				Detail: "named pipes exist on Windows only", Err: err}
		}
		return func(ctx context.Context) (net.Conn, error) { return tr.DialContext(ctx, "npipe", addr) }, nil
	case "ssh":
		return sshDialer(ep.host)
	case "tcp", "http", "https":
		u, err := client.ParseHostURL("tcp://" + addr)
		if err != nil || u.Path != "" {
			return nil, faas.InvalidField("host", "%s: a docker engine has no path in its address", ep.host)
		}
		dial := netDial("tcp", u.Host)
		if ep.tls == nil {
			return dial, nil
		}
		return tlsDial(dial, u.Host, ep.tls), nil
	default:
		return nil, faas.InvalidField("host", "docker engine: the scheme %q of %s is not supported", scheme, ep.host)
	}
}

func netDial(network, addr string) dialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext(ctx, network, addr)
	}
}

// tlsDial adds a TLS handshake to another dialer.
func tlsDial(dial dialFunc, addr string, base *tls.Config) dialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		raw, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		cfg := base.Clone()
		if cfg.ServerName == "" {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				host = addr
			}
			cfg.ServerName = host
		}
		conn := tls.Client(raw, cfg)
		if err := conn.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, fmt.Errorf("TLS handshake with %s: %w", addr, err)
		}
		return conn, nil
	}
}
