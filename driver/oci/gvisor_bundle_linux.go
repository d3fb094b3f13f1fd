package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

const (
	// channelDir is where the agent sees the directory of the channel.
	channelDir = keptLayer
	// agentUser is who the agent is for signals: gVisor lets whoever may
	// signal PID 1 kill it.
	agentUser = 65534
	// spacerPath is a file in an otherwise empty /tmp. gVisor mounts a tmpfs
	// without a limit over an empty one.
	spacerPath = "/tmp/.faas-spacer"
)

// installSpacer makes the layer that holds spacerPath.
func installSpacer(dir string, shift int) (string, error) {
	layer := filepath.Join(dir, "gvisor-tmp-"+strconv.Itoa(shift))
	if _, err := os.Stat(layer); err == nil {
		return layer, nil
	}
	tmp, err := os.MkdirTemp(dir, ".gvisor-tmp-*")
	if err != nil {
		return "", err
	}
	err = fillSpacer(tmp, shift)
	if err == nil {
		err = os.Rename(tmp, layer)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return "", errors.Join(fmt.Errorf("make the layer of /tmp: %w", err), os.RemoveAll(tmp))
	}
	return layer, ignoreMissing(os.RemoveAll(tmp))
}

func fillSpacer(dir string, shift int) error {
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o755); err != nil { //nolint:gosec // becomes 1777 below
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, spacerPath), nil, 0o600); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // a root directory
		return err
	}
	if err := unix.Chmod(filepath.Join(dir, "tmp"), 0o1777); err != nil {
		return err
	}
	return shiftOwner(dir, shift)
}

// writeBundle writes the OCI runtime configuration.
func (g *GVisor) writeBundle(s *gvisorSandbox, dir string, ns *os.File) error {
	b, err := json.Marshal(g.configure(s, dir, ns))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600)
}

func (g *GVisor) configure(s *gvisorSandbox, dir string, ns *os.File) *specs.Spec {
	spec := s.spec()
	ids := rootMap(g.shift)
	return &specs.Spec{
		Version: specVersion,
		Process: &specs.Process{
			Args: []string{agentPath, "--dial", "unix:" + path.Join(channelDir, hostSocket),
				"--secret-file", path.Join(channelDir, "secret"), "--real-user", strconv.Itoa(agentUser)},
			Cwd:             "/",
			Env:             []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Capabilities:    capabilitySets(AgentCapabilities),
			NoNewPrivileges: true,
			Rlimits: []specs.POSIXRlimit{
				{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 1 << 20},
			},
		},
		Root:     &specs.Root{Path: filepath.Join(dir, "rootfs"), Readonly: spec.ReadOnly},
		Hostname: driver.Hostname(spec),
		Mounts:   gvisorMounts(spec, s.channel.dir),
		Linux: &specs.Linux{
			// No seccomp profile: commands' calls reach gVisor's kernel only, and
			// it forbids those of a profile that it does not know, where programs
			// fall back only from those that are not there.
			Namespaces: gvisorNamespaces(ns), UIDMappings: ids.uids, GIDMappings: ids.gids,
		},
	}
}

// gvisorNamespaces leaves out the control groups': gVisor's kernel crashes when
// the host then sets a limit inside. The network's is the one that was
// connected, if any.
func gvisorNamespaces(ns *os.File) []specs.LinuxNamespace {
	out := slices.DeleteFunc(namespaces(), func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace })
	for i := range out {
		if out[i].Type == specs.NetworkNamespace && ns != nil {
			out[i].Path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
		}
	}
	return out
}

// gvisorMounts lists what gVisor's kernel mounts, besides a /dev of its own.
// Control groups inside limit the number of processes; gVisor lets the host at
// them only where they are mounted, and the tmpfs over them keeps commands
// from them.
func gvisorMounts(spec faas.Spec, channel string) []specs.Mount {
	restricted := []string{"ro", "nosuid", "nodev", "noexec"}
	shm := strconv.FormatInt(max(1, spec.Resources.MemoryMB/shmDivisor), 10)
	out := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: restricted[1:]},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: restricted},
		{Destination: "/sys/fs/cgroup", Type: "cgroup2", Source: "cgroup", Options: restricted},
		{Destination: "/sys/fs/cgroup", Type: "tmpfs", Source: "none", Options: append(restricted[:4:4], "size=4k")},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: append(restricted[1:4:4], "mode=1777", "size="+shm+"m")},
		{Destination: channelDir, Type: "bind", Source: channel, Options: append(restricted[:4:4], "bind")},
	}
	if spec.ReadOnly {
		out = append(out, specs.Mount{Destination: path.Dir(socketPath), Type: "tmpfs", Source: "run",
			Options: append(restricted[1:4:4], "mode=0755", "size=1m")})
	}
	return out
}
