package oci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Fingerprint names what the answer of Probe depends on.
func (n *Native) Fingerprint() string {
	criu := n.opts.CRIU
	if criu == "" {
		criu = "criu"
	}
	programs := []string{criu, "newuidmap", "newgidmap", "mkfs.xfs", "mkfs.ext4", LauncherCrun, LauncherRunc}
	return strings.Join(append(surroundings(programs), n.opts.Launcher, n.agent.Digest, fmt.Sprint(n.opts.Network != nil)), "\n")
}

// Fingerprint names what the answer of Probe depends on.
func (g *GVisor) Fingerprint() string {
	return strings.Join(append(surroundings([]string{g.program}), g.opts.Platform, g.agent.Digest), "\n")
}

// surroundings describe what the sandboxes of this package are made with.
func surroundings(programs []string) []string {
	out := []string{kernelRelease()}
	for _, p := range programs {
		found, err := exec.LookPath(p)
		if err != nil {
			out = append(out, p+" missing")
			continue
		}
		if real, err := filepath.EvalSymlinks(found); err == nil {
			found = real
		}
		out = append(out, stamp(found))
	}
	for _, path := range []string{"/etc/subuid", "/etc/subgid", "/dev/kvm"} {
		out = append(out, stamp(path))
	}
	for _, path := range []string{"/proc/self/cgroup", "/proc/self/uid_map", "/proc/sys/user/max_user_namespaces",
		"/proc/sys/kernel/unprivileged_userns_clone", "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"} {
		b, _ := os.ReadFile(path) // what is not there is not there next time either
		out = append(out, string(b))
	}
	return out
}

// stamp identifies a version of a file.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return path + " missing"
	}
	return fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano())
}
