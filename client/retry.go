package client

import (
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"github.com/faas-platform/faas"
)

// Between trials.
const (
	baseDelay = 100 * time.Millisecond
	maxDelay  = 8 * time.Second
	// A server that asks for more patience than this is not waited for.
	maxRetryAfter = time.Minute
)

// trial is one that failed.
type trial struct {
	attempt, max int
	err          error
	safe         bool // doing it twice does no harm
	repeatable   bool // what was sent can be sent again
}

// reached says whether the server may have seen the request.
func (t trial) reached() bool {
	var dial *net.OpError
	return !errors.As(t.err, &dial) || dial.Op != "dial"
}

// delay returns how long to wait before the next trial, and whether there is
// to be one.
func (t trial) delay() (time.Duration, bool) {
	var e *faas.Error
	if t.attempt >= t.max || !t.repeatable || !errors.As(t.err, &e) {
		return 0, false
	}
	switch {
	case e.Kind == faas.KindResourceExhausted: // refused before anything was done
		if e.RetryAfter <= 0 {
			return 0, false
		}
	case e.Kind == faas.KindUnavailable:
		if !t.safe && t.reached() {
			return 0, false
		}
	default:
		return 0, false
	}
	// Half of it is chance, so that those who failed together do not come back
	// together.
	delay := min(maxDelay, baseDelay<<min(t.attempt, 16))
	delay = delay/2 + rand.N(delay/2+1)
	return delay + e.RetryAfter, e.RetryAfter <= maxRetryAfter
}
