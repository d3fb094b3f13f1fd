package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

// extractor writes the entries of one layer below a directory.
//
// Every path is resolved by openat2 with RESOLVE_IN_ROOT, so that symbolic
// links, absolute ones included, mean what they would mean inside the image
// and lead nowhere else. The last component is never followed: it is created,
// removed or changed by name relative to its directory's descriptor.
type extractor struct {
	root int // descriptor of the layer's root directory
	// rootDepth is how many slashes the root directory's own path has.
	rootDepth int
	own       ownership
	limits    Limits
	rec       layerRecord
	buffer    []byte

	// dirs holds what directories get at the end: while entries are written
	// into them they stay writable, and their times would change.
	dirs map[string]dirAttributes

	parentPath string // of parentFD
	parentFD   int    // -1: none
}

type dirAttributes struct {
	mode  uint32
	mtime time.Time
}

// impliedMode is that of directories which no entry describes.
const impliedMode = 0o755

func newExtractor(dir string, own ownership, limits Limits) (*extractor, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, storeError("make", dir, err)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, storeError("open", dir, err)
	}
	e := &extractor{root: fd, own: own, limits: limits, buffer: make([]byte, 256<<10),
		dirs: map[string]dirAttributes{"": {impliedMode, time.Unix(0, 0)}}, parentFD: -1}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		e.close()
		return nil, storeError("resolve", dir, err)
	}
	e.rootDepth = strings.Count(path, "/")
	if own.keep {
		if err := unix.Fchown(fd, own.uid, own.gid); err != nil {
			e.close()
			return nil, storeError("give away", dir, err)
		}
	}
	return e, nil
}

func (e *extractor) close() {
	e.forgetParent()
	unix.Close(e.root)
}

// open resolves a path inside the root.
func (e *extractor) open(path string, flags uint64) (int, error) {
	if path == "" {
		path = "."
	}
	for {
		fd, err := unix.Openat2(e.root, path, &unix.OpenHow{
			Flags:   flags | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
		case errors.Is(err, unix.ENOSYS):
			return -1, faas.Unavailable("this kernel has no openat2", "use Linux 5.11 or newer")
		case errors.Is(err, unix.ELOOP):
			return -1, hostile("its path goes in circles")
		default:
			return fd, err
		}
	}
}

func (e *extractor) forgetParent() {
	if e.parentFD >= 0 {
		unix.Close(e.parentFD)
		e.parentFD = -1
	}
}

// parent returns a descriptor of the directory dir, making it and those above
// it where they are missing. It stays open until the next call.
func (e *extractor) parent(dir string) (int, error) {
	if e.parentFD >= 0 && e.parentPath == dir {
		return e.parentFD, nil
	}
	e.forgetParent()
	fd, err := e.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		if fd, err = e.imply(dir); errors.Is(err, unix.ENOTDIR) {
			return -1, hostile("its path goes through a file")
		}
	}
	if err == nil {
		err = e.checkDepth(fd)
	}
	if err != nil {
		return -1, err
	}
	e.parentFD, e.parentPath = fd, dir
	return fd, nil
}

// checkDepth bounds the real depth of a directory, which links can make
// deeper than the path of any entry; it closes fd when it is too deep.
func (e *extractor) checkDepth(fd int) error {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err == nil && strings.Count(path, "/") <= e.rootDepth+e.limits.MaxDepth {
		return nil
	}
	unix.Close(fd)
	if err != nil && !errors.Is(err, unix.ENAMETOOLONG) {
		return err
	}
	return tooLarge("its path is deeper than %d", e.limits.MaxDepth)
}

// imply makes the missing directories of a path and opens the last.
func (e *extractor) imply(dir string) (int, error) {
	above, err := e.open("", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	for i := 0; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		path := dir[:i]
		fd, err := e.open(path, unix.O_PATH|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			_, base := split(path)
			if err = e.makeImplied(above, base, path); err == nil {
				fd, err = e.open(path, unix.O_PATH|unix.O_DIRECTORY)
			}
		}
		unix.Close(above)
		if err != nil {
			return -1, err
		}
		above = fd
	}
	return above, nil
}

func (e *extractor) makeImplied(parent int, base, path string) error {
	var st unix.Stat_t
	err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil && isWhiteout(&st): // hidden below and made anew here
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return hostile("its path goes through the link %q, which leads nowhere in this layer", path)
	case err == nil:
		return unix.ENOTDIR
	case !errors.Is(err, unix.ENOENT):
		return err
	}
	e.rec.ImpliedDirs++
	if err := e.mkdir(parent, base); err != nil {
		return err
	}
	e.dirs[path] = dirAttributes{impliedMode, time.Unix(0, 0)}
	return e.chownAt(parent, base, e.own.uid, e.own.gid)
}

// entry writes one entry.
func (e *extractor) entry(hdr *tar.Header, content io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	path, err := cleanPath(hdr.Name, e.limits)
	if err != nil {
		return err
	}
	if path == "" {
		return e.rootEntry(hdr)
	}
	dir, base := split(path)
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, whiteoutReserved) {
			return nil
		}
		if strings.HasPrefix(part, whiteoutPrefix) {
			return hostile("it lies in a whiteout")
		}
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return e.whiteoutEntry(dir, base)
	}
	parent, err := e.parent(dir)
	if err != nil {
		return err
	}
	return e.node(hdr, content, parent, base, path)
}

// rootEntry takes the attributes of the root directory over.
func (e *extractor) rootEntry(hdr *tar.Header) error {
	if hdr.Typeflag != tar.TypeDir {
		return hostile("the root is not a directory")
	}
	e.dirs[""] = dirAttributes{permissions(hdr), hdr.ModTime}
	if err := e.xattrs(e.root, hdr); err != nil {
		return err
	}
	uid, gid, _ := e.owner(hdr)
	return e.chownAt(e.root, ".", uid, gid)
}

func (e *extractor) node(hdr *tar.Header, content io.Reader, parent int, base, path string) error {
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse: //nolint:staticcheck // old archives have TypeRegA
		return e.regular(hdr, content, parent, base, path)
	case tar.TypeDir:
		return e.directory(hdr, parent, base, path)
	case tar.TypeSymlink:
		return e.symlink(hdr, parent, base, path)
	case tar.TypeLink:
		return e.hardLink(hdr, parent, base, path)
	case tar.TypeFifo:
		return e.fifo(hdr, parent, base, path)
	case tar.TypeChar:
		if hdr.Devmajor == 0 && hdr.Devminor == 0 { // a whiteout in overlay form
			return e.whiteout(parent, base)
		}
		e.rec.Devices++
		return nil
	case tar.TypeBlock:
		e.rec.Devices++
		return nil
	default:
		return hostile("its type %q is not known", hdr.Typeflag)
	}
}

// create makes something by name, after removing what has the name already:
// of two entries with one name the later counts.
func (e *extractor) create(parent int, base, path string, make func() error) error {
	err := make()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := e.remove(parent, base, path); err != nil {
		return err
	}
	return make()
}

func (e *extractor) remove(parent int, base, path string) error {
	delete(e.dirs, path)
	err := unix.Unlinkat(parent, base, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		err = removeAt(parent, base)
	}
	return err
}

func (e *extractor) regular(hdr *tar.Header, content io.Reader, parent int, base, path string) error {
	if hdr.Size < 0 || hdr.Size > e.limits.MaxBytes-e.rec.Bytes {
		return tooLarge("the layer unpacks to more than %d bytes", e.limits.MaxBytes)
	}
	fd := -1
	err := e.create(parent, base, path, func() (err error) {
		fd, err = unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, content, e.buffer)
	e.rec.Bytes += n
	if err == nil {
		err = e.attributes(fd, hdr)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return e.times(parent, base, hdr.ModTime)
}

func (e *extractor) directory(hdr *tar.Header, parent int, base, path string) error {
	var st unix.Stat_t
	err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
	case err == nil && !isWhiteout(&st):
		if err := e.remove(parent, base, path); err != nil {
			return err
		}
		fallthrough
	case err == nil || errors.Is(err, unix.ENOENT):
		if err := e.mkdir(parent, base); err != nil {
			return err
		}
	default:
		return err
	}
	e.dirs[path] = dirAttributes{permissions(hdr), hdr.ModTime}
	fd, err := openDirAt(parent, base)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	uid, gid, foreign := e.owner(hdr)
	if foreign {
		e.dirs[path] = dirAttributes{permissions(hdr) &^ (unix.S_ISUID | unix.S_ISGID), hdr.ModTime}
	}
	if e.own.keep {
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return err
		}
	}
	return e.xattrs(fd, hdr)
}

// mkdir makes a directory. In place of a whiteout it becomes opaque: this
// layer hid the one below and made its own.
func (e *extractor) mkdir(parent int, base string) error {
	err := unix.Mkdirat(parent, base, 0o700)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := unix.Unlinkat(parent, base, 0); err != nil {
		return err
	}
	if err := unix.Mkdirat(parent, base, 0o700); err != nil {
		return err
	}
	return e.opaqueAt(parent, base)
}

func (e *extractor) symlink(hdr *tar.Header, parent int, base, path string) error {
	if hdr.Linkname == "" || len(hdr.Linkname) > maxPathBytes || strings.ContainsRune(hdr.Linkname, 0) {
		return hostile("its target is empty, too long or not a path")
	}
	err := e.create(parent, base, path, func() error { return unix.Symlinkat(hdr.Linkname, parent, base) })
	if err != nil {
		return err
	}
	uid, gid, _ := e.owner(hdr)
	if err := e.chownAt(parent, base, uid, gid); err != nil {
		return err
	}
	return e.times(parent, base, hdr.ModTime)
}

func (e *extractor) hardLink(hdr *tar.Header, parent int, base, path string) error {
	target, err := cleanPath(hdr.Linkname, e.limits)
	if err != nil {
		return err
	}
	dir, name := split(target)
	from, err := e.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return hostile("it is a hard link to %q, which is not in this layer", hdr.Linkname)
	}
	defer unix.Close(from)
	var st, there unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || isWhiteout(&st) {
		return hostile("it is a hard link to %q, which is not in this layer", hdr.Linkname)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return hostile("it is a hard link to the directory %q", hdr.Linkname)
	}
	if err := unix.Fstatat(parent, base, &there, unix.AT_SYMLINK_NOFOLLOW); err == nil &&
		there.Ino == st.Ino && there.Dev == st.Dev {
		return nil
	}
	return e.create(parent, base, path, func() error { return unix.Linkat(from, name, parent, base, 0) })
}

func (e *extractor) fifo(hdr *tar.Header, parent int, base, path string) error {
	err := e.create(parent, base, path, func() error { return unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0) })
	if err != nil {
		return err
	}
	uid, gid, _ := e.owner(hdr)
	if err := e.chownAt(parent, base, uid, gid); err != nil {
		return err
	}
	// The name was made a moment ago by us in a directory that is ours alone.
	if err := unix.Fchmodat(parent, base, permissions(hdr)&0o777, 0); err != nil {
		return err
	}
	return e.times(parent, base, hdr.ModTime)
}

// finish sets what waited for the directories' content, deepest first.
func (e *extractor) finish() error {
	e.forgetParent()
	paths := slices.SortedFunc(maps.Keys(e.dirs), func(a, b string) int { return len(b) - len(a) })
	for _, path := range paths {
		fd, err := e.open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			continue // a later entry replaced it or something above it
		}
		attr := e.dirs[path]
		err = e.times(fd, ".", attr.mtime)
		if err == nil {
			err = unix.Fchmod(fd, attr.mode)
		}
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}
