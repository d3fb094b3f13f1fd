package oci

import (
	"archive/tar"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// xattrRecord begins the names of the tar records that hold extended
	// attributes.
	xattrRecord = "SCHILY.xattr."
	// gvisorOpaque marks a directory in gVisor's layer that hides those of its
	// name below, and opaqueMark does in a layer that this package mounts.
	gvisorOpaque, opaqueMark = "trusted.overlay.opaque", "user.overlay.opaque"
	aclRecord                = "system.posix_acl_"
)

// upperWriter makes a layer directory of gVisor's writable layer, which comes
// in two parts: a tar of names and attributes, whose files' content is where
// their data is in the second, the file on the host's disk that holds the
// layer. Neither is trusted: nothing is written outside the directory, no
// symbolic link followed, and no device made that is not a whiteout.
type upperWriter struct {
	ctx   context.Context
	data  *os.File
	root  int // the layer's directory
	shift int // host id of the sandbox's root
	clone bool

	parent     int // the directory of the last entry
	parentPath string
	dirs       []dirTime
}

// dirTime is set at the end: writing into a directory changes it.
type dirTime struct {
	path string
	at   time.Time
}

// writeUpper fills the directory.
func writeUpper(ctx context.Context, names io.Reader, data *os.File, to string, shift int) error {
	root, err := unix.Open(to, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: to, Err: err}
	}
	defer unix.Close(root) //nolint:errcheck // a directory
	w := &upperWriter{ctx: ctx, data: data, root: root, shift: shift, clone: true, parent: -1}
	defer w.leave()
	archive := tar.NewReader(names)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return errors.Join(w.removeSpacer(), w.times())
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("read gVisor's writable layer: %w", err)
		}
		if err := w.entry(h, archive); err != nil {
			return fmt.Errorf("write %q of gVisor's writable layer: %w", h.Name, err)
		}
	}
}

// entry makes one file of any kind.
func (w *upperWriter) entry(h *tar.Header, content io.Reader) error {
	at := path.Clean(strings.TrimSuffix(h.Name, "/"))
	if at == "." {
		w.dirs = append(w.dirs, dirTime{at, h.ModTime})
		return w.attributes(w.root, ".", h)
	}
	dir, name := path.Split(at)
	if err := w.enter(path.Clean(dir)); err != nil {
		return err
	}
	made, err := w.make(h, name, content)
	if err != nil || !made {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		w.dirs = append(w.dirs, dirTime{at, h.ModTime})
	}
	if h.Typeflag == tar.TypeLink {
		return nil
	}
	return w.attributes(w.parent, name, h)
}

// removeSpacer leaves the driver's own removal out. It comes at the end, since
// gVisor makes all whiteouts names of one file.
func (w *upperWriter) removeSpacer() error {
	dir, name := path.Split(strings.TrimPrefix(spacerPath, "/"))
	if err := w.enter(path.Clean(dir)); err != nil {
		return ignoreMissing(err)
	}
	if !isWhiteoutAt(w.parent, name) {
		return nil
	}
	return unix.Unlinkat(w.parent, name, 0)
}

// make makes what the header says; false: it is left out.
func (w *upperWriter) make(h *tar.Header, name string, content io.Reader) (bool, error) {
	switch h.Typeflag {
	case tar.TypeDir:
		return true, unix.Mkdirat(w.parent, name, 0o700)
	case tar.TypeReg:
		return true, w.file(name, content)
	case tar.TypeSymlink:
		return true, unix.Symlinkat(h.Linkname, w.parent, name)
	case tar.TypeFifo:
		return true, unix.Mknodat(w.parent, name, unix.S_IFIFO|0o600, 0)
	case tar.TypeLink:
		dir, base := path.Split(path.Clean(h.Linkname))
		from, err := w.open(path.Clean(dir))
		if err != nil {
			return false, err
		}
		defer unix.Close(from) //nolint:errcheck // a directory
		err = unix.Linkat(from, base, w.parent, name, 0)
		if errors.Is(err, unix.EMLINK) && isWhiteoutAt(from, base) {
			err = unix.Mknodat(w.parent, name, unix.S_IFCHR, 0)
		}
		return true, err
	case tar.TypeChar:
		if h.Devmajor == 0 && h.Devminor == 0 {
			return true, unix.Mknodat(w.parent, name, unix.S_IFCHR, 0)
		}
	}
	return false, nil
}

// enter makes a directory that was written before the current one.
func (w *upperWriter) enter(dir string) error {
	if w.parent >= 0 && w.parentPath == dir {
		return nil
	}
	fd, err := w.open(dir)
	if err != nil {
		return err
	}
	w.leave()
	w.parent, w.parentPath = fd, dir
	return nil
}

func (w *upperWriter) leave() {
	if w.parent >= 0 {
		unix.Close(w.parent) //nolint:errcheck // a directory
		w.parent = -1
	}
}

func (w *upperWriter) open(dir string) (int, error) {
	return unix.Openat2(w.root, dir, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

// segment says where data of a file is: its bytes from Start to End are at
// Data of the layer's file.
type segment struct{ Start, End, Data uint64 }

// file makes a regular file and copies its data.
func (w *upperWriter) file(name string, content io.Reader) error {
	fd, err := unix.Openat(w.parent, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var size uint64
	if err := binary.Read(content, binary.LittleEndian, &size); err != nil {
		return err
	}
	if size > math.MaxInt64 {
		return fmt.Errorf("it has %d bytes", size)
	}
	if err := f.Truncate(int64(size)); err != nil {
		return err
	}
	for {
		var s segment
		err := binary.Read(content, binary.LittleEndian, &s)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = w.ctx.Err()
		}
		if err != nil {
			return err
		}
		if end := min(s.End, size); s.Start < end {
			if err := w.copy(f, s.Start, end, s.Data); err != nil {
				return err
			}
		}
	}
}

// copy copies data, or shares it where the file system can.
func (w *upperWriter) copy(to *os.File, start, end, from uint64) error {
	if from > math.MaxInt64-(end-start) {
		return errors.New("its data is nowhere")
	}
	if w.clone {
		err := unix.IoctlFileCloneRange(int(to.Fd()), &unix.FileCloneRange{
			Src_fd: int64(w.data.Fd()), Src_offset: from, Src_length: end - start, Dest_offset: start,
		})
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINVAL) { // which the unaligned end of a file may give
			w.clone = false
		}
	}
	return copyData(w.data, to, int64(from), int64(start), int64(end-start)) //nolint:gosec // compared above
}

// copyData copies bytes between files and leaves holes.
func copyData(from, to *os.File, source, target, length int64) error {
	for end := source + length; source < end; {
		data, err := unix.Seek(int(from.Fd()), source, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && data >= end {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(from.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		target += data - source
		hole = min(hole, end)
		for source = data; source < hole; {
			n, err := unix.CopyFileRange(int(from.Fd()), &source, int(to.Fd()), &target, int(min(hole-source, 1<<30)), 0)
			if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
				var copied int64
				copied, err = io.Copy(io.NewOffsetWriter(to, target), io.NewSectionReader(from, source, hole-source))
				n, source, target = int(copied), source+copied, target+copied
			}
			if err != nil {
				return err
			}
			if n == 0 {
				return io.ErrUnexpectedEOF
			}
		}
	}
	return nil
}

// attributes sets owner, mode, extended attributes and times.
func (w *upperWriter) attributes(dir int, name string, h *tar.Header) error {
	if err := unix.Fchownat(dir, name, h.Uid+w.shift, h.Gid+w.shift, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(dir, name, uint32(h.Mode)&0o7777, 0); err != nil { //nolint:gosec // masked
			return err
		}
	}
	for key, value := range h.PAXRecords {
		if attribute, ok := strings.CutPrefix(key, xattrRecord); ok {
			if err := w.xattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir, name), attribute, value); err != nil {
				return err
			}
		}
	}
	at := unix.NsecToTimespec(h.ModTime.UnixNano())
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}

// xattr sets one extended attribute. What a sandbox sets of those that the
// host's overlay obeys is left out.
func (w *upperWriter) xattr(file, name, value string) error {
	content := []byte(value)
	switch {
	case name == gvisorOpaque:
		name, content = opaqueMark, []byte("y")
	case strings.HasPrefix(name, "user.overlay."), strings.HasPrefix(name, "trusted."):
		return nil
	case strings.HasPrefix(name, aclRecord):
		var err error
		if content, err = base64.RawStdEncoding.DecodeString(value); err != nil {
			return fmt.Errorf("access list: %w", err)
		}
		shiftACL(content, w.shift)
	}
	err := unix.Lsetxattr(file, name, content, 0)
	if errors.Is(err, unix.EOPNOTSUPP) && name != opaqueMark {
		return nil
	}
	return err
}

// shiftACL makes the users and groups of an access list those of the host.
func shiftACL(acl []byte, shift int) {
	const header, entry, user, group = 4, 8, 0x02, 0x08
	for i := header; i+entry <= len(acl); i += entry {
		if tag := binary.LittleEndian.Uint16(acl[i:]); tag == user || tag == group {
			id := binary.LittleEndian.Uint32(acl[i+4:])
			binary.LittleEndian.PutUint32(acl[i+4:], id+uint32(shift)) //nolint:gosec // an id
		}
	}
}

// times sets those of the directories, the deepest first.
func (w *upperWriter) times() error {
	for i := len(w.dirs) - 1; i >= 0; i-- {
		d := w.dirs[i]
		dir, name := path.Split(d.path)
		if err := w.enter(path.Clean(dir)); err != nil {
			return err
		}
		at := unix.NsecToTimespec(d.at.UnixNano())
		if err := unix.UtimesNanoAt(w.parent, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "set times", Path: d.path, Err: err}
		}
	}
	return nil
}
