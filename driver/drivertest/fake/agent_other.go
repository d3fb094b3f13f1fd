//go:build !unix

package fake

import (
	"net"

	"github.com/faas-platform/faas"
)

// agent does not run where the guest agent does not.
type agent struct{}

func startAgent(string, []byte, faas.Spec, func()) (*agent, error) {
	return nil, faas.Unavailable("the guest agent runs on unix systems only", "run the test on Linux")
}

func (*agent) accept(net.Conn) error { return faas.Unavailable("no agent runs here", "") }

func (*agent) stop() error { return nil }
