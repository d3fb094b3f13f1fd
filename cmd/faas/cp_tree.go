package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/faas-platform/faas"
)

// writeFile writes a file that is there when all of it is; what is no file,
// such as a device, is written to as it is, and so is standard output.
func writeFile(name string, mode fs.FileMode, from io.Reader) error {
	if resolved, err := filepath.EvalSymlinks(name); err == nil && name != "-" {
		name = resolved // a link stays one
	}
	st, err := os.Lstat(name)
	switch {
	case name == "-":
	case err == nil && st.IsDir():
		return faas.InvalidField("", "%s is a directory, which a file cannot be copied over", name)
	case err == nil && !st.Mode().IsRegular():
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, from)
		return errors.Join(err, f.Close())
	}
	err = writeWhole(name, func(w io.Writer) error {
		_, err := io.Copy(w, from)
		return err
	})
	if err != nil || name == "-" {
		return err
	}
	return os.Chmod(name, mode)
}

// packTree writes the tree below a directory as a tar archive with names
// relative to it. All in it is root's: this machine's users are not those of an
// instance. Links stay links; what is neither a file, a directory nor a link is
// left out, with a word about it.
func packTree(ctx context.Context, dir string, to io.Writer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	archive := tar.NewWriter(to)
	err = fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return packMember(archive, root, name)
	})
	if err != nil {
		return err
	}
	return archive.Close()
}

func packMember(archive *tar.Writer, root *os.Root, name string) error {
	st, err := root.Lstat(name)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: int64(st.Mode().Perm()), ModTime: st.ModTime(), Format: tar.FormatPAX}
	switch mode := st.Mode(); {
	case mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case mode&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = root.Readlink(name); err != nil {
			return err
		}
		h.Linkname = filepath.ToSlash(h.Linkname)
	case mode.IsRegular():
		return packFile(archive, root, h)
	default:
		fmt.Fprintf(os.Stderr, "faas: %s is left out: it is neither a file, a directory nor a link\n", name)
		return nil
	}
	return archive.WriteHeader(h)
}

func packFile(archive *tar.Writer, root *os.Root, h *tar.Header) error {
	f, err := root.Open(h.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	name := h.Name
	h.Typeflag, h.Size = tar.TypeReg, st.Size()
	if err := archive.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(archive, io.LimitReader(f, h.Size)) // what is added under way is left out
	if err == nil && n < h.Size {
		return faas.Errorf(faas.KindConflict, "%s became shorter while it was copied", name)
	}
	return err
}

// unpackTree unpacks a tar archive into a directory, which it makes. An
// instance's programs may have made the archive: every member is reached
// through an os.Root, so that no name and no link leads out of the directory,
// and no member gets a set-id bit. All in it is this user's.
func unpackTree(dir string, from io.Reader) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return faas.InvalidField("", "%s is a file, which a directory cannot be copied over", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &unpacking{root: root}
	archive := tar.NewReader(from)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = x.member(h, archive)
		}
		if err != nil {
			return errors.Join(err, x.finish())
		}
	}
	_, err = io.Copy(io.Discard, from) // what follows the end of the archive
	return errors.Join(err, x.finish())
}

// unpacking is an archive being unpacked.
type unpacking struct {
	root        *os.Root
	directories []*tar.Header // get their permissions and times at the end, when nothing is made in them any more
}

func (x *unpacking) member(h *tar.Header, content io.Reader) error {
	name := filepath.FromSlash(strings.TrimSuffix(h.Name, "/"))
	if !filepath.IsLocal(name) {
		return faas.Errorf(faas.KindInvalidArgument, "the archive is refused: %q leads out of the directory", h.Name)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return x.directory(name, h)
	case tar.TypeReg:
		return x.file(name, h, content)
	case tar.TypeSymlink:
		return errors.Join(x.clear(name), x.root.Symlink(filepath.FromSlash(h.Linkname), name))
	case tar.TypeLink:
		return errors.Join(x.clear(name), x.root.Link(filepath.FromSlash(h.Linkname), name))
	}
	fmt.Fprintf(os.Stderr, "faas: %s is left out: it is neither a file, a directory nor a link\n", name)
	return nil
}

// directory makes a directory; one that is there keeps its permissions.
func (x *unpacking) directory(name string, h *tar.Header) error {
	st, err := x.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x.directories = append(x.directories, h)
		return x.root.Mkdir(name, 0o700)
	case err == nil && !st.IsDir():
		return faas.Errorf(faas.KindConflict, "%s is no directory here, and is one in the instance", name)
	}
	return err
}

func (x *unpacking) file(name string, h *tar.Header, content io.Reader) error {
	if err := x.clear(name); err != nil {
		return err
	}
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return x.attributes(name, h)
}

// clear removes what a member replaces; a directory is not replaced.
func (x *unpacking) clear(name string) error {
	st, err := x.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.IsDir():
		return faas.Errorf(faas.KindConflict, "%s is a directory here, and none in the instance", name)
	}
	return x.root.Remove(name)
}

func (x *unpacking) attributes(name string, h *tar.Header) error {
	return errors.Join(x.root.Chmod(name, h.FileInfo().Mode().Perm()), x.root.Chtimes(name, time.Time{}, h.ModTime))
}

// finish goes from the leaves up: what lies below is reached through what is
// above.
func (x *unpacking) finish() error {
	var failed error
	for i := len(x.directories) - 1; i >= 0; i-- {
		h := x.directories[i]
		failed = errors.Join(failed, x.attributes(filepath.FromSlash(strings.TrimSuffix(h.Name, "/")), h))
	}
	return failed
}
