package workspace

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver/pidfd"
)

// ownerRecord is the content of an owner's file.
type ownerRecord struct {
	Process   pidfd.ID `json:"process"`
	Namespace string   `json:"namespace"` // of process numbers, in which Process means something
}

func writeOwner(f *os.File) error {
	id, err := pidfd.Identify(os.Getpid())
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
	return err == nil && namespace == o.Namespace && !o.Process.Alive()
}

// OwnerAlive says whether a process holds the owner's lock. A process that was
// killed while it started another may have left a copy of the lock with it,
// for the moment until that one executes its program or ends.
func (w *Workspace[R, P]) OwnerAlive(owner string) bool {
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

// Tidy removes what dead owners left behind besides whole sandboxes:
// directories half made or half removed, and the files of owners that have
// nothing.
func (w *Workspace[R, P]) Tidy() error { return errors.Join(w.fragments(), w.deadOwners()) }

func (w *Workspace[R, P]) fragments() error {
	entries, err := os.ReadDir(filepath.Join(w.dir, sandboxesDir))
	errs := []error{err}
	for _, e := range entries {
		for _, prefix := range []string{newPrefix, goingPrefix} {
			rest, ok := strings.CutPrefix(e.Name(), prefix)
			owner, _, _ := strings.Cut(rest, ".")
			if ok && !w.OwnerAlive(owner) {
				errs = append(errs, os.RemoveAll(w.Path(e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}

func (w *Workspace[R, P]) deadOwners() error {
	entries, err := os.ReadDir(filepath.Join(w.dir, ownersDir))
	errs := []error{err}
	for _, e := range entries {
		owner, ok := strings.CutSuffix(e.Name(), lockSuffix)
		if !ok || w.OwnerAlive(owner) {
			continue
		}
		if owned, err := w.owned(owner); err == nil && !owned {
			if err := os.Remove(w.ownerPath(owner)); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// sweepPatience is how long a sweep waits for another one to end.
const sweepPatience = 3 * time.Second

// Exclusive runs f while no other process runs an exclusive function on this
// workspace. Where one takes longer than three seconds it is KindUnavailable.
func (w *Workspace[R, P]) Exclusive(f func() error) error {
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
