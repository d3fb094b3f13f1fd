package microvm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest/machine"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/image/pack"
)

// stateFile is what QEMU saved, in a snapshot's memory directory; the disk is
// beside it under its own name.
const stateFile = "state"

// savedData is what this driver keeps of a state.
type savedData struct {
	Machine hardware `json:"machine"`
	Secret  []byte   `json:"secret"` // the channel's, when the state was saved
}

// Snapshot saves the files, and the whole machine for a full one. The
// processes stand still from before the files are read until all is saved.
func (s *sandbox) Snapshot(ctx context.Context, kind faas.SnapshotKind, files, memory string) (driver.Saved, error) {
	saved, err := s.snapshot(ctx, kind, files, memory)
	if err != nil {
		var known *faas.Error
		if !errors.As(err, &known) {
			err = &faas.Error{Kind: faas.KindInternal, Op: "snapshot of sandbox " + s.id, Err: err}
		}
	}
	return saved, err
}

func (s *sandbox) snapshot(ctx context.Context, kind faas.SnapshotKind, files, memory string) (driver.Saved, error) {
	s.control.Lock()
	defer s.control.Unlock()
	r := s.recorded()
	saved := driver.Saved{Requires: driver.Requirements{Architecture: runtime.GOARCH}}
	var err error
	if saved.Data, err = json.Marshal(savedData{Machine: r.Machine, Secret: r.Secret}); err != nil {
		return saved, err
	}
	if kind == faas.SnapshotFull {
		if saved.Requires.Tool, err = s.driver.tool(ctx); err != nil {
			return saved, err
		}
	}
	if err := s.update(func(r *record) { r.Still = true }); err != nil {
		return saved, err
	}
	began := time.Now()
	err = s.saveStill(ctx, kind, files, memory)
	again, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	err = errors.Join(err, s.thaw(again))
	saved.Pause = time.Since(began)
	return saved, err
}

// saveStill stops the sandbox's processes and saves.
func (s *sandbox) saveStill(ctx context.Context, kind faas.SnapshotKind, files, memory string) error {
	err := s.asking(ctx, func(c *machine.Control) error {
		if err := c.Freeze(ctx); err != nil {
			return err
		}
		if !s.recorded().Machine.Writable {
			return nil
		}
		return s.saveLayer(ctx, c, files)
	})
	if err != nil || kind != faas.SnapshotFull {
		return err
	}
	return s.monitor(ctx, func(m control) error {
		if err := m.stop(ctx); err != nil {
			return err
		}
		err := s.saveMachine(ctx, m, memory)
		again, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		return errors.Join(err, m.run(again))
	})
}

// saveLayer writes the layer as the machine's agent sends it: what a machine
// wrote to its disk is never mounted on the host.
func (s *sandbox) saveLayer(ctx context.Context, c *machine.Control, files string) error {
	if err := os.Remove(files); err != nil { // to be made again
		return err
	}
	pr, pw := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := c.Layer(ctx, pw)
		pw.CloseWithError(err) //nolint:errcheck // never fails
		sent <- err
	}()
	err := image.UnpackLayer(ctx, files, pr, s.driver.opts.Shift)
	pr.CloseWithError(errors.New("given up")) //nolint:errcheck // never fails
	return errors.Join(err, <-sent)
}

func (s *sandbox) saveMachine(ctx context.Context, m control, memory string) error {
	f, err := os.OpenFile(filepath.Join(memory, stateFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(m.save(ctx, f), f.Close()); err != nil {
		return err
	}
	if !s.recorded().Machine.Writable {
		return nil
	}
	return copySparse(ctx, filepath.Join(memory, diskFile), filepath.Join(s.dir(), diskFile))
}

// thaw lets the sandbox's processes go on; the caller has the lock.
func (s *sandbox) thaw(ctx context.Context) error {
	if err := s.asking(ctx, func(c *machine.Control) error { return c.Thaw(ctx) }); err != nil {
		return err
	}
	return s.update(func(r *record) { r.Still = false })
}

// goOn is for a machine that another process may have stopped.
func (s *sandbox) goOn(ctx context.Context) error {
	s.control.Lock()
	defer s.control.Unlock()
	if err := s.monitor(ctx, func(m control) error { return m.run(ctx) }); err != nil {
		return err
	}
	return s.thaw(ctx)
}

// states returns layers of snapshots, topmost first, as one squashfs each.
func (q *QEMU) states(ctx context.Context, layers []string) ([]string, error) {
	var out []string
	for _, layer := range layers {
		id, err := layerIdentity(layer)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(q.opts.Dir, basesDir, "state-"+id+".squashfs")
		if err := q.state(ctx, path, layer); err != nil {
			return nil, err
		}
		out = append(out, path)
	}
	return out, nil
}

func (q *QEMU) state(ctx context.Context, path, layer string) error {
	q.makes.Lock()
	defer q.makes.Unlock()
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return q.squash(ctx, path, func(w io.Writer) error {
		return pack.Layer(ctx, layer, w, pack.Options{Overlay: true, UIDShift: q.opts.Shift, GIDShift: q.opts.Shift})
	})
}

// layerIdentity tells layers apart without reading them: a snapshot's files do
// not change once they are there.
func layerIdentity(layer string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(layer, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: layer, Err: err}
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d %d", layer, st.Dev, st.Ino, st.Ctim.Nano()))
	return hex.EncodeToString(sum[:12]), nil
}

// CheckRestore says why a state cannot be restored here.
func (q *QEMU) CheckRestore(ctx context.Context, from driver.State) error {
	if err := q.usable(); err != nil {
		return err
	}
	if from.Kind != faas.SnapshotFull {
		return nil
	}
	if from.Requires.Architecture != runtime.GOARCH {
		return refuse("the snapshot is of a machine with %s, this one has %s", from.Requires.Architecture, runtime.GOARCH)
	}
	have, err := q.tool(ctx)
	if err != nil {
		return err
	}
	if from.Requires.Tool != have {
		return refuse("the snapshot was saved by %s, this machine has %s", from.Requires.Tool, have)
	}
	data, err := decodeSaved(from.Data)
	if err != nil {
		return err
	}
	for _, path := range append(slices.Clone(data.Machine.Lower), data.Machine.Kernel, data.Machine.Initial) {
		if _, err := os.Stat(path); err != nil {
			return refuse("a file that the machine was made of is gone: %v", err)
		}
	}
	return nil
}

// refuse says why a state cannot be restored on this machine.
func refuse(format string, args ...any) error {
	return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "restore", Detail: fmt.Sprintf(format, args...),
		Remedy: "restore its files only, or on a machine like the one where it was taken"}
}

func decodeSaved(data json.RawMessage) (*savedData, error) {
	d := new(savedData)
	if err := json.Unmarshal(data, d); err != nil {
		return nil, refuse("what the driver kept of it cannot be read: %v", err)
	}
	return d, nil
}

// Restore makes a machine of a state.
func (q *QEMU) Restore(ctx context.Context, from driver.State, spec faas.Spec, prepare func(context.Context, driver.Sandbox) error) (driver.Sandbox, error) {
	if err := driver.CheckSpec(spec, leastMB); err != nil {
		return nil, err
	}
	if err := errors.Join(q.offered(spec)); err != nil {
		return nil, err
	}
	if err := q.CheckRestore(ctx, from); err != nil {
		return nil, err
	}
	r := &record{ID: spec.ID, CreatedAt: time.Now().UTC(), Spec: spec, Secret: newSecret()}
	if from.Kind != faas.SnapshotFull {
		return q.make(ctx, r, func(s *sandbox) error {
			if err := q.boot(ctx, s, from.Layers); err != nil {
				return err
			}
			return prepare(ctx, s)
		})
	}
	data, err := decodeSaved(from.Data)
	if err != nil {
		return nil, err
	}
	if want := memoryMB(spec); want > data.Machine.MemoryMB {
		return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Op: "restore", Field: "memory_mb",
			Detail: fmt.Sprintf("a machine's memory does not grow: the snapshot has %d MiB", data.Machine.MemoryMB-kernelMB),
			Remedy: "ask for at most as many, or restore its files only"}
	}
	r.Secret, r.Machine, r.Still = data.Secret, data.Machine, true
	return q.make(ctx, r, func(s *sandbox) error { return q.revive(ctx, s, from, prepare) })
}

// revive goes on from a machine's saved state.
func (q *QEMU) revive(ctx context.Context, s *sandbox, from driver.State, prepare func(context.Context, driver.Sandbox) error) error {
	ctx, cancel := context.WithTimeout(ctx, bootPatience)
	defer cancel()
	r := s.recorded()
	if _, err := q.images.AcquireWith(ctx, r.Spec.Image, image.AcquireOptions{Owner: r.ID}); err != nil {
		return err
	}
	if r.Machine.Writable {
		if err := copySparse(ctx, filepath.Join(s.dir(), diskFile), filepath.Join(from.Memory, diskFile)); err != nil {
			return err
		}
	}
	if err := s.writeConfig(); err != nil {
		return err
	}
	state, err := os.Open(filepath.Join(from.Memory, stateFile))
	if err != nil {
		return err
	}
	err = q.start(s, &r.Machine, state)
	if err = errors.Join(err, state.Close()); err != nil {
		return err
	}
	s.control.Lock()
	err = s.monitor(ctx, func(m control) error {
		if err := m.loaded(ctx); err != nil {
			return err
		}
		return m.run(ctx)
	})
	s.control.Unlock()
	if err != nil {
		return fmt.Errorf("%w: %s", err, q.complaint(s))
	}
	if err := s.ask(ctx, func(c *machine.Control) error {
		return c.Limit(ctx, r.Spec.Resources.MemoryMB<<20, r.Spec.Resources.PIDs)
	}); err != nil {
		return fmt.Errorf("%w: %s", err, q.complaint(s))
	}
	if err := prepare(ctx, s); err != nil {
		return err
	}
	s.control.Lock()
	defer s.control.Unlock()
	if err := s.thaw(ctx); err != nil {
		return err
	}
	return s.update(func(r *record) { r.Ready = true })
}
