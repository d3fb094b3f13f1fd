package pack

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
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

// Names that stand for removals in the layers of images.
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// opaqueMarks say that a directory hides what lies below it.
var opaqueMarks = [...]string{"trusted.overlay.opaque", "user.overlay.opaque"}

// xattrPrefix begins the records of extended attributes in a tar.
const xattrPrefix = "SCHILY.xattr."

// Options adjusts Layer. The zero value is usable.
type Options struct {
	// Overlay writes removals as overlayfs keeps them: devices 0/0, and
	// trusted.overlay.opaque. Otherwise they are names with a prefix, as in the
	// layers of images.
	Overlay bool
	// UIDShift and GIDShift are what owners are stored with, and lose.
	UIDShift, GIDShift int
}

// Layer writes an overlay layer as a tar. Sockets are left out, as in every
// image.
func Layer(ctx context.Context, layer string, w io.Writer, opts Options) error {
	p := &packer{out: tar.NewWriter(w), opts: opts, links: map[[2]uint64]string{}}
	err := filepath.WalkDir(layer, func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || path == layer {
			return err
		}
		name, err := filepath.Rel(layer, path)
		if err == nil {
			err = p.entry(path, name, entry)
		}
		return err
	})
	return errors.Join(err, p.out.Close())
}

type packer struct {
	out   *tar.Writer
	opts  Options
	links map[[2]uint64]string // files with several names → the first
}

func (p *packer) entry(path, name string, entry fs.DirEntry) error {
	if !p.opts.Overlay && strings.HasPrefix(entry.Name(), whiteoutPrefix) {
		return &faas.Error{Kind: faas.KindFailedPrecondition,
			Detail: fmt.Sprintf("an image's layer cannot hold the file %q: names that begin with %s are removals there", "/"+name, whiteoutPrefix),
			Remedy: "rename it in the sandbox and take the snapshot again"}
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: no details of the file", name)
	}
	switch {
	case info.Mode()&fs.ModeSocket != 0:
		return nil
	case info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0 && !p.opts.Overlay:
		return p.marker(filepath.Join(filepath.Dir(name), whiteoutPrefix+entry.Name()))
	}
	if err := p.file(path, name, info, st); err != nil || p.opts.Overlay || !info.IsDir() || !isOpaque(path) {
		return err
	}
	return p.marker(filepath.Join(name, opaqueMarker))
}

// marker writes an empty file whose name is what matters.
func (p *packer) marker(name string) error {
	return p.out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, ModTime: time.Unix(0, 0)})
}

func (p *packer) file(path, name string, info fs.FileInfo, st *syscall.Stat_t) error {
	hdr, err := p.header(path, name, info, st)
	if err != nil {
		return err
	}
	if err := p.out.WriteHeader(hdr); err != nil || hdr.Typeflag != tar.TypeReg {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(p.out, f)
	return err
}

func (p *packer) header(path, name string, info fs.FileInfo, st *syscall.Stat_t) (*tar.Header, error) {
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	hdr, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return nil, err
	}
	hdr.Name, hdr.Uname, hdr.Gname, hdr.Format = name, "", "", tar.FormatPAX
	hdr.AccessTime, hdr.ChangeTime = time.Time{}, time.Time{}
	if info.IsDir() {
		hdr.Name += "/"
	}
	hdr.Uid, hdr.Gid = hdr.Uid-p.opts.UIDShift, hdr.Gid-p.opts.GIDShift
	if hdr.PAXRecords, err = xattrRecords(path); err != nil {
		return nil, err
	}
	if p.opts.Overlay && info.IsDir() && isOpaque(path) {
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = map[string]string{}
		}
		hdr.PAXRecords[xattrPrefix+opaqueMarks[0]] = "y"
	}
	if st.Nlink > 1 && !info.IsDir() {
		key := [2]uint64{uint64(st.Dev), st.Ino} //nolint:unconvert // not the same type everywhere
		if first, seen := p.links[key]; seen {
			hdr.Typeflag, hdr.Linkname, hdr.Size, hdr.PAXRecords = tar.TypeLink, first, 0, nil
		} else {
			p.links[key] = name
		}
	}
	return hdr, nil
}

func isOpaque(dir string) bool {
	var value [1]byte
	for _, mark := range opaqueMarks {
		if n, err := unix.Lgetxattr(dir, mark, value[:]); err == nil && n == 1 && value[0] == 'y' {
			return true
		}
	}
	return false
}

// xattrRecords reads the attributes that a program inside can see and set.
func xattrRecords(path string) (map[string]string, error) {
	list := make([]byte, 64<<10) // the kernel's own limit
	n, err := unix.Llistxattr(path, list)
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "list attributes", Path: path, Err: err}
	}
	records := map[string]string{}
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if name != "security.capability" && (!strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.overlay.")) {
			continue
		}
		size, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, &os.PathError{Op: "read attribute " + name, Path: path, Err: err}
		}
		records[xattrPrefix+name] = string(value[:size])
	}
	return records, nil
}
