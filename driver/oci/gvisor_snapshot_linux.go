package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// gvisorSaved is the driver's own part of a snapshot.
type gvisorSaved struct {
	Secret   []byte `json:"secret"`  // of the agent's channel at the time
	Proof    []byte `json:"proof"`   // what the agent shows at the door
	Stopped  []int  `json:"stopped"` // processes that wait for the end of a restore, children first
	Runsc    string `json:"runsc"`   // version
	ReadOnly bool   `json:"read_only"`
	DiskMB   int64  `json:"disk_mb"`
	// Held is how many of the state's layers, from the top, are in the memory
	// of gVisor's kernel: its one writable layer, which grows and covers those
	// of the states before.
	Held int `json:"held"`
}

// checkpointFiles are what gVisor's kernel writes, by the names that runsc
// restore looks for, in the order in which the kernel takes them.
var checkpointFiles = []string{"checkpoint.img", "pages_meta.img", "pages.img"}

var _ driver.Snapshotter = (*gvisorSandbox)(nil)

// Snapshot saves the sandbox. Its processes stand still meanwhile, which they
// do not notice, and go on.
func (s *gvisorSandbox) Snapshot(ctx context.Context, kind faas.SnapshotKind, files, memory string) (driver.Saved, error) {
	ctx, cancel := context.WithTimeout(ctx, dumpTimeout)
	defer cancel()
	s.saving.Lock()
	defer s.saving.Unlock()
	var saved driver.Saved
	if kind == faas.SnapshotFS && s.spec().ReadOnly {
		return s.describe(ctx, saved, kind, nil)
	}
	var stopped []int
	var err error
	if kind == faas.SnapshotFull {
		s.channel.suspend() // nothing of the host's may be open
	}
	saved.Pause, err = s.whileStill(ctx, func() (err error) {
		if kind == faas.SnapshotFull {
			stopped, saved.Requires.MappedFiles, err = s.saveMemory(ctx, files, memory)
			return err
		}
		return s.saveFiles(ctx, files)
	})
	if kind == faas.SnapshotFull {
		err = errors.Join(err, s.channel.resume())
	}
	if err == nil {
		err = cover(ctx, files, s.heldLayers())
	}
	if err != nil {
		return saved, snapshotError("snapshot sandbox "+s.id, err)
	}
	return s.describe(ctx, saved, kind, stopped)
}

// whileStill calls f while the sandbox's processes stand still, and says for
// how long they did.
func (s *gvisorSandbox) whileStill(ctx context.Context, f func() error) (time.Duration, error) {
	if err := s.update(func(r *record) { r.Still = true }); err != nil {
		return 0, err
	}
	started := time.Now()
	if err := s.still(ctx); err != nil {
		return 0, err // whoever recovers the sandbox looks whether it stands still
	}
	err := f()
	if going := s.goOn(ctx); going != nil {
		return 0, errors.Join(err, going)
	}
	pause := time.Since(started)
	return pause, errors.Join(err, s.update(func(r *record) { r.Still = false }))
}

// heldLayers are those of the state that the sandbox was restored from that
// its kernel's writable layer repeats.
func (s *gvisorSandbox) heldLayers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Layers[:s.record.Held]
}

// describe fills in what a restore must know and have.
func (s *gvisorSandbox) describe(ctx context.Context, saved driver.Saved, kind faas.SnapshotKind, stopped []int) (driver.Saved, error) {
	s.mu.Lock()
	r := s.record
	s.mu.Unlock()
	data := gvisorSaved{ReadOnly: r.Spec.ReadOnly, DiskMB: r.Spec.Resources.DiskMB}
	saved.Covers = r.Held
	if kind == faas.SnapshotFull {
		version, err := s.driver.version(ctx)
		if err != nil {
			return saved, snapshotError("snapshot sandbox "+s.id, err)
		}
		data.Secret, data.Proof, data.Stopped, data.Runsc = r.Secret, s.channel.proof, stopped, version
		data.Held = 1
		saved.Requires.Architecture, saved.Requires.Kernel = runtime.GOARCH, kernelRelease()
		saved.Requires.Tool, saved.Requires.Agent = version, r.Agent
		if saved.Requires.CPUFeatures, err = cpuFeatures(); err != nil {
			return saved, snapshotError("snapshot sandbox "+s.id, err)
		}
	}
	var err error
	saved.Data, err = json.Marshal(data)
	return saved, err
}

// saveFiles writes the writable layer while the sandbox stands still.
func (s *gvisorSandbox) saveFiles(ctx context.Context, files string) error {
	names, err := s.upperNames(ctx, files)
	if err != nil {
		return err
	}
	defer names.Close()
	data, err := s.upperData()
	if err != nil {
		return err
	}
	defer data.Close()
	return writeUpper(ctx, names, data, files, s.driver.shift)
}

// upperNames has gVisor's kernel write the names of its writable layer, with
// the places of the data in the layer's file. The data that it would copy too
// goes nowhere: the host has that file.
func (s *gvisorSandbox) upperNames(ctx context.Context, dir string) (*os.File, error) {
	names, err := unnamed(dir)
	if err != nil {
		return nil, err
	}
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, errors.Join(err, names.Close())
	}
	defer nowhere.Close()
	arg := map[string]any{"paths": nil, "exit_after_saving": false, "use_checkpoint_gofer": false}
	err = s.call(ctx, "containerManager.FSSave", arg, nil, nowhere, names, nowhere, nowhere)
	if err == nil {
		_, err = names.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("list the writable layer: %w", err), names.Close())
	}
	return names, nil
}

// unnamed makes a file in a directory that has no name.
func unnamed(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".names-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// upperData opens the file that holds the data of the writable layer. It has
// no name: gVisor's process holds it open.
func (s *gvisorSandbox) upperData() (*os.File, error) {
	// The kernel shows its path from the root of its file system, which need not
	// be the machine's.
	upper := "/" + filepath.Base(s.driver.work.Path(s.id)) + "/upper/"
	descriptors := "/proc/" + strconv.Itoa(s.process.ID.PID) + "/fd"
	entries, err := os.ReadDir(descriptors)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(descriptors, e.Name())
		if target, err := os.Readlink(path); err == nil && strings.Contains(target, upper) {
			return os.Open(path)
		}
	}
	return nil, errors.New("gVisor's process has no file for its writable layer")
}

// saveMemory writes a checkpoint while the sandbox stands still, and the
// writable layer beside it. In the checkpoint every process but the agent has
// a stop signal waiting, so that in a copy none runs before it may; the
// source's are taken back.
func (s *gvisorSandbox) saveMemory(ctx context.Context, files, memory string) (stopped []int, mapped map[string]string, err error) {
	list, err := s.processList(ctx)
	if err != nil {
		return nil, nil, err
	}
	stopped = awake(list)
	if mapped, err = s.mappedHostFiles(ctx); err != nil {
		return nil, nil, err
	}
	if !s.spec().ReadOnly {
		if err := s.saveFiles(ctx, files); err != nil {
			return nil, nil, err
		}
	}
	err = s.signalAll(ctx, stopped, unix.SIGSTOP)
	if err == nil {
		err = s.checkpoint(ctx, memory)
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), stillTimeout)
	defer cancel()
	return stopped, mapped, errors.Join(err, s.signalAll(back, stopped, unix.SIGCONT))
}

func (s *gvisorSandbox) checkpoint(ctx context.Context, dir string) error {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close() //nolint:errcheck // gVisor's kernel wrote it, and said so
		}
	}()
	for _, name := range checkpointFiles {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	arg := map[string]any{"metadata": map[string]string{"compression": "none"}, "have_pages_file": true, "Resume": true}
	if err := s.call(ctx, "containerManager.Checkpoint", arg, nil, files...); err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	return nil
}

// mappedHostFiles lists the machine's own files that processes inside have
// mapped: they come from the host image.
func (s *gvisorSandbox) mappedHostFiles(ctx context.Context) (map[string]string, error) {
	if s.spec().Image != faas.HostImage {
		return nil, nil
	}
	var dump []struct {
		Maps []struct {
			Path string `json:"pathname"`
		} `json:"maps"`
	}
	if err := s.call(ctx, "containerManager.ProcfsDump", nil, &dump); err != nil {
		return nil, fmt.Errorf("list the mapped files: %w", err)
	}
	var shown []string
	s.mu.Lock()
	for _, m := range s.record.Mounts {
		shown = append(shown, m.Destination)
	}
	s.mu.Unlock()
	list := map[string]string{}
	for _, p := range dump {
		for _, m := range p.Maps {
			if list[m.Path] != "" || !below(m.Path, shown) {
				continue
			}
			id, err := fileIdentity(m.Path)
			if errors.Is(err, os.ErrNotExist) {
				continue // the sandbox's own
			}
			if err != nil {
				return nil, err
			}
			list[m.Path] = id
		}
	}
	return list, nil
}
