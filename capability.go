package faas

import "time"

// Feature names something that a runtime can or cannot do on this machine.
type Feature string

// The features that every runtime answers for, available or not.
const (
	FeatureExec          Feature = "exec"
	FeaturePTY           Feature = "pty"
	FeatureFiles         Feature = "files"
	FeaturePorts         Feature = "ports"
	FeatureHostImage     Feature = "image.host"
	FeatureOCIImage      Feature = "image.oci"
	FeatureUserNamespace Feature = "isolation.userns" // root inside is nobody outside
	FeatureSeccomp       Feature = "isolation.seccomp"
	FeatureLimitCPU      Feature = "limit.cpu"
	FeatureLimitMemory   Feature = "limit.memory"
	FeatureLimitPIDs     Feature = "limit.pids"
	FeatureLimitDisk     Feature = "limit.disk"
	FeatureNetworkNone   Feature = "network.none"
	FeatureNetworkEgress Feature = "network.egress"
	FeaturePause         Feature = "pause"
	FeatureRecover       Feature = "recover" // running sandboxes are found again after a restart of the daemon
	FeatureSnapshotFS    Feature = "snapshot.fs"
	FeatureSnapshotFull  Feature = "snapshot.full"
	FeatureFork          Feature = "fork"
)

// Features lists every feature in the order in which they are shown.
func Features() []Feature {
	return []Feature{
		FeatureExec, FeaturePTY, FeatureFiles, FeaturePorts,
		FeatureHostImage, FeatureOCIImage,
		FeatureUserNamespace, FeatureSeccomp,
		FeatureLimitCPU, FeatureLimitMemory, FeatureLimitPIDs, FeatureLimitDisk,
		FeatureNetworkNone, FeatureNetworkEgress,
		FeaturePause, FeatureRecover,
		FeatureSnapshotFS, FeatureSnapshotFull, FeatureFork,
	}
}

// Capability is one feature of one runtime on this machine: found by trying
// it, never by looking for a file.
type Capability struct {
	Feature   Feature `json:"feature"`
	Available bool    `json:"available"`
	Detail    string  `json:"detail,omitempty"` // how it is done, when available
	Reason    string  `json:"reason,omitempty"` // why not, when not available
	Remedy    string  `json:"remedy,omitempty"` // what the user can do about it
}

// Capabilities is what one runtime can do on this machine. When the runtime
// as a whole is not available, Reason and Remedy say why and every feature is
// unavailable.
type Capabilities struct {
	Runtime   Runtime      `json:"runtime"`
	Available bool         `json:"available"`
	Version   string       `json:"version,omitempty"` // of the technology below
	Detail    string       `json:"detail,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	Remedy    string       `json:"remedy,omitempty"`
	Features  []Capability `json:"features"`
	ProbedAt  time.Time    `json:"probed_at"`
	ProbeMS   float64      `json:"probe_ms"`
}

// Feature returns the capability for f. One that the probe did not answer is
// unavailable, with that as the reason.
func (c Capabilities) Feature(f Feature) Capability {
	for _, have := range c.Features {
		if have.Feature == f {
			return have
		}
	}
	reason := c.Reason
	if reason == "" {
		reason = "the runtime does not offer it"
	}
	return Capability{Feature: f, Reason: reason, Remedy: c.Remedy}
}

// Has says whether the runtime and its feature f are available.
func (c Capabilities) Has(f Feature) bool {
	return c.Available && c.Feature(f).Available
}
