package fake

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/snapshot"
)

// stateFile is the scripted state in the memory part of a full snapshot.
const stateFile = "state.json"

var (
	_ driver.Snapshotter = (*sandbox)(nil)
	_ driver.Restorer    = (*Driver)(nil)
	_ driver.Layered     = (*Driver)(nil)
)

// savedData is the driver's own part of a snapshot.
type savedData struct {
	Fake bool `json:"fake"`
}

// Snapshot saves the sandbox's directory as one overlay layer above those
// that it was restored from, and for a full one the state that the test gave
// it. Processes are not saved: a fake has no memory of its own.
func (s *sandbox) Snapshot(ctx context.Context, kind faas.SnapshotKind, files, memory string) (driver.Saved, error) {
	var saved driver.Saved
	if err := s.machine.Faults.at(ctx, PointSnapshot); err != nil {
		return saved, err
	}
	if s.over() {
		return saved, faas.Errorf(faas.KindFailedPrecondition, "sandbox %s has ended", s.id)
	}
	s.mu.Lock()
	open, state, base := len(s.conns), s.state, s.base
	s.mu.Unlock()
	if kind == faas.SnapshotFull && open > 0 {
		return saved, faas.Errorf(faas.KindFailedPrecondition, "%d connections of the host are open in sandbox %s", open, s.id)
	}
	begun := time.Now()
	root := filepath.Join(s.dir, "root")
	if err := snapshot.CopyLayer(ctx, root, files); err != nil {
		return saved, err
	}
	if err := whiteOut(base, root, files); err != nil {
		return saved, err
	}
	if kind == faas.SnapshotFull {
		b, err := json.Marshal(state)
		if err == nil {
			err = os.WriteFile(filepath.Join(memory, stateFile), b, 0o600)
		}
		if err != nil {
			return saved, err
		}
	}
	saved.Pause = time.Since(begun)
	saved.Data, _ = json.Marshal(savedData{Fake: true}) //nolint:errchkjson // one field
	return saved, s.machine.Faults.at(ctx, PointSnapshotted)
}

// whiteOut marks in a layer what the base has and the root has no more.
func whiteOut(base []string, root, layer string) error {
	for _, below := range base {
		err := filepath.WalkDir(below, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(below, path)
			if err != nil {
				return err
			}
			if _, err := os.Lstat(filepath.Join(root, rel)); err == nil || !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			err = unix.Mknod(filepath.Join(layer, rel), unix.S_IFCHR, 0)
			if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
				return nil // it, or what it was in, is marked already
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckRestore knows its own states.
func (d *Driver) CheckRestore(ctx context.Context, from driver.State) error {
	if err := d.machine.Faults.at(ctx, PointCheckRestore); err != nil {
		return err
	}
	var data savedData
	if from.Kind == faas.SnapshotFS && len(from.Data) == 0 {
		return nil
	}
	if err := json.Unmarshal(from.Data, &data); err != nil || !data.Fake {
		return faas.Errorf(faas.KindFailedPrecondition, "the snapshot was not made by the fake driver")
	}
	return nil
}

// Restore makes a sandbox whose directory holds what the layers add up to.
func (d *Driver) Restore(ctx context.Context, from driver.State, spec faas.Spec, prepare func(context.Context, driver.Sandbox) error) (driver.Sandbox, error) {
	m := d.machine
	if err := errors.Join(d.usable(), validate(spec)); err != nil {
		return nil, err
	}
	if err := d.CheckRestore(ctx, from); err != nil {
		return nil, err
	}
	if err := m.Faults.at(ctx, PointRestore); err != nil {
		return nil, err
	}
	if err := m.reserve(spec); err != nil {
		return nil, err
	}
	s, err := d.restored(ctx, from, spec)
	if err != nil {
		os.RemoveAll(filepath.Join(m.dir, spec.ID)) //nolint:errcheck // the first error counts
		m.forget(spec.ID)
		return nil, err
	}
	m.mu.Lock()
	m.sandboxes[spec.ID] = s
	m.mu.Unlock()
	if err = m.Faults.at(ctx, PointRestored); err == nil {
		err = prepare(ctx, s)
	}
	if err == nil {
		err = m.Faults.at(ctx, PointPrepared)
	}
	if err != nil {
		s.destroy() //nolint:errcheck // the first error counts
		return nil, err
	}
	return s, nil
}

func (d *Driver) restored(ctx context.Context, from driver.State, spec faas.Spec) (*sandbox, error) {
	root := filepath.Join(d.machine.dir, spec.ID, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	for _, layer := range slices.Backward(from.Layers) {
		if err := applyLayer(ctx, layer, root); err != nil {
			return nil, err
		}
	}
	s, err := newSandbox(d.machine, spec)
	if err != nil {
		return nil, err
	}
	s.base = from.Layers
	if from.Kind == faas.SnapshotFull {
		b, err := os.ReadFile(filepath.Join(from.Memory, stateFile))
		if err == nil {
			err = json.Unmarshal(b, &s.state)
		}
		if err != nil {
			return nil, errors.Join(faas.Errorf(faas.KindFailedPrecondition, "the saved state cannot be read: %w", err), s.destroy())
		}
	}
	return s, nil
}

// applyLayer puts one layer over what is in root.
func applyLayer(ctx context.Context, layer, root string) error {
	aside := root + ".layer"
	if err := os.Mkdir(aside, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(aside) //nolint:errcheck // in a directory that is removed as a whole
	if err := snapshot.CopyLayer(ctx, layer, aside); err != nil {
		return err
	}
	return filepath.WalkDir(aside, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(aside, path)
		if err != nil || rel == "." {
			return err
		}
		to := filepath.Join(root, rel)
		if entry.IsDir() {
			if st, err := os.Lstat(to); err == nil && st.IsDir() {
				return nil
			}
			return errors.Join(os.RemoveAll(to), os.Mkdir(to, 0o755))
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		if entry.Type()&fs.ModeCharDevice != 0 {
			return nil // a whiteout
		}
		return os.Rename(path, to)
	})
}

// ImageLayers returns an empty directory: a fake's images hold nothing.
func (d *Driver) ImageLayers(context.Context, string) ([]string, func(), error) {
	dir, err := os.MkdirTemp(d.machine.dir, ".image-")
	if err != nil {
		return nil, nil, err
	}
	return []string{dir}, func() { os.Remove(dir) }, nil //nolint:errcheck // empty
}
