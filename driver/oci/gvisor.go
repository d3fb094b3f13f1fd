package oci

import (
	"log/slog"

	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/network"
)

// The platforms by which gVisor runs a sandbox's code.
const (
	PlatformSystrap = "systrap"
	PlatformKVM     = "kvm"
)

// GVisorOptions configures the driver of the gvisor runtime.
type GVisorOptions struct {
	// Dir holds the sandboxes, and the agent that they run. It is made when
	// missing and may be shared by several processes, but not with a Native.
	Dir string
	// Images is where images are found. It must have been opened with IDShift
	// as its UIDShift and GIDShift.
	Images *image.Store
	// Program is the runsc executable. Empty: runsc is looked for on the PATH.
	Program string
	// Platform is systrap or kvm. Empty: systrap.
	Platform string
	// Network connects sandboxes that ask for it. The driver closes it. Nil:
	// no sandbox gets more than a loopback interface, and Probe gives
	// NetworkError, from network.New, as the reason.
	Network      *network.Network
	NetworkError error
	Logger       *slog.Logger // nil: discard
}
