package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/faas-platform/faas"
)

// partialLifetime is how long a download that broke off waits to be taken up.
const partialLifetime = 24 * time.Hour

// Remove takes ref out of the store: a name that others stand beside, or, when
// it is the last name or a digest, the image; then it frees the layers that
// nothing needs any more. It returns the bytes freed. An image with a lease is
// KindConflict.
func (s *Store) Remove(ctx context.Context, ref string) (int64, error) {
	if ref == faas.HostImage {
		return 0, faas.InvalidField("image", "the host image is this machine's own and cannot be removed")
	}
	err := s.updateIndex(ctx, func(x *index) error {
		img, err := x.find(ref, s.platform.String())
		if err != nil {
			return err
		}
		key := ""
		if parsed, err := normalize(ref); err == nil {
			key = nameKey(parsed.Name(), s.platform.String())
		}
		if x.Names[key] == img.Digest && len(x.namesOf(img.Digest)) > 1 {
			delete(x.Names, key)
			return nil
		}
		if err := s.sweepLeasesLocked(); err != nil {
			return storeError("sweep", leasesDir, err)
		}
		if n := s.usage()[img.Digest]; n > 0 {
			return &faas.Error{Kind: faas.KindConflict, Op: "remove image",
				Detail: ref + " is in use by sandboxes or snapshots", Remedy: "end them first"}
		}
		for name, digest := range x.Names {
			if digest == img.Digest {
				delete(x.Names, name)
			}
		}
		delete(x.Images, img.Digest)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return s.GC(ctx)
}

// GC frees what no image and no lease needs: layers, old skeletons of the host
// image, downloads that nobody took up for a day, and what dead processes
// left. It returns the bytes freed, and is safe beside everything else that
// this or other processes do with the store.
func (s *Store) GC(ctx context.Context) (int64, error) {
	trash, err := s.newWorkspace()
	if err != nil {
		return 0, err
	}
	freed, err := s.condemn(ctx, trash.dir)
	if closeErr := trash.close(); closeErr != nil {
		err = errors.Join(err, storeError("remove", trash.dir, closeErr))
	}
	return freed, errors.Join(err, s.sweepError())
}

func (s *Store) sweepError() error {
	if err := s.sweep(); err != nil {
		return storeError("sweep", s.dir, err)
	}
	return nil
}

// condemn moves what is not needed into trash, under the store's lock; the
// removing itself, which takes long, happens without it.
func (s *Store) condemn(ctx context.Context, trash string) (int64, error) {
	lock, err := s.lockStore(ctx, false)
	if err != nil {
		return 0, err
	}
	defer lock.unlock()
	if err := s.sweepLeasesLocked(); err != nil {
		return 0, storeError("sweep", leasesDir, err)
	}
	leases, err := s.leases(func(err error) error { return err })
	if err != nil {
		return 0, err // what an unreadable lease holds is not known
	}
	x, err := s.readIndex()
	if err != nil {
		return 0, err
	}
	n := needs{paths: map[string]bool{}, layers: map[string]bool{}, blobs: map[string]bool{}}
	n.collect(x, leases)
	layers, err := s.condemnDirs(trash, layersDir, func(path string) bool {
		return n.paths[path] || n.layers[filepath.Base(path)]
	})
	if err != nil {
		return layers, err
	}
	current := s.currentHost()
	hosts, err := s.condemnDirs(trash, hostDir, func(path string) bool {
		return n.paths[path] || path == current || filepath.Base(filepath.Dir(path)) != s.own.String()
	})
	if err != nil {
		return layers + hosts, err
	}
	blobs, err := s.condemnBlobs(trash, n.blobs)
	return layers + hosts + blobs, err
}

// needs is what must stay.
type needs struct {
	paths  map[string]bool // relative to the store
	layers map[string]bool // hex of diff ids, whatever their ownership
	blobs  map[string]bool // hex of digests
}

func (n needs) collect(x *index, leases []*leaseRecord) {
	for _, img := range x.Images {
		for _, l := range img.Layers {
			n.layers[strings.TrimPrefix(l.DiffID, "sha256:")] = true
		}
	}
	for _, l := range leases {
		for _, path := range l.Paths {
			n.paths[path] = true
		}
		for _, digest := range l.Blobs {
			n.blobs[strings.TrimPrefix(digest, "sha256:")] = true
		}
	}
}

// condemnDirs moves the directories kind/OWNERSHIP/NAME that need not stay.
func (s *Store) condemnDirs(trash, kind string, stays func(path string) bool) (int64, error) {
	found, err := filepath.Glob(s.path(kind, "*", "*"))
	if err != nil {
		return 0, storeError("list", kind, err)
	}
	var freed int64
	for _, dir := range found {
		rel, err := filepath.Rel(s.dir, dir)
		if err != nil {
			return freed, storeError("list", dir, err)
		}
		if stays(filepath.ToSlash(rel)) {
			continue
		}
		size := treeSize(dir)
		if err := os.Rename(dir, filepath.Join(trash, faas.NewID(kind))); err != nil {
			return freed, storeError("remove", dir, err)
		}
		freed += size
	}
	return freed, nil
}

// treeSize reads the size that was noted when a directory was made. It is for
// display: what cannot be read counts as nothing.
func treeSize(dir string) int64 {
	rec, err := readLayerRecord(dir)
	if err != nil {
		return 0
	}
	return rec.Bytes
}

// condemnBlobs moves packed layers that no pull is at: whole ones, and broken
// off ones that are old.
func (s *Store) condemnBlobs(trash string, needed map[string]bool) (int64, error) {
	entries, err := os.ReadDir(s.path(blobsDir))
	if err != nil {
		return 0, storeError("list", blobsDir, err)
	}
	var freed int64
	for _, e := range entries {
		hex, partial := strings.CutSuffix(e.Name(), partSuffix)
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return freed, storeError("list", e.Name(), err)
		}
		if needed[hex] || partial && time.Since(info.ModTime()) < partialLifetime {
			continue
		}
		if err := os.Rename(s.path(blobsDir, e.Name()), filepath.Join(trash, e.Name())); err != nil {
			return freed, storeError("remove", e.Name(), err)
		}
		freed += info.Size()
	}
	return freed, nil
}
