package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/faas-platform/faas"
)

// defaultPath is the search path of an imported root file system, which
// brings no configuration of its own.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Import reads an image from r: the tar of a root file system, of an OCI
// layout or of `docker save`, told apart by its content, plain or compressed
// with gzip, zstd or bzip2. name is the reference that the image gets; it may
// be empty for archives that name their one image. It fails with KindInvalidArgument for what is none
// of these, is for another platform, or tries to leave its directory, and with
// KindPayloadTooLarge beyond the limits.
func (s *Store) Import(ctx context.Context, r io.Reader, name string) (*Image, error) {
	ctx, cancel := s.operation(ctx)
	defer cancel()
	return s.inWorkspace(func(work *workspace) (*Image, error) {
		f, err := os.OpenFile(filepath.Join(work.dir, "archive"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, storeError("make", work.dir, err)
		}
		defer f.Close()
		n, err := io.Copy(f, &meter{ctx: ctx, r: io.LimitReader(r, s.limits.MaxBytes+1)})
		if err != nil {
			return nil, storeError("read", "the archive", err)
		}
		if n > s.limits.MaxBytes {
			return nil, tooLarge("the archive is larger than %d bytes", s.limits.MaxBytes)
		}
		return (&importer{s: s, ctx: ctx, work: work, asked: name}).file(f)
	})
}

// ImportPath is Import of a file, or of a directory that is an OCI layout.
func (s *Store) ImportPath(ctx context.Context, path, name string) (*Image, error) {
	ctx, cancel := s.operation(ctx)
	defer cancel()
	f, err := os.Open(path)
	if err != nil {
		return nil, &faas.Error{Kind: faas.KindInvalidArgument, Field: "path", Detail: "the archive cannot be opened", Err: err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, storeError("read", path, err)
	}
	if !info.IsDir() && !info.Mode().IsRegular() { // a pipe: it cannot be read twice
		return s.Import(ctx, f, name)
	}
	return s.inWorkspace(func(work *workspace) (*Image, error) {
		im := &importer{s: s, ctx: ctx, work: work, asked: name}
		if !info.IsDir() {
			return im.file(f)
		}
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, storeError("open", path, err)
		}
		defer root.Close()
		if _, err := root.Stat(layoutFile); err != nil {
			return nil, &faas.Error{Kind: faas.KindInvalidArgument, Field: "path", Detail: path + " is not an OCI layout",
				Remedy: "pack a root file system with: tar -C " + path + " -cf rootfs.tar ."}
		}
		return im.layout(root)
	})
}

func (s *Store) inWorkspace(do func(*workspace) (*Image, error)) (img *Image, err error) {
	work, err := s.newWorkspace()
	if err != nil {
		return nil, err
	}
	defer func() { err = joinCleanup(err, work.close()) }()
	img, err = do(work)
	if err == nil {
		return img, nil
	}
	var known *faas.Error
	if errors.As(err, &known) {
		named := *known
		named.Op = "import image"
		return nil, &named
	}
	return nil, fmt.Errorf("import image: %w", err)
}

// importer is one import.
type importer struct {
	s     *Store
	ctx   context.Context // of the import: the readers that it passes on check it
	work  *workspace
	asked string // the name to give; may be empty
}

// file imports an archive of either kind.
func (im *importer) file(f *os.File) (*Image, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, storeError("read", f.Name(), err)
	}
	nested, err := im.isNested(f)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, storeError("read", f.Name(), err)
	}
	if !nested {
		return im.rootFS(f)
	}
	dir := filepath.Join(im.work.dir, "content")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, storeError("make", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, storeError("open", dir, err)
	}
	defer root.Close()
	if err := im.walk(f, func(path string, hdr *tar.Header, r io.Reader) error {
		return spread(root, path, hdr, r)
	}); err != nil {
		return nil, err
	}
	if _, err := root.Stat(layoutFile); err == nil {
		return im.layout(root)
	}
	return im.dockerSave(root)
}

// walk visits the entries of a tar until visit returns io.EOF.
func (im *importer) walk(f io.Reader, visit func(path string, hdr *tar.Header, r io.Reader) error) error {
	packed := &meter{ctx: im.ctx, r: f}
	plain, err := decompress(packed)
	if err != nil {
		return err
	}
	defer plain.Close()
	archive := tar.NewReader(&budget{r: plain, packed: packed, limits: im.s.limits})
	for n := int64(0); ; n++ {
		hdr, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return badArchive("it is not a whole tar", err)
		}
		if n >= im.s.limits.MaxEntries {
			return tooLarge("it has more than %d entries", im.s.limits.MaxEntries)
		}
		path, err := cleanPath(hdr.Name, im.s.limits)
		if err == nil {
			err = visit(path, hdr, archive)
		}
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return entryError(hdr.Name, err)
		}
	}
}

// isNested tells an archive of images from that of a root file system by what
// lies at its top. It reads no further than to the first name that only a root
// file system has.
func (im *importer) isNested(f io.Reader) (bool, error) {
	marked := false
	err := im.walk(f, func(path string, _ *tar.Header, _ io.Reader) error {
		top, _, _ := strings.Cut(path, "/")
		switch {
		case path == layoutFile || path == dockerManifest:
			marked = true
		case top == "" || top == "blobs" || top == "index.json" || top == "repositories":
		case isHash(strings.TrimPrefix(top, "sha256:")):
		default:
			marked = false
			return io.EOF
		}
		return nil
	})
	return marked, err
}

// isHash says whether a name is a sha256 hash, with or without an extension.
func isHash(name string) bool {
	hex, _, _ := strings.Cut(name, ".")
	return validDigest("sha256:" + hex)
}

// spread writes one entry of an archive of images below root, whose methods
// let nothing out of it.
func spread(root *os.Root, path string, hdr *tar.Header, r io.Reader) error {
	dir, _ := split(path)
	if dir != "" {
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return hostile("its directory cannot be made: %w", err)
		}
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeRegA: //nolint:staticcheck // old archives have it
		f, err := root.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			return hostile("it is there twice")
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(struct{ io.Writer }{f}, r)
		return errors.Join(err, f.Close())
	case tar.TypeSymlink: // docker save up to 24 links equal layers
		return root.Symlink(hdr.Linkname, path)
	}
	return nil
}

// rootFS imports the one layer that a root file system is.
func (im *importer) rootFS(f io.Reader) (*Image, error) {
	name, err := im.name()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(im.work.dir, "layer")
	if err := os.Mkdir(dir, 0o711); err != nil {
		return nil, storeError("make", dir, err)
	}
	rec, err := im.s.unpack(im.ctx, filepath.Join(dir, layerFS), f, nil)
	if err != nil {
		return nil, err
	}
	config := &v1.ConfigFile{OS: im.s.platform.OS, Architecture: im.s.platform.Architecture, Variant: im.s.platform.Variant}
	config.Config.Env = []string{defaultPath}
	diffID, err := v1.NewHash(rec.DiffID)
	if err != nil {
		return nil, storeError("hash", "the layer", err)
	}
	config.RootFS = v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID}}
	data, err := json.Marshal(config)
	if err != nil {
		return nil, storeError("encode", "the configuration", err)
	}
	found := &resolved{digest: fmt.Sprintf("sha256:%x", sha256.Sum256(data)), platform: im.s.platform.String(),
		config: config, layers: []resolvedLayer{{diffID: rec.DiffID}}}
	return im.hold(found, name, func() error { return im.s.place(dir, rec) })
}

// hold enters an image into the index once its layers are placed, keeping
// them from a GC meanwhile.
func (im *importer) hold(found *resolved, ref string, place func() error) (*Image, error) {
	if err := im.s.checkManifest(found); err != nil {
		return nil, err
	}
	hold, err := im.s.holdLayers(im.ctx, found)
	if err != nil {
		return nil, err
	}
	defer hold.release() //nolint:errcheck // swept later
	if err := place(); err != nil {
		return nil, err
	}
	return im.s.add(im.ctx, found, ref, SourceImport)
}

// name returns the canonical form of the first reference that is given.
func (im *importer) name(offered ...string) (string, error) {
	for _, ref := range append([]string{im.asked}, offered...) {
		if ref == "" {
			continue
		}
		parsed, err := normalize(ref)
		if err != nil {
			return "", err
		}
		if strings.Contains(parsed.Identifier(), ":") {
			return "", faas.InvalidField("name", "an imported image cannot be named by a digest")
		}
		return parsed.Name(), nil
	}
	return "", faas.InvalidField("name", "the archive does not name its image: give it a name")
}

// layers unpacks the layers of an image found in an archive, in order.
func (im *importer) layers(found *resolved, ref string, open func(resolvedLayer) (io.ReadCloser, error)) (*Image, error) {
	return im.hold(found, ref, func() error {
		for _, l := range found.uniqueLayers() {
			err := im.s.ensureLayer(im.ctx, l, nil, func(context.Context) (io.ReadCloser, func(error), error) {
				r, err := open(l)
				return r, func(error) {}, err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}
