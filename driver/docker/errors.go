package docker

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
)

// explain turns an error of a call into one of the platform's. ctx is the
// caller's own context, limit what the call was given.
func (c *connection) explain(ctx context.Context, limit time.Duration, err error) error {
	var known *faas.Error
	switch {
	case errors.As(err, &known):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "permission denied while trying to connect"):
		return &faas.Error{
			Kind: faas.KindUnavailable, Detail: "no permission to use the docker engine's socket " + c.ep.host,
			Remedy: permissionRemedy,
			Err:    quiet{err},
		}
	case errors.Is(err, os.ErrNotExist):
		return c.unreachable("there is no docker engine at "+c.ep.host+" (from "+c.ep.source+")", quiet{err})
	case errors.Is(err, context.DeadlineExceeded):
		return c.unreachable("the docker engine at "+c.ep.host+" did not answer within "+limit.String(), quiet{err})
	case client.IsErrConnectionFailed(err) || isBrokenConnection(err):
		return c.unreachable("the docker engine at "+c.ep.host+" cannot be reached or went away", innermost(err))
	}
	return answered(err)
}

func (c *connection) unreachable(detail string, err error) error {
	return &faas.Error{
		Kind: faas.KindUnavailable, Detail: detail, Err: err,
		Remedy: engineRemedy, RetryAfter: time.Second,
	}
}

// answered classes an error that the engine itself gave.
func answered(err error) error {
	text := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	e := &faas.Error{Kind: faas.KindInternal, Detail: "docker engine: " + text, Err: quiet{err}}
	switch {
	case strings.Contains(text, "no space left on device"), strings.Contains(text, "cannot allocate memory"):
		e.Kind = faas.KindResourceExhausted
	case cerrdefs.IsNotFound(err):
		e.Kind = faas.KindNotFound
	case cerrdefs.IsConflict(err):
		e.Kind = faas.KindConflict
	case cerrdefs.IsInvalidArgument(err):
		e.Kind = faas.KindInvalidArgument
	case cerrdefs.IsUnauthorized(err), cerrdefs.IsPermissionDenied(err):
		e.Kind = faas.KindPermissionDenied
	case cerrdefs.IsUnavailable(err):
		e.Kind = faas.KindUnavailable
	}
	return e
}

// isBrokenConnection says whether err is that of a connection that ended
// rather than the engine's answer.
func isBrokenConnection(err error) bool {
	var netErr net.Error
	var opErr *net.OpError
	return errors.As(err, &opErr) || (errors.As(err, &netErr) && netErr.Timeout()) ||
		errors.Is(err, net.ErrClosed) || isEOF(err)
}

// innermost leaves the client's own words about the engine's address out,
// which is only a name to it.
func innermost(err error) error {
	var opErr *net.OpError
	if errors.As(err, &opErr) {
		return opErr
	}
	return err
}

// quiet keeps a cause reachable whose text the detail already holds.
type quiet struct{ error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.error }

// opError says during which operation, and on what, an error happened.
func opError(op, what string, err error) *faas.Error {
	var known *faas.Error
	if !errors.As(err, &known) {
		return &faas.Error{Kind: faas.KindOf(err), Op: op, Detail: what, Err: err}
	}
	e := *known
	if e.Op != "" && e.Op != op {
		return &faas.Error{Kind: e.Kind, Op: op, Field: e.Field, Detail: what, Remedy: "", RetryAfter: e.RetryAfter, Err: err}
	}
	e.Op = op
	if what != "" {
		e.Detail = what + ": " + e.Detail
	}
	return &e
}

// isEOF says whether a connection ended where more was expected.
func isEOF(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// isNotExist says whether a file is missing.
func isNotExist(err error) bool { return errors.Is(err, os.ErrNotExist) }
