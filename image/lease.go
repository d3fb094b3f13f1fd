package image

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/faas-platform/faas"
)

// Names of lease files: an owned lease lasts until it is released, a
// process's as long as the process holds the lock on its file.
const (
	ownedPrefix   = "owned-"
	processPrefix = "process-"
	leaseSuffix   = ".json"
)

// leaseRecord is the content of a lease file. Paths are relative to the store.
type leaseRecord struct {
	Owner   string     `json:"owner,omitempty"`
	PID     int        `json:"pid"` // of the process that took it, for people who look
	Taken   time.Time  `json:"taken"`
	Image   string     `json:"image,omitempty"`
	Paths   []string   `json:"paths"`           // what must not go away
	Layers  []string   `json:"layers"`          // for overlayfs, topmost first
	Blobs   []string   `json:"blobs,omitempty"` // digests that a pull is at
	Config  Config     `json:"config"`
	HostFor *HostImage `json:"host,omitempty"`
}

// lease is a lease file of this process.
type lease struct {
	path string
	lock *fileLock // nil for an owned lease
	once sync.Once
	err  error
}

func (l *lease) release() error {
	l.once.Do(func() {
		if l.lock != nil {
			l.err = l.lock.removeAndUnlock()
			return
		}
		if err := os.Remove(l.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			l.err = storeError("release", l.path, err)
		}
	})
	return l.err
}

// Acquire leases ref (as in Get) for as long as this process lives.
func (s *Store) Acquire(ctx context.Context, ref string) (*RootFS, error) {
	return s.AcquireWith(ctx, ref, AcquireOptions{})
}

// AcquireWith leases ref (as in Get). It pulls nothing: what is not in the
// store is KindNotFound. An owner that has a lease already is KindConflict.
func (s *Store) AcquireWith(ctx context.Context, ref string, opts AcquireOptions) (*RootFS, error) {
	if opts.Owner != "" && !validOwner(opts.Owner) {
		return nil, faas.InvalidField("owner", "%q cannot own a lease", opts.Owner)
	}
	if ref == faas.HostImage {
		return s.acquireHost(ctx, opts)
	}
	platform, err := s.platformKey(opts.Platform)
	if err != nil {
		return nil, err
	}
	lock, err := s.lockStore(ctx, true)
	if err != nil {
		return nil, err
	}
	defer lock.unlock()
	x, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	img, err := x.find(ref, platform)
	if err != nil {
		return nil, err
	}
	rec := leaseRecord{Image: img.Digest, Config: img.Config}
	for _, l := range overlayOrder(img.Layers) {
		if !s.hasLayer(l) {
			return nil, notFound(ref)
		}
		rec.Paths = append(rec.Paths, s.layerPath(l))
		rec.Layers = append(rec.Layers, s.layerPath(l)+"/"+layerFS)
	}
	return s.lease(rec, opts)
}

func (s *Store) platformKey(text string) (string, error) {
	if text == "" {
		return s.platform.String(), nil
	}
	p, err := parsePlatform(text)
	return p.String(), err
}

// overlayOrder turns layers around, topmost first. It drops the lower of two
// equal ones, which overlayfs refuses (the upper hides all that it holds), and
// what is below an opaque layer, whose mark overlayfs does not read.
func overlayOrder(layers []Layer) []string {
	var out []string
	for _, l := range slices.Backward(layers) {
		if !slices.Contains(out, l.DiffID) {
			out = append(out, l.DiffID)
		}
		if l.Opaque {
			break
		}
	}
	return out
}

// lease writes a lease file. The caller holds the store's lock, so that no GC
// comes between the look at the layers and the lease.
func (s *Store) lease(rec leaseRecord, opts AcquireOptions) (*RootFS, error) {
	rec.Owner, rec.PID, rec.Taken = opts.Owner, os.Getpid(), now()
	data, err := json.Marshal(rec)
	if err != nil {
		return nil, storeError("encode", "lease", err)
	}
	l := &lease{}
	if opts.Owner == "" {
		l.path = s.path(leasesDir, faas.NewID(processPrefix+"lease")+leaseSuffix)
		if l.lock, err = tryLock(l.path, false); err == nil {
			_, err = l.lock.f.Write(data)
		}
	} else {
		l.path = s.ownedPath(opts.Owner)
		err = createFile(l.path, data, opts.Durable)
		if errors.Is(err, os.ErrExist) {
			return nil, faas.Errorf(faas.KindConflict, "%s holds a lease on an image already", opts.Owner)
		}
	}
	if err != nil {
		if l.lock != nil {
			err = errors.Join(err, l.lock.removeAndUnlock())
		}
		return nil, storeError("write", l.path, err)
	}
	return s.rootFS(rec, l), nil
}

func (s *Store) rootFS(rec leaseRecord, l *lease) *RootFS {
	r := &RootFS{Config: rec.Config, Digest: rec.Image, Host: rec.HostFor, lease: l}
	for _, p := range rec.Layers {
		r.Layers = append(r.Layers, s.path(filepath.FromSlash(p)))
	}
	return r
}

// Resume returns the lease of an owner that an earlier process took. It fails
// with KindNotFound when the owner has none.
func (s *Store) Resume(_ context.Context, owner string) (*RootFS, error) {
	if !validOwner(owner) {
		return nil, faas.InvalidField("owner", "%q cannot own a lease", owner)
	}
	path := s.ownedPath(owner)
	rec, err := readLease(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, faas.Errorf(faas.KindNotFound, "%s holds no lease on an image", owner)
	}
	if err != nil {
		return nil, storeError("read", path, err)
	}
	return s.rootFS(*rec, &lease{path: path}), nil
}

// ReleaseOwner ends the lease of an owner, if it has one.
func (s *Store) ReleaseOwner(_ context.Context, owner string) error {
	if !validOwner(owner) {
		return faas.InvalidField("owner", "%q cannot own a lease", owner)
	}
	return (&lease{path: s.ownedPath(owner)}).release()
}

// Owners lists who holds leases that outlive their process.
func (s *Store) Owners(_ context.Context) ([]string, error) {
	entries, err := os.ReadDir(s.path(leasesDir))
	if err != nil {
		return nil, storeError("list", leasesDir, err)
	}
	owners := []string{}
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), ownedPrefix); ok {
			owners = append(owners, strings.TrimSuffix(name, leaseSuffix))
		}
	}
	return owners, nil
}

func (s *Store) ownedPath(owner string) string {
	return s.path(leasesDir, ownedPrefix+owner+leaseSuffix)
}

func validOwner(owner string) bool {
	if owner == "" || len(owner) > 128 || owner[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(owner, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
	})
}

func readLease(path string) (*leaseRecord, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rec := &leaseRecord{}
	return rec, json.Unmarshal(data, rec)
}

// leases reads every lease. One that cannot be read is handed to unreadable,
// whose error ends the reading.
func (s *Store) leases(unreadable func(error) error) ([]*leaseRecord, error) {
	entries, err := os.ReadDir(s.path(leasesDir))
	if err != nil {
		return nil, storeError("list", leasesDir, err)
	}
	var all []*leaseRecord
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), leaseSuffix) {
			continue
		}
		rec, err := readLease(s.path(leasesDir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			if err := unreadable(storeError("read", "lease "+e.Name(), err)); err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, rec)
	}
	return all, nil
}

// usage counts leases by image. It is for display: what cannot be read, such
// as a lease that is being written, counts as none.
func (s *Store) usage() map[string]int {
	count := map[string]int{}
	leases, err := s.leases(func(error) error { return nil })
	if err != nil {
		s.log.Warn("image store: leases could not be read", "error", err)
	}
	for _, l := range leases {
		if l.Image != "" {
			count[l.Image]++
		}
	}
	return count
}

// sweepLeases removes the leases of dead processes.
func (s *Store) sweepLeases() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	lock, err := s.lockStore(ctx, false)
	if err != nil {
		return err
	}
	defer lock.unlock()
	return s.sweepLeasesLocked()
}

// sweepLeasesLocked is sweepLeases under the store's exclusive lock.
func (s *Store) sweepLeasesLocked() error {
	entries, err := os.ReadDir(s.path(leasesDir))
	if err != nil {
		return err
	}
	var errs []error
	// Of a writeFile that died: nobody else writes now.
	unplaced, err := filepath.Glob(s.path(newFile))
	errs = append(errs, err)
	for _, path := range unplaced {
		errs = append(errs, os.Remove(path))
	}
	for _, e := range entries {
		path := s.path(leasesDir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
			errs = append(errs, os.Remove(path))
		case strings.HasPrefix(e.Name(), processPrefix):
			l, err := tryLock(path, false)
			if errors.Is(err, errLocked) {
				continue
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, l.removeAndUnlock())
		}
	}
	return errors.Join(errs...)
}
