package image

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/faas-platform/faas"
)

const (
	indexFile    = "index.json"
	indexVersion = 1
	storeLock    = "store.lock"
	newFile      = ".new-*" // a file before it has its name
)

// index is the content of the index file: every image by digest, and which
// names lead to which. Names carry the platform, so that one reference can be
// at hand for several.
type index struct {
	Version int               `json:"version"`
	Images  map[string]*Image `json:"images"` // Names and InUse are left empty
	Names   map[string]string `json:"names"`  // "reference|platform" to digest
}

func nameKey(ref, platform string) string { return ref + "|" + platform }

func splitNameKey(key string) (ref, platform string) {
	ref, platform, _ = strings.Cut(key, "|")
	return ref, platform
}

// namesOf lists the references that lead to digest, as users write them.
func (x *index) namesOf(digest string) []string {
	names := []string{}
	for key, d := range x.Names {
		if d == digest {
			ref, _ := splitNameKey(key)
			names = append(names, familiar(ref))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// find looks ref up: as a name first, then as an image digest or the first 12
// or more digits of one.
func (x *index) find(ref, platform string) (*Image, error) {
	if canonical, err := normalize(ref); err == nil {
		if img := x.Images[x.Names[nameKey(canonical.Name(), platform)]]; img != nil {
			return img, nil
		}
	}
	digits := strings.TrimPrefix(ref, "sha256:")
	if len(digits) < 12 || strings.Trim(digits, "0123456789abcdef") != "" {
		return nil, notFound(ref)
	}
	var found *Image
	for digest, img := range x.Images {
		if !strings.HasPrefix(digest, "sha256:"+digits) {
			continue
		}
		if found != nil {
			return nil, faas.InvalidField("image", "%s is the beginning of several digests", ref)
		}
		found = img
	}
	if found == nil {
		return nil, notFound(ref)
	}
	return found, nil
}

// put adds an image under a name.
func (x *index) put(img *Image, ref string) {
	x.Images[img.Digest] = img
	old := x.Names[nameKey(ref, img.Platform)]
	x.Names[nameKey(ref, img.Platform)] = img.Digest
	if old != "" && old != img.Digest && !slices.Contains(slices.Collect(maps.Values(x.Names)), old) {
		delete(x.Images, old) // its name moved on; leases keep its layers
	}
}

// normalize parses a reference: "python" is index.docker.io/library/python:latest.
func normalize(ref string) (name.Reference, error) {
	if ref == faas.HostImage {
		return nil, faas.InvalidField("image", "%q is this machine's own image", ref)
	}
	parsed, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		return nil, faas.InvalidField("image", "%q is not an image reference: %v", ref, err)
	}
	return parsed, nil
}

// familiar shortens a canonical name to what users type.
func familiar(ref string) string {
	ref = strings.TrimPrefix(ref, name.DefaultRegistry+"/")
	return strings.TrimPrefix(ref, "library/")
}

// lockStore takes the lock that guards the index, the leases and the removal
// of layers. It is held for moments only.
func (s *Store) lockStore(ctx context.Context, shared bool) (*fileLock, error) {
	l, err := lockPath(ctx, s.path(locksDir, storeLock), shared, nil)
	if err != nil {
		return nil, storeError("lock", s.dir, err)
	}
	return l, nil
}

// readIndex returns the index as it is on disk. The result is shared: it must
// not be changed.
func (s *Store) readIndex() (*index, error) {
	s.indexMu.Lock()
	defer s.indexMu.Unlock()
	path := s.path(indexFile)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return &index{Version: indexVersion, Images: map[string]*Image{}, Names: map[string]string{}}, nil
	}
	if err != nil {
		return nil, storeError("read", path, err)
	}
	if s.index != nil && os.SameFile(info, s.indexStamp) && info.ModTime().Equal(s.indexStamp.ModTime()) &&
		info.Size() == s.indexStamp.Size() {
		return s.index, nil
	}
	x, err := loadIndex(path)
	if err != nil {
		return nil, err
	}
	s.index, s.indexStamp = x, info
	return x, nil
}

func loadIndex(path string) (*index, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, storeError("read", path, err)
	}
	x := &index{}
	if err := json.Unmarshal(data, x); err != nil {
		return nil, storeError("read", path, err)
	}
	if x.Version != indexVersion {
		return nil, faas.Errorf(faas.KindFailedPrecondition,
			"the image store's index %s has version %d, this program knows %d", path, x.Version, indexVersion)
	}
	if x.Images == nil {
		x.Images = map[string]*Image{}
	}
	if x.Names == nil {
		x.Names = map[string]string{}
	}
	return x, nil
}

// updateIndex changes the index under the store's lock. change works on a
// copy of its own; its error leaves the index as it was.
func (s *Store) updateIndex(ctx context.Context, change func(*index) error) error {
	lock, err := s.lockStore(ctx, false)
	if err != nil {
		return err
	}
	defer lock.unlock()
	x, err := loadIndex(s.path(indexFile))
	if errors.Is(err, os.ErrNotExist) {
		x, err = &index{Version: indexVersion, Images: map[string]*Image{}, Names: map[string]string{}}, nil
	}
	if err != nil {
		return err
	}
	if err := change(x); err != nil {
		return err
	}
	data, err := json.MarshalIndent(x, "", "\t")
	if err != nil {
		return storeError("encode", indexFile, err)
	}
	if err := writeFile(s.path(indexFile), data, true); err != nil {
		return storeError("write", indexFile, err)
	}
	return nil
}

// writeFile replaces path with data in one step; durable: also after a power
// failure either the old content or the new is there.
func writeFile(path string, data []byte, durable bool) error {
	return placeFile(path, data, durable, os.Rename)
}

// createFile is writeFile that fails with os.ErrExist when path exists.
func createFile(path string, data []byte, durable bool) error {
	return placeFile(path, data, durable, func(temp, path string) error {
		if err := os.Link(temp, path); err != nil {
			return err
		}
		return os.Remove(temp)
	})
}

func placeFile(path string, data []byte, durable bool, place func(temp, path string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), newFile)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = place(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if durable {
		return syncDir(filepath.Dir(path))
	}
	return nil
}

// Get returns what the store knows of ref: a name, a digest, the first 12 or
// more digits of one, or faas.HostImage. It fails with KindNotFound.
func (s *Store) Get(ctx context.Context, ref string) (*Image, error) {
	if ref == faas.HostImage {
		return s.hostInfo(ctx)
	}
	x, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	img, err := x.find(ref, s.platform.String())
	if err != nil {
		return nil, err
	}
	return s.describe(x, img, s.usage())
}

// List returns every image, the youngest first, the host image before them
// where this machine has it.
func (s *Store) List(ctx context.Context) ([]*Image, error) {
	x, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	usage := s.usage()
	images := make([]*Image, 0, len(x.Images)+1)
	for _, img := range x.Images {
		described, err := s.describe(x, img, usage)
		if err != nil {
			return nil, err
		}
		images = append(images, described)
	}
	slices.SortFunc(images, func(a, b *Image) int {
		return cmpOr(b.AddedAt.Compare(a.AddedAt), strings.Compare(a.Digest, b.Digest))
	})
	host, err := s.hostInfo(ctx)
	switch {
	case err == nil:
		images = slices.Insert(images, 0, host)
	case faas.KindOf(err) != faas.KindCapabilityUnavailable:
		return nil, err
	}
	return images, nil
}

func cmpOr(first, second int) int {
	if first != 0 {
		return first
	}
	return second
}

// describe completes a copy of an index entry.
func (s *Store) describe(x *index, img *Image, usage map[string]int) (*Image, error) {
	full := *img
	full.Names = x.namesOf(img.Digest)
	full.InUse = usage[img.Digest]
	full.Layers = slices.Clone(img.Layers)
	full.SizeBytes = 0
	var lost layerReport
	for i, l := range full.Layers {
		info, err := s.layerInfo(l.DiffID)
		if errors.Is(err, os.ErrNotExist) {
			full.Limitations = []string{"not unpacked for this store's ownership: pull or import it again"}
			return &full, nil
		}
		if err != nil {
			return nil, storeError("read", l.DiffID, err)
		}
		full.Layers[i].SizeBytes = info.Bytes
		if !slices.ContainsFunc(full.Layers[:i], func(o Layer) bool { return o.DiffID == l.DiffID }) {
			full.SizeBytes += info.Bytes
			lost.add(info.layerReport)
		}
	}
	full.Limitations = lost.sentences(s.own.keep)
	return &full, nil
}

// now is the time that the store writes down: UTC, without what JSON drops.
func now() time.Time { return time.Now().UTC().Round(0) }
