package oci

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/criu"
	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/launch"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/snapshot"
)

var _ driver.Restorer = (*Native)(nil)

// Restore makes a sandbox from a saved state.
func (n *Native) Restore(ctx context.Context, from driver.State, spec faas.Spec, prepare func(context.Context, driver.Sandbox) error) (driver.Sandbox, error) {
	if err := n.check(spec); err != nil {
		return nil, err
	}
	if err := n.CheckRestore(ctx, from); err != nil {
		return nil, err
	}
	ids, err := n.idMapping(ctx)
	if err != nil {
		return nil, driver.CreateError(ctx, spec, err)
	}
	data, err := readSaved(from)
	if err != nil {
		return nil, err
	}
	r := &record{ID: spec.ID, Launcher: LauncherBuiltin, CreatedAt: time.Now().UTC(), Spec: spec, Secret: newSecret()}
	if from.Kind == faas.SnapshotFull {
		r.Secret = data.Secret // the restored agent knows its source's until told another
	} else {
		l, err := n.launcherFor(ctx)
		if err != nil {
			return nil, driver.CreateError(ctx, spec, err)
		}
		r.Launcher = l.name()
	}
	return n.make(ctx, r, func(s *sandbox) error {
		if from.Kind == faas.SnapshotFull {
			return n.restoreAll(ctx, s, ids, from, data, prepare)
		}
		if err := n.build(ctx, s, ids, from.Layers); err != nil {
			return err
		}
		return prepare(ctx, s)
	})
}

func newSecret() []byte {
	secret := make([]byte, 32)
	rand.Read(secret) //nolint:errcheck // crypto/rand.Read never fails
	return secret
}

func readSaved(from driver.State) (savedData, error) {
	var data savedData
	if from.Kind == faas.SnapshotFS && len(from.Data) == 0 {
		return data, nil // merged, or of another machine
	}
	if err := json.Unmarshal(from.Data, &data); err != nil {
		return data, faas.Errorf(faas.KindFailedPrecondition, "the snapshot was not made by this runtime: %w", err)
	}
	return data, nil
}

// CheckRestore compares what a state needs with this machine.
func (n *Native) CheckRestore(ctx context.Context, from driver.State) error {
	if _, err := readSaved(from); err != nil {
		return err
	}
	if from.Kind != faas.SnapshotFull {
		return nil
	}
	if _, err := n.criuTool(ctx); err != nil {
		return err
	}
	if _, err := n.agentOf(from.Requires.Agent); err != nil {
		return err
	}
	return n.checkRequirements(from.Requires)
}

// agentOf finds the layer of the agent that a state maps.
func (n *Native) agentOf(digest string) (string, error) { return agentOf(n.opts.Dir, n.shift, digest) }

func agentOf(base string, shift int, digest string) (string, error) {
	dir := filepath.Join(base, agentsDir, digest, layerPrefix+strconv.Itoa(shift))
	if _, err := os.Stat(dir); err != nil || digest == "" {
		return "", faas.Errorf(faas.KindFailedPrecondition,
			"the snapshot needs the guest agent %.12s, which this installation does not have", digest)
	}
	return dir, nil
}

// restoreAll restores files, memory and processes.
func (n *Native) restoreAll(ctx context.Context, s *sandbox, ids idMap, from driver.State, data savedData, prepare func(context.Context, driver.Sandbox) error) error {
	spec := s.spec()
	agent, err := n.agentOf(from.Requires.Agent)
	if err != nil {
		return err
	}
	root, err := n.images.AcquireWith(ctx, spec.Image, image.AcquireOptions{Owner: spec.ID})
	if err != nil {
		return err
	}
	config := n.configure(s.record, root, ids)
	for i := range config.Mounts {
		if m := &config.Mounts[i]; m.Destination == memoryDir {
			m.Source = filepath.Join(from.Memory, heapDir)
		}
	}
	if err := s.update(func(r *record) { r.Mounts, r.Agent = config.Mounts, from.Requires.Agent }); err != nil {
		return err
	}
	if got := s.externalMounts(); !slices.Equal(got, data.Mounts) {
		return faas.Errorf(faas.KindFailedPrecondition,
			"a restored sandbox must have the mounts of its source: it had %v, this one would have %v", data.Mounts, got)
	}
	var l layer
	if !spec.ReadOnly {
		if l, err = n.newLayer(ctx, n.work.Path(spec.ID), spec.Resources.DiskMB, spec.Resources.MemoryMB, ids); err != nil {
			return err
		}
		defer l.close() //nolint:errcheck // descriptors of directories
	}
	if s.group != nil {
		if err := s.group.Create(limits(spec.Resources)); err != nil {
			return err
		}
	}
	layers := slices.Concat(from.Layers, []string{agent}, root.Layers)
	err = n.onStage(func() error { return n.restoreOnStage(ctx, s, from, layers, l) })
	if err != nil {
		return err
	}
	return n.awaken(ctx, s, data, prepare)
}

// restoreOnStage runs CRIU where the sandbox's mounts are; afterwards every
// process is there and stopped.
func (n *Native) restoreOnStage(ctx context.Context, s *sandbox, from driver.State, layers []string, l layer) error {
	tool, err := n.criuTool(ctx)
	if err != nil {
		return err
	}
	stage, err := newStage()
	if err != nil {
		return err
	}
	if err := stage.mountRoot(layers, l, s.spec().ReadOnly); err != nil {
		return err
	}
	for i, m := range s.record.Mounts {
		if !external(m) {
			continue
		}
		if err := stage.mountExternal(i, m); err != nil {
			return err
		}
		if m.Type == "tmpfs" {
			saved := filepath.Join(from.Memory, tmpfsDir, externalKey(m.Destination))
			if err := snapshot.CopyLayer(ctx, saved, stage.places[m.Destination]); err != nil {
				return err
			}
		}
	}
	log, err := stage.place("log")
	if err != nil {
		return err
	}
	here := *tool
	if s.group != nil {
		// A restored tree lands in the control groups of the CRIU that
		// restores it.
		here.Command = s.group.Command
	}
	pid, err := here.Restore(ctx, filepath.Join(from.Memory, imagesDir), log, restoreOptions(stage), criu.Hooks{
		"setup-namespaces": func(pid int) error {
			if err := s.restoredNamespaces(pid); err != nil {
				return err
			}
			return s.connect(ctx, pid)
		},
	})
	if err != nil {
		return fmt.Errorf("restore memory: %w", err)
	}
	return s.restored(pid)
}

func restoreOptions(stage *stageMounts) *rpc.CriuOpts {
	return &rpc.CriuOpts{
		Root: value(stage.root), External: stage.external, RstSibling: value(true), LeaveStopped: value(true),
		LogLevel: value(int32(2)), TcpClose: value(true), FileLocks: value(true), LinkRemap: value(true),
		EmptyNs: value(cloneNewNet), ManageCgroups: value(true), ManageCgroupsMode: value(rpc.CriuCgMode_IGNORE),
		NetworkLock: value(rpc.CriuNetworkLockMethod_SKIP), GhostLimit: value(uint32(ghostLimit)),
	}
}

// restored takes over the first process of a restored tree, a child of this
// one.
func (s *sandbox) restored(pid int) error {
	id, err := pidfd.Identify(pid)
	if err != nil {
		return err
	}
	if err := s.update(func(r *record) { r.Process = id }); err != nil {
		return errors.Join(err, unix.Kill(pid, unix.SIGKILL))
	}
	if s.process, err = pidfd.Open(id); err != nil {
		return err
	}
	s.process.Child, err = os.FindProcess(pid)
	return err
}

// restoredNamespaces sets what CRIU leaves out of a network namespace that it
// made empty: the loopback interface, and that Go programs listen with TCP.
func (s *sandbox) restoredNamespaces(pid int) error {
	return onOwnThread(func() error {
		fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the restored network namespace: %w", err)
		}
		if err := launch.LoopbackUp(); err != nil {
			return fmt.Errorf("bring the loopback interface up: %w", err)
		}
		return ignoreMissing(os.WriteFile("/proc/sys/net/mptcp/enabled", []byte("0"), 0))
	})
}

// awaken lets the agent go on, gives the sandbox its new secret, has the
// caller prepare it, and then wakes the rest.
func (n *Native) awaken(ctx context.Context, s *sandbox, data savedData, prepare func(context.Context, driver.Sandbox) error) error {
	if err := n.adopt(s); err != nil {
		return err
	}
	if err := setHostname(s.process.ID.PID, driver.Hostname(s.spec())); err != nil {
		return err
	}
	if err := unix.Kill(s.process.ID.PID, unix.SIGCONT); err != nil {
		return fmt.Errorf("let the agent go on: %w", err)
	}
	if err := s.rotateSecret(ctx); err != nil {
		return err
	}
	if err := prepare(ctx, s); err != nil {
		return err
	}
	err := eachDescendant(s.process.ID.PID, func(pid int) error {
		inner, ok := innerID(pid)
		if !ok || slices.Contains(data.Stopped, inner) {
			return nil
		}
		if err := unix.Kill(pid, unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("let process %d go on: %w", pid, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.update(func(r *record) { r.Ready = true })
}

// rotateSecret gives the restored agent a secret of its own: root of the
// source may have learnt the old one.
func (s *sandbox) rotateSecret(ctx context.Context) error {
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.channelSecret()})
	defer client.Close() //nolint:errcheck // connections only
	secret := newSecret()
	if _, err := client.Configure(ctx, guest.Configuration{Secret: secret, Network: resolvers(s.attachment())}); err != nil {
		return fmt.Errorf("the restored agent does not answer: %w", err)
	}
	if err := s.update(func(r *record) { r.Secret = secret }); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secret = secret
	return nil
}

func (s *sandbox) channelSecret() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secret
}
