package oci

import (
	"context"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/criu"
	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/image"
)

// shmDivisor is the part of a sandbox's memory that /dev/shm may take.
const shmDivisor = 2

// runSize bounds the tmpfs on /run/faas of a sandbox with a read-only root.
const runSize = "size=1m,mode=0755"

// specVersion is the version of the OCI runtime specification that our
// configurations keep to: programs refuse newer ones than they know.
const specVersion = "1.0.2"

// plan is everything that a launcher needs to start one sandbox.
type plan struct {
	id     string
	dir    string // of the sandbox on the host
	config *specs.Spec
	ids    idMap
	filter []byte   // config's seccomp filter, compiled
	above  []string // layers of saved states, above the agent's; topmost first
	layers []string // the image's layers, topmost first
	layer  layer    // nil: read-only
	agent  agentLayer
	secret []byte
	// placed is called once with the process, before it does anything that
	// outlives it: the sandbox records it.
	placed func(*pidfd.Handle) error
	// confined is called once, before the agent starts: it puts the process
	// into its control groups.
	confined func(pid int) error
	// connected is called once, after confined and before the agent starts: it
	// gives the process's network namespace what the policy allows.
	connected func(ctx context.Context, pid int) error
}

// configure makes the OCI runtime configuration of a sandbox.
func (n *Native) configure(r record, root *image.RootFS, ids idMap) *specs.Spec {
	spec := r.Spec
	return &specs.Spec{
		Version: specVersion,
		Process: &specs.Process{
			Args: []string{agentPath}, Cwd: "/",
			Env:             []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Capabilities:    capabilitySets(AgentCapabilities),
			NoNewPrivileges: true,
			Rlimits:         n.rlimits(spec),
		},
		Root:     &specs.Root{Path: "rootfs", Readonly: spec.ReadOnly},
		Hostname: driver.Hostname(spec),
		Mounts:   n.mounts(r, root, ids),
		Linux: &specs.Linux{
			Namespaces: namespaces(), UIDMappings: ids.uids, GIDMappings: ids.gids,
			// Go programs listen with MPTCP where it is on, and no such socket
			// can be checkpointed.
			Sysctl:  map[string]string{"net.mptcp.enabled": "0"},
			Seccomp: n.seccomp,
		},
	}
}

func capabilitySets(mask uint64) *specs.LinuxCapabilities {
	names := capabilityNames(mask)
	return &specs.LinuxCapabilities{Bounding: names, Effective: names, Permitted: names}
}

func namespaces() []specs.LinuxNamespace {
	kinds := []specs.LinuxNamespaceType{
		specs.UserNamespace, specs.MountNamespace, specs.PIDNamespace, specs.NetworkNamespace,
		specs.IPCNamespace, specs.UTSNamespace,
	}
	if _, err := os.Stat("/proc/self/ns/cgroup"); err == nil {
		kinds = append(kinds, specs.CgroupNamespace)
	}
	out := make([]specs.LinuxNamespace, 0, len(kinds))
	for _, k := range kinds {
		out = append(out, specs.LinuxNamespace{Type: k})
	}
	return out
}

// rlimits are few: control groups limit what matters. Without them the number
// of processes is limited here, per user namespace.
func (n *Native) rlimits(spec faas.Spec) []specs.POSIXRlimit {
	out := []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		hard := min(files.Max, 1<<20)
		out = append(out, specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: min(1024, hard), Hard: hard})
	}
	if n.limitsPIDsByRlimit() && spec.Resources.PIDs > 0 {
		most := uint64(spec.Resources.PIDs)
		out = append(out, specs.POSIXRlimit{Type: "RLIMIT_NPROC", Soft: most, Hard: most})
	}
	return out
}

// mounts lists the mounts below the root, each of which costs time in every
// checkpoint.
func (n *Native) mounts(r record, root *image.RootFS, ids idMap) []specs.Mount {
	spec := r.Spec
	out := []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc",
		Options: []string{"nosuid", "nodev", "noexec"}}}
	out = append(out, n.deviceMounts()...)
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if !ids.single() {
		pts = append(pts, "gid=5") // the group tty
	}
	shm := max(1, spec.Resources.MemoryMB/shmDivisor)
	out = append(out,
		specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts},
		specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "nodev", "noexec", "mode=1777", "size=" + strconv.FormatInt(shm, 10) + "m"}})
	if spec.ReadOnly {
		out = append(out, specs.Mount{Destination: path.Dir(socketPath), Type: "tmpfs", Source: "run",
			Options: append([]string{"nosuid", "nodev", "noexec"}, strings.Split(runSize, ",")...)})
	}
	if root.Host != nil {
		out = append(out, hostMounts(root.Host)...)
	}
	if sharesMemory(r.Launcher) {
		out = append(out, specs.Mount{Destination: memoryDir, Type: "bind", Source: filepath.Join(n.opts.Dir, emptyDir),
			Options: []string{"bind", "ro", "nosuid", "nodev"}})
	}
	return out
}

// sharesMemory says whether sandboxes of a launcher have a place where restores
// of one snapshot share their memory: those that CRIU can save do.
func sharesMemory(launcher string) bool {
	return os.Geteuid() == 0 && criu.SharesMemory() && launcher == LauncherBuiltin
}

func (n *Native) deviceMounts() []specs.Mount {
	if n.devices != "" {
		return []specs.Mount{{Destination: "/dev", Type: "bind", Source: n.devices,
			Options: []string{"bind", "ro", "nosuid", "noexec"}}}
	}
	var out []specs.Mount
	for _, d := range devices {
		out = append(out, specs.Mount{Destination: "/dev/" + d.name, Type: "bind", Source: "/dev/" + d.name,
			Options: []string{"bind"}})
	}
	return out
}

// hostMounts shows the machine's own directories, without what is to be
// hidden in them.
func hostMounts(host *image.HostImage) []specs.Mount {
	restricted := []string{"ro", "nosuid", "nodev"}
	var out []specs.Mount
	for _, b := range host.Binds {
		if b.Whiteouts != "" {
			out = append(out, specs.Mount{Destination: b.Target, Type: "overlay", Source: "overlay",
				Options: append(slices.Clone(restricted), "userxattr", "lowerdir="+b.Whiteouts+":"+b.Source)})
			continue
		}
		out = append(out, specs.Mount{Destination: b.Target, Type: "bind", Source: b.Source,
			Options: append([]string{"bind"}, restricted...)})
		for _, hidden := range b.Hide {
			info, err := os.Stat(path.Join(b.Source, hidden))
			if err != nil {
				continue // nothing there to hide
			}
			over := "/dev/null"
			if info.IsDir() {
				over = host.Empty
			}
			out = append(out, specs.Mount{Destination: path.Join(b.Target, hidden), Type: "bind", Source: over,
				Options: append([]string{"bind"}, restricted...)})
		}
	}
	return out
}

// mountFlags are the options of mount(8) that are flags of mount(2).
var mountFlags = map[string]uint64{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV,
	"noexec": unix.MS_NOEXEC, "bind": unix.MS_BIND,
}

// mountOptions splits the options of an OCI mount into flags and data.
func mountOptions(options []string) (flags uint64, data []string) {
	for _, o := range options {
		if f, ok := mountFlags[o]; ok {
			flags |= f
			continue
		}
		data = append(data, o)
	}
	return flags, data
}

// rlimitNumbers are the kernel's numbers of the limits that configure sets.
var rlimitNumbers = map[string]int{
	"RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC,
}

// environment joins the image's own variables with those of the sandbox,
// which win.
func environment(root *image.RootFS, spec faas.Spec) map[string]string {
	env := map[string]string{}
	for _, kv := range root.Config.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	maps.Copy(env, spec.Env)
	return env
}
