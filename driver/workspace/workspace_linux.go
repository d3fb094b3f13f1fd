package workspace

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

// Names below the workspace's directory.
const (
	sandboxesDir = "sandboxes"
	ownersDir    = "owners"
	recordFile   = "state.json"
	lockSuffix   = ".lock"
	// newPrefix and goingPrefix mark directories that are about to become a
	// sandbox's and those that were one's: PREFIX OWNER.ID.
	newPrefix   = ".new-"
	goingPrefix = ".going-"
)

// Record is what a driver keeps of a sandbox on disk, encoded as JSON.
type Record[R any] interface {
	*R
	SandboxID() string
	OwnerID() string
	SetOwner(owner string)
}

// Workspace keeps the records of a driver's sandboxes. Several processes may
// share one directory.
type Workspace[R any, P Record[R]] struct {
	dir   string
	owner string
	lock  *os.File // held for the life of the owner
}

// Open makes the directories, those named in subdirs besides, and the owner
// that this process is.
func Open[R any, P Record[R]](dir string, subdirs ...string) (*Workspace[R, P], error) {
	// Others may pass through, not look: OCI programs reach a sandbox's root
	// as a user that is nobody here.
	for _, sub := range append([]string{sandboxesDir, ownersDir}, subdirs...) {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o711); err != nil { //nolint:gosec
			return nil, err
		}
	}
	w := &Workspace[R, P]{dir: dir, owner: faas.NewID("own")}
	// The lock is taken before the file has its name: a sweep never sees an
	// owner that is alive and not yet locked.
	f, err := os.CreateTemp(filepath.Join(dir, ownersDir), ".tmp-*")
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = writeOwner(f)
	}
	if err == nil {
		err = os.Rename(f.Name(), w.ownerPath(w.owner))
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	w.lock = f
	return w, nil
}

// Owner names this process.
func (w *Workspace[R, P]) Owner() string { return w.owner }

// Close gives the owner up: what it still has may be swept by others.
func (w *Workspace[R, P]) Close() error {
	owned, err := w.owned(w.owner)
	if err == nil && !owned {
		err = os.Remove(w.ownerPath(w.owner))
	}
	return errors.Join(err, w.lock.Close())
}

func (w *Workspace[R, P]) ownerPath(owner string) string {
	return filepath.Join(w.dir, ownersDir, owner+lockSuffix)
}

// SandboxesDir returns the directory below which sandboxes of a workspace in
// dir have theirs.
func SandboxesDir(dir string) string { return filepath.Join(dir, sandboxesDir) }

// Path returns a sandbox's directory.
func (w *Workspace[R, P]) Path(id string) string { return filepath.Join(w.dir, sandboxesDir, id) }

// Create makes the directory of a sandbox with its record in it, whole, and
// makes this process its owner. An id that is taken is KindConflict.
func (w *Workspace[R, P]) Create(r P) error {
	r.SetOwner(w.owner)
	id := r.SandboxID()
	tmp := w.Path(newPrefix + w.owner + "." + id)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	err := writeRecord(tmp, r)
	if err == nil {
		// Renaming onto an existing empty directory would succeed; a sandbox's
		// is never empty.
		err = os.Rename(tmp, w.Path(id))
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
		err = &faas.Error{Kind: faas.KindConflict, Op: "create sandbox", Field: "id",
			Detail: "there is a sandbox " + id + " already"}
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return nil
}

// Save replaces the record.
func (w *Workspace[R, P]) Save(r P) error { return writeRecord(w.Path(r.SandboxID()), r) }

// Load reads the record of a sandbox; fs.ErrNotExist when there is none.
func (w *Workspace[R, P]) Load(id string) (P, error) {
	b, err := os.ReadFile(filepath.Join(w.Path(id), recordFile))
	if err != nil {
		return nil, err
	}
	r := P(new(R))
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("record of sandbox %s: %w", id, err)
	}
	return r, nil
}

// Discard removes the directory of a sandbox. It gets another name first, so
// that what is left of it after a crash is known for what it is.
func (w *Workspace[R, P]) Discard(id string) error {
	going := w.Path(goingPrefix + w.owner + "." + id)
	err := os.Rename(w.Path(id), going)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(going)
}

// IDs lists the sandboxes, of any owner.
func (w *Workspace[R, P]) IDs() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(w.dir, sandboxesDir))
	var out []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// owned says whether an owner has anything left.
func (w *Workspace[R, P]) owned(owner string) (bool, error) {
	ids, err := w.IDs()
	if err != nil {
		return true, err
	}
	for _, id := range ids {
		r, err := w.Load(id)
		if err == nil && r.OwnerID() == owner {
			return true, nil
		}
	}
	return false, nil
}

func writeRecord(dir string, r any) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, "."+recordFile)
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, recordFile))
}
