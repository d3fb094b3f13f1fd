package microvm

import (
	"log/slog"

	"github.com/faas-platform/faas/image"
)

// How QEMU executes what machines run.
const (
	AccelAuto = "auto" // AccelKVM where a kernel boots with it, else AccelTCG
	AccelKVM  = "kvm"
	AccelTCG  = "tcg" // in software: slow, and on every machine
)

// Options configures the driver of the qemu runtime.
type Options struct {
	// Dir holds the machines, their root file systems and kernels that were
	// installed. It is made when missing and may be shared by several
	// processes, but not with another driver.
	Dir string
	// Images is where images are found, and Shift the UIDShift and GIDShift
	// that it was opened with.
	Images *image.Store
	Shift  int
	// Kernel is the path of a kernel as distributions package it:
	// ROOT/boot/vmlinuz-RELEASE, with config-RELEASE beside it and modules
	// below ROOT/lib/modules. Empty: one that was installed into
	// Dir/kernels, or the machine's own.
	Kernel string
	// Program is QEMU's executable. Empty: it is looked for on the PATH.
	Program string
	// Accel is one of the constants above. Empty: AccelAuto.
	Accel  string
	Logger *slog.Logger // nil: discard
}
