package oci

import (
	"log/slog"

	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/network"
)

// The launchers of the native runtime.
const (
	// LauncherAuto is the builtin one where it works, else the faster of crun
	// and runc, as measured once on this machine.
	LauncherAuto    = "auto"
	LauncherBuiltin = "builtin"
	LauncherCrun    = "crun"
	LauncherRunc    = "runc"
)

// Options configures a driver of this package.
type Options struct {
	// Dir holds the sandboxes, and the agent that they run. It is made when
	// missing and may be shared by several processes.
	Dir string
	// Images is where images are found. For root it must have been opened
	// with IDShift as its UIDShift and GIDShift.
	Images *image.Store
	// Launcher is auto, builtin, crun or runc. Empty: auto.
	Launcher string
	// Network connects sandboxes that ask for it. The driver closes it. Nil:
	// no sandbox gets more than a loopback interface, and Probe gives
	// NetworkError, from network.New, as the reason.
	Network      *network.Network
	NetworkError error
	// CRIU is the program that saves and restores memory; a path, or a name
	// that is looked up. Empty: criu.
	CRIU   string
	Logger *slog.Logger // nil: discard
}
