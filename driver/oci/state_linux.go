package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/network"
)

// Names below Options.Dir.
const (
	sandboxesDir = "sandboxes"
	ownersDir    = "owners"
	agentsDir    = "agents"
	emptyDir     = "empty" // what a sandbox that was not restored has for shared memory
	recordFile   = "state.json"
	lockSuffix   = ".lock"
	// newPrefix and goingPrefix mark directories that are about to become a
	// sandbox's and those that were one's: PREFIX OWNER.ID.
	newPrefix   = ".new-"
	goingPrefix = ".going-"
)

// record is what is known of a sandbox on disk. It is written before anything
// is made, and again when the process is known.
type record struct {
	ID        string    `json:"id"`
	Owner     string    `json:"owner"`
	Launcher  string    `json:"launcher"`
	CreatedAt time.Time `json:"created_at"`
	Spec      faas.Spec `json:"spec"`
	Secret    []byte    `json:"secret"`
	Process   processID `json:"process"`
	Layer     string    `json:"layer"` // kind of the writable layer
	// Mounts are those of the configuration below the root; Agent is the
	// digest of the agent that runs.
	Mounts []specs.Mount `json:"mounts"`
	Agent  string        `json:"agent"`
	Ready  bool          `json:"ready"` // Create has returned it
	// Network is the sandbox's connection; nil: none was made.
	Network *network.Attachment `json:"network,omitempty"`
	// Of gVisor's sandboxes. Proof is what a restored agent shows at the door,
	// which it made of its source's first secret; nil: of Secret. Layers are
	// those of the state that it was restored from, topmost first; the first
	// Held of them are in the memory of gVisor's kernel too. Still says that
	// its processes may have been stopped for a snapshot.
	Proof  []byte   `json:"proof,omitempty"`
	Layers []string `json:"layers,omitempty"`
	Held   int      `json:"held,omitempty"`
	Still  bool     `json:"still,omitempty"`
}

// workspace is the part of the file system that belongs to this driver.
type workspace struct {
	dir   string
	owner string
	lock  *os.File // held for the life of the owner
}

// openWorkspace makes the directories and the owner.
func openWorkspace(dir string) (*workspace, error) {
	// Others may pass through, not look: OCI programs reach a sandbox's root
	// as a user that is nobody here.
	for _, sub := range []string{sandboxesDir, ownersDir, agentsDir, emptyDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o711); err != nil { //nolint:gosec
			return nil, err
		}
	}
	w := &workspace{dir: dir, owner: faas.NewID("own")}
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

// close gives the owner up: what it still has may be swept by others.
func (w *workspace) close() error {
	owned, err := w.owned(w.owner)
	if err == nil && !owned {
		err = os.Remove(w.ownerPath(w.owner))
	}
	return errors.Join(err, w.lock.Close())
}

func (w *workspace) ownerPath(owner string) string {
	return filepath.Join(w.dir, ownersDir, owner+lockSuffix)
}

func (w *workspace) path(id string) string { return filepath.Join(w.dir, sandboxesDir, id) }

// create makes the directory of a sandbox with its record in it, whole.
func (w *workspace) create(r *record) error {
	r.Owner = w.owner
	tmp := w.path(newPrefix + w.owner + "." + r.ID)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	err := writeRecord(tmp, r)
	if err == nil {
		// Renaming onto an existing empty directory would succeed; a sandbox's
		// is never empty.
		err = os.Rename(tmp, w.path(r.ID))
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
		err = &faas.Error{Kind: faas.KindConflict, Op: "create sandbox", Field: "id",
			Detail: "there is a sandbox " + r.ID + " already"}
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return nil
}

// save replaces the record.
func (w *workspace) save(r *record) error { return writeRecord(w.path(r.ID), r) }

func (w *workspace) load(id string) (*record, error) {
	b, err := os.ReadFile(filepath.Join(w.path(id), recordFile))
	if err != nil {
		return nil, err
	}
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("record of sandbox %s: %w", id, err)
	}
	return r, nil
}

// discard removes the directory of a sandbox. It gets another name first, so
// that what is left of it after a crash is known for what it is.
func (w *workspace) discard(id string) error {
	going := w.path(goingPrefix + w.owner + "." + id)
	err := os.Rename(w.path(id), going)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(going)
}

// ids lists the sandboxes, of any owner.
func (w *workspace) ids() ([]string, error) {
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
func (w *workspace) owned(owner string) (bool, error) {
	ids, err := w.ids()
	if err != nil {
		return true, err
	}
	for _, id := range ids {
		r, err := w.load(id)
		if err == nil && r.Owner == owner {
			return true, nil
		}
	}
	return false, nil
}

// ownerRecord is the content of an owner's file.
type ownerRecord struct {
	Process   processID `json:"process"`
	Namespace string    `json:"namespace"` // of process numbers, in which Process means something
}

func writeOwner(f *os.File) error {
	id, err := identify(os.Getpid())
	if err != nil {
		return err
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return err
	}
	return json.NewEncoder(f).Encode(ownerRecord{Process: id, Namespace: namespace})
}

// dead says that the process that an owner's file names has certainly ended.
func (o ownerRecord) dead() bool {
	namespace, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && namespace == o.Namespace && !o.Process.alive()
}

// ownerAlive says whether a process holds the owner's lock. A process that was
// killed while it started another may have left a copy of the lock with it,
// for the moment until that one executes its program or ends.
func (w *workspace) ownerAlive(owner string) bool {
	if owner == w.owner {
		return true
	}
	f, err := os.OpenFile(w.ownerPath(owner), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		return false
	}
	var o ownerRecord
	return json.NewDecoder(f).Decode(&o) != nil || !o.dead()
}

// fragments removes directories that dead owners left half made or half
// removed.
func (w *workspace) fragments() error {
	entries, err := os.ReadDir(filepath.Join(w.dir, sandboxesDir))
	errs := []error{err}
	for _, e := range entries {
		for _, prefix := range []string{newPrefix, goingPrefix} {
			rest, ok := strings.CutPrefix(e.Name(), prefix)
			owner, _, _ := strings.Cut(rest, ".")
			if ok && !w.ownerAlive(owner) {
				errs = append(errs, os.RemoveAll(w.path(e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

// deadOwners removes the files of owners that are dead and have nothing.
func (w *workspace) deadOwners() error {
	entries, err := os.ReadDir(filepath.Join(w.dir, ownersDir))
	errs := []error{err}
	for _, e := range entries {
		owner, ok := strings.CutSuffix(e.Name(), lockSuffix)
		if !ok || w.ownerAlive(owner) {
			continue
		}
		if owned, err := w.owned(owner); err == nil && !owned {
			errs = append(errs, ignoreMissing(os.Remove(w.ownerPath(owner))))
		}
	}
	return errors.Join(errs...)
}

// exclusive runs f while no other process runs an exclusive function on this
// workspace.
func (w *workspace) exclusive(f func() error) error {
	lock, err := os.OpenFile(filepath.Join(w.dir, ownersDir, ".sweep"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	// A process that this one is just starting holds a copy of every lock
	// between its fork and its exec: it is waited for.
	for deadline := time.Now().Add(sweepPatience); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f()
		}
		if time.Now().After(deadline) {
			return &faas.Error{Kind: faas.KindUnavailable, Op: "sweep", Err: err,
				Detail: "another process sweeps the same directory", RetryAfter: time.Second}
		}
	}
}

// sweepPatience is how long a sweep waits for another one to end.
const sweepPatience = 3 * time.Second

func writeRecord(dir string, r *record) error {
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

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
