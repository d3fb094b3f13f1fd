package docker

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/network"
)

// agentArguments are those of the agent as the container's first process.
func agentArguments() []string {
	return []string{"--listen", "unix:" + agentSocket, "--secret-file", "-"}
}

// shimCommand connects its standard streams to the agent's socket.
func shimCommand() []string { return []string{agentPath, "connect", agentSocket} }

// agentCapabilities are those that the agent needs to act for every user
// inside; it gives its children fewer.
var agentCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETPCAP", "SETUID",
}

// checkSpec refuses what cannot be made before anything is touched.
func checkSpec(spec faas.Spec) error {
	if !validName(spec.ID) {
		return faas.InvalidField("id", "%.80q is no sandbox id", spec.ID)
	}
	r := spec.Resources
	switch {
	case r.CPUCores < 0 || r.CPUCores > 1024:
		return faas.InvalidField("cpu_cores", "%g is not between 0 and 1024", r.CPUCores)
	case r.CPUCores > 0 && r.CPUCores < 0.01:
		return faas.InvalidField("cpu_cores", "%g is less than 0.01, the least that the engine allots", r.CPUCores)
	case r.MemoryMB < 0 || r.MemoryMB > 1<<24:
		return faas.InvalidField("memory_mb", "%d is not between 0 and 16 TiB", r.MemoryMB)
	case r.MemoryMB > 0 && r.MemoryMB < minMemoryMB:
		return faas.InvalidField("memory_mb", "%d is less than %d, which the agent needs", r.MemoryMB, minMemoryMB)
	case r.DiskMB < 0 || r.DiskMB > 1<<24:
		return faas.InvalidField("disk_mb", "%d is not between 0 and 16 TiB", r.DiskMB)
	case r.PIDs < 0 || r.PIDs > 1<<22:
		return faas.InvalidField("pids", "%d is not between 0 and %d", r.PIDs, 1<<22)
	case r.PIDs > 0 && r.PIDs < minPIDs:
		return faas.InvalidField("pids", "%d is less than %d, which the agent's threads need", r.PIDs, minPIDs)
	case !validHostname(spec.Hostname):
		return faas.InvalidField("hostname", "%.80q is no host name: letters, digits, hyphens and dots, at most 63", spec.Hostname)
	}
	return network.CheckPolicy(spec.Network)
}

// validHostname says whether the engine and the kernel take a host name; the
// empty one stands for the sandbox's id.
func validHostname(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."
	return len(name) <= 63 && strings.Trim(name, letters) == "" && !strings.HasPrefix(name, "-") && !strings.HasPrefix(name, ".")
}

// The least that leaves the agent room: its memory, and its threads together
// with those of a shim.
const (
	minMemoryMB = 16
	minPIDs     = 24
)

// hostnameOf is the name that a sandbox has inside.
func hostnameOf(spec faas.Spec) string {
	if spec.Hostname != "" {
		return spec.Hostname
	}
	return spec.ID
}

// config describes the container to the engine.
func (s *sandbox) config(img source, volume string) (*container.Config, *container.HostConfig) {
	spec := s.rec.Spec
	no := false
	cfg := &container.Config{
		Hostname: hostnameOf(spec), Image: img.id, User: "0:0", WorkingDir: "/",
		Entrypoint: []string{agentPath}, Cmd: agentArguments(),
		Labels:    s.d.labels(roleSandbox, spec.ID, spec.Project),
		OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
		StopSignal:  "SIGKILL", // the agent ignores the polite ones, and an engine that stops would wait for it
	}
	host := &container.HostConfig{
		NetworkMode:    "none",
		LogConfig:      container.LogConfig{Type: "none"}, // a guest must not fill the engine's disk with output
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
		IpcMode:        "private",
		CapDrop:        []string{"ALL"},
		CapAdd:         agentCapabilities,
		SecurityOpt:    []string{"no-new-privileges:true"},
		ReadonlyRootfs: spec.ReadOnly,
		Init:           &no,
		Tmpfs:          map[string]string{runDir: "rw,noexec,nosuid,nodev,mode=0755,size=1m"},
		Mounts:         append([]mount.Mount{agentMount(volume, s.d.agentLabels(s.rec.Agent))}, img.mounts...),
		Resources:      limits(spec.Resources),
	}
	maps.Copy(host.Tmpfs, img.tmpfs)
	if spec.ReadOnly {
		host.Tmpfs["/tmp"] = "rw,exec,nosuid,nodev,mode=1777,size=64m"
	}
	if s.rec.DiskLimit {
		host.StorageOpt = map[string]string{"size": fmt.Sprintf("%dm", spec.Resources.DiskMB)}
	}
	return cfg, host
}

// agentMount is the agent's volume, read-only. The labels are for the case
// that the volume went away and the engine makes an empty one of that name.
func agentMount(volume string, labels map[string]string) mount.Mount {
	return mount.Mount{
		Type: mount.TypeVolume, Source: volume, Target: agentDir, ReadOnly: true,
		VolumeOptions: &mount.VolumeOptions{NoCopy: true, Labels: labels},
	}
}

// limits puts resources in the engine's form. Swap is off: memory is all that
// a sandbox gets.
func limits(r faas.Resources) container.Resources {
	res := container.Resources{NanoCPUs: int64(r.CPUCores * 1e9)}
	if r.MemoryMB > 0 {
		res.Memory = r.MemoryMB << 20
		res.MemorySwap = res.Memory
	}
	if r.PIDs > 0 {
		res.PidsLimit = &r.PIDs
	}
	return res
}

// containerName is the name of a sandbox's container in the engine.
func (d *Driver) containerName(id string) string { return "faas-" + d.installation[:8] + "-" + id }

// limitError names the request field when the engine refuses a limit.
func limitError(err error) error {
	var e *faas.Error
	if !errors.As(err, &e) || e.Kind != faas.KindInvalidArgument {
		return err
	}
	text := strings.ToLower(e.Detail)
	field := ""
	switch {
	case strings.Contains(text, "cpu"):
		field = "cpu_cores"
	case strings.Contains(text, "memory"):
		field = "memory_mb"
	case strings.Contains(text, "storage"), strings.Contains(text, "size"):
		field = "disk_mb"
	}
	c := *e
	c.Field = field
	return &c
}
