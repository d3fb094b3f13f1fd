package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ociPeers are the OCI runtimes of this machine, each with the same bundle.
func (b *bench) ociPeers(_ context.Context, dir string) (all []contender, missing []string, closeAll func(), err error) {
	closeAll = func() {}
	bundleDir, err := bundle(filepath.Join(dir, "bundle"), hardened(b.rootfs, "true"))
	if err != nil {
		return nil, nil, nil, err
	}
	if path, err := exec.LookPath("runc"); err == nil {
		all = append(all, ociRun("runc", path, bundleDir, filepath.Join(dir, "runc")))
	} else {
		missing = append(missing, "no runc on this machine")
	}
	path, err := exec.LookPath("crun")
	if err != nil {
		return all, append(missing, "no crun on this machine"), closeAll, nil
	}
	crun := ociRun("crun", path, bundleDir, filepath.Join(dir, "crun"))
	if cgroupVersion() == "hybrid" {
		ns, err := newMountNamespace()
		if err != nil {
			return nil, nil, nil, fmt.Errorf("crun: %w", err)
		}
		closeAll = ns.close
		crun = ns.wrap(crun)
	}
	return append(all, crun), missing, closeAll, nil
}

// hardened is the configuration of a sandbox as the platform makes it: every
// namespace, no capabilities, no new privileges, limits.
func hardened(rootfs string, argv ...string) *specs.Spec {
	pids, memory, period, quota := int64(256), int64(512<<20), uint64(100000), int64(100000)
	return &specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{
			Args: argv, Cwd: "/", Env: []string{"PATH=/bin"}, NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{},
		},
		Root:     &specs.Root{Path: rootfs, Readonly: true},
		Hostname: "sandbox",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "size=256m"}},
		},
		Linux: &specs.Linux{
			UIDMappings: []specs.LinuxIDMapping{{HostID: 1 << 20, Size: 1 << 16}},
			GIDMappings: []specs.LinuxIDMapping{{HostID: 1 << 20, Size: 1 << 16}},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.MountNamespace}, {Type: specs.UserNamespace},
			},
			Resources: &specs.LinuxResources{
				Memory: &specs.LinuxMemory{Limit: &memory},
				CPU:    &specs.LinuxCPU{Period: &period, Quota: &quota},
				Pids:   &specs.LinuxPids{Limit: &pids},
			},
		},
	}
}
