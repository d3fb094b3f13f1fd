package oci

import (
	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/network"
)

// What the probes of this package and the documentation say alike.
const (
	linuxOnly       = "the native runtime isolates with Linux namespaces"
	gvisorLinuxOnly = "gVisor runs on Linux"
	linuxOnlyRemedy = "use the docker runtime here"

	delegationRoot = "boot with control groups mounted writable at /sys/fs/cgroup; inside a container: give it a control group namespace of its own, writable"
	delegationUser = "with systemd and control groups version 2: run in a delegated scope (systemd-run --user --scope -p Delegate=yes faas …), " +
		"after: sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | " +
		"sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload; otherwise run as root"

	subordinateIDs = "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER, with the package uidmap installed"

	criuMissing = "memory needs CRIU, which is not installed"
	criuRemedy  = "install CRIU 4.2.1 or newer; see docs/platforms.md"

	snapshotsRootOnly = "the owners and removals of files in a writable layer can be copied by root only"
	runAsRoot         = "run the gateway as root"

	gvisorRootOnly       = "this driver needs root: it mounts images and limits what gVisor's kernel itself takes"
	gvisorRootOnlyRemedy = "run faas as root, or use the native runtime, which works for plain users"
	gvisorMissing        = "the runsc program is not installed"
	gvisorMissingRemedy  = "CGO_ENABLED=0 go install gvisor.dev/gvisor/runsc@go, or install gVisor's package runsc, and put it on the PATH"
)

// NativeSupport says what the native runtime does on a platform at best.
func NativeSupport(p driver.Platform) []driver.Support {
	needs := func(what string, features ...faas.Feature) []driver.Support {
		var out []driver.Support
		for _, f := range features {
			out = append(out, driver.Support{Feature: f, Offered: true, Needs: what})
		}
		return out
	}
	limited := []faas.Feature{faas.FeatureLimitCPU, faas.FeatureLimitMemory, faas.FeatureLimitPIDs, faas.FeaturePause}
	switch p {
	case driver.LinuxRoot:
		rows := append(needs("control groups: "+delegationRoot, limited...),
			needs(criuRemedy, faas.FeatureSnapshotFull)...)
		return driver.Offer(append(rows, needs(network.Needs, faas.FeatureNetworkEgress)...)...)
	case driver.LinuxUser:
		rows := append(needs("control groups: "+delegationUser, limited...),
			needs("for more than one user inside, and files of more than one: "+subordinateIDs, faas.FeatureUserNamespace, faas.FeatureOCIImage)...)
		for _, f := range []faas.Feature{faas.FeatureSnapshotFS, faas.FeatureSnapshotFull, faas.FeatureFork} {
			rows = append(rows, driver.Support{Feature: f, Reason: snapshotsRootOnly, Remedy: runAsRoot})
		}
		return driver.Offer(append(rows, driver.Support{
			Feature: faas.FeatureNetworkEgress, Reason: network.NeedsPrivilege, Remedy: network.NeedsPrivilegeRemedy})...)
	default:
		return driver.Unsupported(linuxOnly, linuxOnlyRemedy)
	}
}

// GVisorSupport says what the gvisor runtime does on a platform at best.
func GVisorSupport(p driver.Platform) []driver.Support {
	switch p {
	case driver.LinuxRoot:
		return driver.Offer(
			driver.Support{Feature: faas.FeatureExec, Offered: true, Needs: "the program runsc: " + gvisorMissingRemedy},
			driver.Support{Feature: faas.FeatureNetworkEgress, Offered: true, Needs: network.Needs},
		)
	case driver.LinuxUser:
		return driver.Unsupported(gvisorRootOnly, gvisorRootOnlyRemedy)
	default:
		return driver.Unsupported(gvisorLinuxOnly, linuxOnlyRemedy)
	}
}
