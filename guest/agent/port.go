//go:build unix

package agent

import (
	"errors"
	"io"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// dialTimeout bounds the connection to a port inside.
const dialTimeout = 10 * time.Second

// dialPort connects to a port inside and copies both ways until both end.
func (r *request) dialPort(args wire.DialArgs) (any, error) {
	address, err := r.agent.dialAddress(args)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(r.ctx, args.Network, address)
	if err != nil {
		return nil, dialError(args, err)
	}
	return nil, r.join(conn)
}

// join copies between a connection inside and the request's bodies until both
// ways have ended.
func (r *request) join(conn net.Conn) error {
	defer conn.Close() //nolint:errcheck // both ways have ended
	if err := r.reply(nil); err != nil {
		return err
	}
	incoming := make(chan struct{})
	go func() {
		defer close(incoming)
		r.in.WriteTo(onlyWriter{conn}) //nolint:errcheck // ends either way
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite() //nolint:errcheck // it may have ended
		}
	}()
	_, err := r.out.ReadFrom(onlyReader{conn})
	if err == nil {
		r.out.CloseWrite() //nolint:errcheck // the client has gone then
		select {
		case <-incoming: // a half-closed connection goes on the other way
		case <-r.ctx.Done():
		}
	}
	conn.Close() //nolint:errcheck // ends the other way
	r.in.Discard()
	<-incoming
	if err != nil && r.ctx.Err() == nil {
		return faas.Errorf(faas.KindUnavailable, "the connection inside the sandbox failed: %s", reason(err))
	}
	return nil
}

func (a *Agent) dialAddress(args wire.DialArgs) (string, error) {
	switch args.Network {
	case "tcp":
		if port, err := strconv.ParseUint(args.Address, 10, 16); err == nil && port > 0 {
			return net.JoinHostPort("127.0.0.1", args.Address), nil
		}
		if _, port, err := net.SplitHostPort(args.Address); err != nil || port == "" {
			return "", faas.InvalidField("address", "%q is neither a port nor host:port", args.Address)
		}
		return args.Address, nil
	case "unix":
		return a.path(args.Address)
	default:
		return "", faas.InvalidField("network", "%q is neither tcp nor unix", args.Network)
	}
}

func dialError(args wire.DialArgs, err error) error {
	e := &faas.Error{Kind: faas.KindUnavailable, Detail: args.Network + " " + args.Address + ": " + reason(err)}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		e.Detail, e.Remedy = "nothing listens on "+args.Network+" "+args.Address+" in the sandbox", "start the server first"
	}
	return e
}

var _ io.Writer = onlyWriter{}
