package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/oci"
)

// ociPeers are the OCI runtimes of this machine. Their bundle is the one that
// the native driver makes for a sandbox of the benchmarks (mounts, seccomp,
// namespaces, ids, capabilities), with `true` in place of the agent and with
// the limits that the driver otherwise sets by itself. The sandbox that it was
// taken from stays until closeAll: its root, an overlay like every sandbox's,
// is theirs.
func (b *bench) ociPeers(ctx context.Context, dir string) (all []contender, missing []string, closeAll func() error, err error) {
	closeAll = func() error { return nil }
	if _, err := exec.LookPath("runc"); err != nil || os.Geteuid() != 0 {
		return nil, []string{"no runc run and no crun run beside it: they need root and an installed runc here"}, closeAll, nil
	}
	n, err := b.openNative(ctx, filepath.Base(dir), oci.LauncherRunc)
	if err != nil {
		return nil, nil, nil, err
	}
	made, err := n.create(ctx)
	if err != nil {
		return nil, nil, nil, errors.Join(err, n.driver.Close())
	}
	closers := []func() error{func() error { return errors.Join(made.Destroy(ctx), n.driver.Close()) }}
	closeAll = func() error {
		var errs []error
		for _, c := range closers {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	}
	peer, err := peerSpec(n, made)
	if err == nil {
		var bundleDir string
		bundleDir, err = bundle(filepath.Join(dir, "bundle"), peer)
		all = append(all, ociRun("runc", "runc", bundleDir, filepath.Join(dir, "runc")))
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, closeAll())
	}
	if _, err := exec.LookPath("crun"); err != nil {
		return all, []string{"no crun on this machine"}, closeAll, nil
	}
	crun := ociRun("crun", "crun", filepath.Join(dir, "bundle"), filepath.Join(dir, "crun"))
	if cgroupVersion() == "hybrid" {
		ns, err := newMountNamespaces(sustainedConcurrency)
		if err != nil {
			return nil, nil, nil, errors.Join(err, closeAll())
		}
		closers = append(closers, ns.close)
		crun = ns.wrap(crun)
	}
	return append(all, crun), nil, closeAll, nil
}

// peerSpec turns a sandbox's configuration into that of a peer.
func peerSpec(n *native, made driver.Sandbox) (*specs.Spec, error) {
	sandboxDir := filepath.Join(n.dir, "sandboxes", made.ID())
	content, err := os.ReadFile(filepath.Join(sandboxDir, "config.json"))
	if err != nil {
		return nil, err
	}
	peer := new(specs.Spec)
	if err := json.Unmarshal(content, peer); err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", made.ID(), err)
	}
	peer.Process.Args = []string{"/bin/true"}
	peer.Root.Path = filepath.Join(sandboxDir, peer.Root.Path)
	limits := spec().Resources
	memory, period, quota := limits.MemoryMB<<20, uint64(100000), int64(limits.CPUCores*100000)
	peer.Linux.CgroupsPath = "" // the runtime's own choice: one for each container
	peer.Linux.Resources = &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &memory},
		CPU:    &specs.LinuxCPU{Period: &period, Quota: &quota},
		Pids:   &specs.LinuxPids{Limit: &limits.PIDs},
	}
	return peer, nil
}
