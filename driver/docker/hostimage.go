package docker

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/moby/moby/api/types/mount"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/image"
)

// hostImagePossible is whether this machine's /usr can be that of a Linux
// container at all.
const hostImagePossible = runtime.GOOS == "linux"

// source is what a container is made of.
type source struct {
	id     string // of the image in the engine's store
	mounts []mount.Mount
	tmpfs  map[string]string
}

// imageFor returns what a sandbox of the image is made of.
func (d *Driver) imageFor(ctx context.Context, ref string) (source, error) {
	if ref == faas.HostImage {
		src, _, err := d.hostSource(ctx)
		return src, err
	}
	if err := checkReference(ref); err != nil {
		return source{}, err
	}
	img, err := d.inspectImage(ctx, ref)
	if errors.Is(err, faas.ErrNotFound) {
		return source{}, &faas.Error{Kind: faas.KindNotFound, Field: "image", Detail: "the engine has no image " + ref,
			Remedy: "pull it with `faas image pull " + ref + "`"}
	}
	return source{id: img.Digest}, err
}

// resolveHost implements ResolveImage for the host image.
func (d *Driver) resolveHost(ctx context.Context) (driver.Image, error) {
	_, img, err := d.hostSource(ctx)
	if err != nil {
		return driver.Image{}, opError("resolve docker image", faas.HostImage, err)
	}
	return img, nil
}

func (d *Driver) hostName() string { return "faas/host:" + d.installation }

// hostSource makes the host image of a skeleton in the engine's store and
// binds of this machine's /usr. It needs an engine that sees this machine.
func (d *Driver) hostSource(ctx context.Context) (source, driver.Image, error) {
	shared, err := d.sharedWith(ctx)
	if err != nil {
		return source{}, driver.Image{}, err
	}
	if !shared.files {
		return source{}, driver.Image{}, faas.Unavailable(shared.filesReason, "use an OCI image, such as --image debian:stable-slim")
	}
	store, err := d.skeletons()
	if err != nil {
		return source{}, driver.Image{}, err
	}
	root, err := store.Acquire(ctx, faas.HostImage)
	if err != nil {
		return source{}, driver.Image{}, err
	}
	defer root.Release() //nolint:errcheck // a lease of this process, which ends with it
	id, err := d.ensureSkeleton(ctx, root)
	if err != nil {
		return source{}, driver.Image{}, err
	}
	src := source{id: id, tmpfs: map[string]string{}}
	for _, bind := range root.Host.Binds {
		src.bind(bind)
	}
	return src, driver.Image{Ref: faas.HostImage, Digest: root.Digest, Config: driver.ImageConfig(root.Config)}, nil
}

// bind shows one directory of this machine without what it hides: directories
// lie under an empty file system, files under the null device.
func (s *source) bind(b image.HostBind) {
	s.mounts = append(s.mounts, mount.Mount{Type: mount.TypeBind, Source: b.Source, Target: b.Target, ReadOnly: true})
	for _, hidden := range b.Hide {
		target := b.Target + "/" + hidden
		if info, err := os.Stat(filepath.Join(b.Source, hidden)); err == nil && info.IsDir() {
			s.tmpfs[target] = "ro,nosuid,nodev,noexec,size=4k,mode=0555"
			continue
		}
		s.mounts = append(s.mounts, mount.Mount{Type: mount.TypeBind, Source: "/dev/null", Target: target, ReadOnly: true})
	}
}

// skeletons is the driver's own store of skeletons, opened when it is first
// needed.
func (d *Driver) skeletons() (*image.Store, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.store == nil {
		store, err := image.Open(filepath.Join(d.opts.Dir, "image"), image.Options{Logger: d.log})
		if err != nil {
			return nil, err
		}
		d.store = store
	}
	return d.store, nil
}

// ensureSkeleton returns the id of the engine's image of a skeleton, importing
// it when the engine has none of this digest.
func (d *Driver) ensureSkeleton(ctx context.Context, root *image.RootFS) (string, error) {
	img, err := d.inspectImage(ctx, d.hostName())
	if err == nil && img.Labels[LabelInstallation] == d.installation && img.Labels[LabelDigest] == root.Digest {
		return img.Digest, nil
	}
	if err != nil && !errors.Is(err, faas.ErrNotFound) {
		return "", err
	}
	r, w := io.Pipe()
	packed := make(chan struct{})
	go func() { // ends with the import, which closes the reader
		defer close(packed)
		w.CloseWithError(packTree(w, root.Host.Skeleton)) //nolint:errcheck // never fails
	}()
	err = d.importImage(ctx, d.hostName(), r, map[string]string{LabelDigest: root.Digest})
	r.Close() //nolint:errcheck // never fails
	<-packed
	if err != nil {
		return "", err
	}
	img, err = d.inspectImage(ctx, d.hostName())
	return img.Digest, err
}

// packTree writes a directory as a tar archive in which all belongs to root.
func packTree(w io.Writer, dir string) error {
	out := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == "." {
			return err
		}
		return packFile(out, path, filepath.ToSlash(name), entry)
	})
	return errors.Join(err, out.Close())
}

func packFile(out *tar.Writer, path, name string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	hdr, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	hdr.Name, hdr.Uid, hdr.Gid, hdr.Uname, hdr.Gname = name, 0, 0, "", ""
	hdr.AccessTime, hdr.ChangeTime = time.Time{}, time.Time{}
	if info.IsDir() {
		hdr.Name = strings.TrimSuffix(name, "/") + "/"
	}
	if err := out.WriteHeader(hdr); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(out, f)
	return err
}
