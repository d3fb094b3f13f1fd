package docker

import (
	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/network"
)

// What the probe and the documentation say alike.
const (
	engineRemedy     = "start Docker, or point DOCKER_HOST or `docker context use` at a running engine"
	permissionRemedy = "add the user to the docker group (`sudo usermod -aG docker $USER`, then log in again) or use rootless Docker"
	diskRemedy       = "use overlay2 on XFS mounted with pquota, or btrfs or zfs, for the engine's data"
	userNamespace    = "root inside is root of the engine's machine, without most of its capabilities"
	usernsRemedy     = "set \"userns-remap\": \"default\" in the engine's daemon.json, or use rootless Docker"
	layersElsewhere  = "the files of snapshots stay in the engine, without diff, merge and export"
	memoryElsewhere  = "the engine restores a checkpoint only into the container that it was taken of, unless it is put into the directory of another, " +
		"which needs root beside the engine"
	besideRemedy      = "run the gateway as root beside the engine, or use the native runtime"
	checkpointsOff    = "the engine's checkpoints are an experimental feature, which is off"
	checkpointsRemedy = "set \"experimental\": true in the engine's daemon.json, and install CRIU 4.2.1 or newer where the engine finds it"
	hostImageRemedy   = "use an OCI image, or an engine on this machine"
)

// Support says what the docker runtime does on a platform at best.
func Support(p driver.Platform) []driver.Support {
	rows := []driver.Support{
		{Feature: faas.FeatureExec, Offered: true, Needs: "a Docker Engine with API 1.41 or newer: " + engineRemedy},
		{Feature: faas.FeatureUserNamespace, Offered: true, Needs: "otherwise " + userNamespace + ": " + usernsRemedy},
		{Feature: faas.FeatureLimitDisk, Offered: true, Needs: diskRemedy},
	}
	if p == driver.LinuxRoot {
		rows = append(rows, driver.Support{Feature: faas.FeatureSnapshotFull, Offered: true, Needs: "an engine on this machine: " + checkpointsRemedy})
	} else {
		rows = append(rows,
			driver.Support{Feature: faas.FeatureSnapshotFS, Offered: true, Needs: "root on Linux, or else " + layersElsewhere},
			driver.Support{Feature: faas.FeatureSnapshotFull, Reason: memoryElsewhere, Remedy: besideRemedy})
	}
	egress := driver.Support{Feature: faas.FeatureNetworkEgress, Reason: egressNeedsLocal, Remedy: egressRemedy}
	switch p {
	case driver.LinuxRoot:
		egress = driver.Support{Feature: faas.FeatureNetworkEgress, Offered: true, Needs: "an engine on this machine; " + network.Needs}
		rows = append(rows, driver.Support{Feature: faas.FeatureHostImage, Offered: true, Needs: "an engine on this machine"})
	case driver.LinuxUser:
		rows[0].Needs += "; and the right to use it: " + permissionRemedy
		rows = append(rows, driver.Support{Feature: faas.FeatureHostImage, Offered: true, Needs: "an engine on this machine"})
	default:
		rows = append(rows, driver.Support{Feature: faas.FeatureHostImage,
			Reason: "it is this machine's own /usr, and containers run on the engine's Linux", Remedy: hostImageRemedy})
	}
	return driver.Offer(append(rows, egress)...)
}
