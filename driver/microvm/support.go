package microvm

import (
	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// What the probe and the table of platforms say alike.
const (
	linuxOnly       = "microVMs of faas run beside Linux's control groups"
	linuxOnlyRemedy = "use the docker runtime here"

	rootOnly       = "this driver needs root: it gives machines to a user who is nobody, and puts images together"
	rootOnlyRemedy = "run faas as root, or use the native runtime, which works for plain users"

	noProgram       = "QEMU is not installed"
	noProgramRemedy = "install the package qemu-system-x86 (qemu-system-arm on arm64), or another that has the program"

	noTools       = "a program that makes file systems is missing: "
	noToolsRemedy = "install the packages squashfs-tools and e2fsprogs"

	hostImageReason = "the host image is directories of this machine, and a microVM has a disk"
	hostImageRemedy = "use an OCI image, or one that was imported"

	egressReason = "machines are not connected yet"
	egressRemedy = "use network none, or the native, gvisor or docker runtime"

	seccompReason = "commands meet no filter of system calls: what stands between them and this machine is the microVM, whose own process has one"
	seccompRemedy = "use the native or docker runtime where a filter is what you want"

	neverBooted = "QEMU runs it: where KVM works at nearly the machine's own speed, elsewhere in software, some ten to thirty times slower"
)

// SupportedQEMU is what the qemu runtime does at best on each platform.
func SupportedQEMU(p driver.Platform) []driver.Support {
	switch p {
	case driver.LinuxRoot:
		return driver.Offer(
			driver.Support{Feature: faas.FeatureExec, Offered: true, Needs: neverBooted + "; a kernel: " + kernelRemedy},
			driver.Support{Feature: faas.FeatureHostImage, Reason: hostImageReason, Remedy: hostImageRemedy},
			driver.Support{Feature: faas.FeatureSeccomp, Reason: seccompReason, Remedy: seccompRemedy},
			driver.Support{Feature: faas.FeatureNetworkEgress, Reason: egressReason, Remedy: egressRemedy},
		)
	case driver.LinuxUser:
		return driver.Unsupported(rootOnly, rootOnlyRemedy)
	default:
		return driver.Unsupported(linuxOnly, linuxOnlyRemedy)
	}
}

// kernelRemedy is how a kernel is had.
const kernelRemedy = "faas image kernel install unpacks the one of this machine's own distribution, or name one in the setting microvm.kernel"
