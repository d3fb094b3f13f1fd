//go:build unix

package agent

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/faas-platform/faas"
)

// maxLinkTarget bounds the target of a symbolic link in an archive.
const maxLinkTarget = 4096

// tarOut sends the tree below root. It walks through an os.Root, so that a
// directory that is replaced by a link under way leads nowhere else.
func (r *request) tarOut(dir, asked string) error {
	root, err := openTree(dir)
	if err != nil {
		return fileError("path", asked, err)
	}
	defer root.Close() //nolint:errcheck // read only
	if err := r.reply(nil); err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(onlyWriter{r.out}, 64<<10)
	w := &archiveWriter{request: r, root: root, tar: tar.NewWriter(buffered), links: map[fileKey]string{}}
	if err := w.add("."); err != nil {
		return fileError("path", asked, err)
	}
	if err := errors.Join(w.tar.Close(), buffered.Flush()); err != nil {
		return err
	}
	return r.out.CloseWrite()
}

// openTree opens a directory. What is no directory is told by os.OpenRoot in
// words only.
func openTree(dir string) (*os.Root, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		if st, statErr := os.Stat(dir); statErr == nil && !st.IsDir() {
			return nil, syscall.ENOTDIR
		}
	}
	return root, err
}

// fileKey tells files with several names apart.
type fileKey struct{ device, inode uint64 }

type archiveWriter struct {
	*request
	root  *os.Root
	tar   *tar.Writer
	links map[fileKey]string // first name of each file with several
}

func (w *archiveWriter) add(name string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	st, err := w.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) && name != "." {
		return nil // removed under way
	}
	if err != nil {
		return err
	}
	if st.Mode()&fs.ModeSocket != 0 {
		return nil // archives have no sockets
	}
	if err := w.entry(name, st); err != nil || !st.IsDir() {
		return err
	}
	f, err := w.root.Open(name)
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	f.Close() //nolint:errcheck // read only
	if err != nil {
		return err
	}
	for _, e := range sortedNames(entries) {
		if err := w.add(path.Join(name, e)); err != nil {
			return err
		}
	}
	return nil
}

func (w *archiveWriter) entry(name string, st fs.FileInfo) error {
	h := &tar.Header{Name: name, Mode: int64(st.Mode().Perm()), ModTime: st.ModTime(), Format: tar.FormatPAX}
	for bit, value := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if st.Mode()&bit != 0 {
			h.Mode |= value
		}
	}
	sys, _ := st.Sys().(*syscall.Stat_t)
	if sys != nil {
		h.Uid, h.Gid = int(sys.Uid), int(sys.Gid)
	}
	switch mode := st.Mode(); {
	case mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case mode&fs.ModeSymlink != 0:
		target, err := w.root.Readlink(name)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case mode&fs.ModeNamedPipe != 0:
		h.Typeflag = tar.TypeFifo
	case mode&fs.ModeDevice != 0:
		return w.device(h, mode, sys)
	default:
		return w.regular(name, h, sys)
	}
	return w.tar.WriteHeader(h)
}

func (w *archiveWriter) device(h *tar.Header, mode fs.FileMode, sys *syscall.Stat_t) error {
	h.Typeflag = tar.TypeBlock
	if mode&fs.ModeCharDevice != 0 {
		h.Typeflag = tar.TypeChar
	}
	if sys != nil {
		h.Devmajor, h.Devminor = deviceNumbers(uint64(sys.Rdev))
	}
	return w.tar.WriteHeader(h)
}

// regular adds a file. Its size is what it had when it was opened: what is
// appended under way is left out, what is cut off is replaced by zeros.
func (w *archiveWriter) regular(name string, h *tar.Header, sys *syscall.Stat_t) error {
	if sys != nil && sys.Nlink > 1 {
		key := fileKey{uint64(sys.Dev), sys.Ino}
		if first, ok := w.links[key]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return w.tar.WriteHeader(h)
		}
		w.links[key] = name
	}
	f, err := w.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	st, err := f.Stat()
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, st.Size()
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(w.tar, io.LimitReader(diskFile{w.agent, f}, h.Size))
	if err == nil && n < h.Size {
		_, err = io.CopyN(w.tar, zeros{}, h.Size-n)
	}
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// tarIn unpacks the request's body below dir. Every member is reached through
// an os.Root: no name, and no link that an earlier member made, leads out.
func (r *request) tarIn(dir, asked string) error {
	who, err := r.agent.lookupUser("")
	if err != nil {
		return err
	}
	if err := r.agent.makeDirs(dir, 0o755, who); err != nil {
		return fileError("path", asked, err)
	}
	root, err := openTree(dir)
	if err != nil {
		return fileError("path", asked, err)
	}
	defer root.Close() //nolint:errcheck // nothing is written through it
	if err := r.reply(nil); err != nil {
		return err
	}
	x := &extraction{request: r, root: root, times: map[string]time.Time{}}
	src := bufio.NewReaderSize(r.in, 64<<10)
	for in := tar.NewReader(src); ; {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return archiveError(err)
		}
		if err := x.member(h, in); err != nil {
			return memberError(h.Name, err)
		}
	}
	if _, err := io.Copy(io.Discard, src); err != nil { // what follows the end of the archive
		return archiveError(err)
	}
	x.finish()
	return nil
}

func archiveError(err error) error {
	var known *faas.Error
	if errors.As(err, &known) {
		return err
	}
	return faas.InvalidField("archive", "it cannot be read: %v", err)
}

func memberError(name string, err error) error {
	if errors.Is(err, errMember) || strings.Contains(err.Error(), "path escapes") {
		return faas.InvalidField("archive", "member %q is refused: %s", name, reason(err))
	}
	return fileError("archive", name, err)
}

var errMember = errors.New("refused")

// extraction is an archive being unpacked.
type extraction struct {
	*request
	root  *os.Root
	times map[string]time.Time // of directories, set at the end
}

func (x *extraction) member(h *tar.Header, body io.Reader) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	name := filepath.Clean(strings.TrimLeft(h.Name, "/"))
	if name == "." && h.Typeflag == tar.TypeDir {
		return nil
	}
	if !filepath.IsLocal(name) {
		return memberRefused("its name leads out of the directory")
	}
	if parent := filepath.Dir(name); parent != "." {
		if err := x.root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return x.directory(name, h)
	case tar.TypeReg, tar.TypeRegA: //nolint:staticcheck // old archives have it
		return x.file(name, h, body)
	case tar.TypeSymlink:
		return x.symlink(name, h)
	case tar.TypeLink:
		return x.link(name, h)
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return memberRefused("it is neither a file, a directory nor a link")
	}
}

func memberRefused(why string) error { return &refusal{why} }

type refusal struct{ why string }

func (r *refusal) Error() string        { return r.why }
func (r *refusal) Is(target error) bool { return target == errMember }

func (x *extraction) directory(name string, h *tar.Header) error {
	if st, err := x.root.Lstat(name); err == nil && !st.IsDir() {
		if err := x.root.Remove(name); err != nil {
			return err
		}
	}
	if err := x.root.MkdirAll(name, 0o755); err != nil {
		return err
	}
	x.times[name] = h.ModTime
	return x.attributes(name, h)
}

func (x *extraction) file(name string, h *tar.Header, body io.Reader) error {
	if err := x.clear(name); err != nil {
		return err
	}
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(onlyWriter{diskFile{x.agent, f}}, body)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := x.attributes(name, h); err != nil {
		return err
	}
	return x.root.Chtimes(name, h.ModTime, h.ModTime)
}

func (x *extraction) symlink(name string, h *tar.Header) error {
	if len(h.Linkname) > maxLinkTarget {
		return memberRefused("its target is too long")
	}
	if err := x.clear(name); err != nil {
		return err
	}
	if err := x.root.Symlink(h.Linkname, name); err != nil {
		return err
	}
	return x.owner(name, h)
}

func (x *extraction) link(name string, h *tar.Header) error {
	target := filepath.Clean(strings.TrimLeft(h.Linkname, "/"))
	if !filepath.IsLocal(target) {
		return memberRefused("its target leads out of the directory")
	}
	if target == name {
		return nil
	}
	if err := x.clear(name); err != nil {
		return err
	}
	return x.root.Link(target, name)
}

// clear removes what a member replaces; a directory is not replaced.
func (x *extraction) clear(name string) error {
	st, err := x.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.IsDir() {
		return syscall.EISDIR
	}
	return x.root.Remove(name)
}

// owner sets a member's owner where the agent may.
func (x *extraction) owner(name string, h *tar.Header) error {
	if os.Geteuid() != 0 || h.Uid == os.Geteuid() && h.Gid == os.Getgid() {
		return nil
	}
	err := x.root.Lchown(name, h.Uid, h.Gid)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL) {
		return nil // a sandbox with one user: all belongs to it
	}
	return err
}

func (x *extraction) attributes(name string, h *tar.Header) error {
	if err := x.owner(name, h); err != nil {
		return err
	}
	return x.root.Chmod(name, h.FileInfo().Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
}

// finish gives the directories their times, now that nothing is made in them.
func (x *extraction) finish() {
	for name, t := range x.times {
		x.root.Chtimes(name, t, t) //nolint:errcheck // a later member may have replaced it
	}
}
