package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/snapshot/chunk"
)

// Limits of one archived snapshot: what a damaged or hostile index can make
// the reader do.
const (
	maxEntries = 4 << 20
	maxBytes   = 1 << 43 // of one file, as a reader sees it
)

// index lists a snapshot's files and the pieces that hold them.
type index struct {
	Version  int             `json:"version"`
	Manifest json.RawMessage `json:"manifest"`
	Parts    []part          `json:"parts"`
}

type part struct {
	Name    string  `json:"name"` // fs or memory
	Entries []entry `json:"entries"`
}

// entry is one file, directory or special file; parents come before what they
// hold.
type entry struct {
	Path    string            `json:"path"` // relative, slash-separated; "." is the part's root
	Mode    uint32            `json:"mode"` // st_mode
	UID     uint32            `json:"uid"`
	GID     uint32            `json:"gid"`
	Device  uint64            `json:"device,omitempty"`
	ModTime int64             `json:"mtime_ns"`
	Size    int64             `json:"size,omitempty"`
	Target  string            `json:"target,omitempty"` // of a symbolic link
	Link    string            `json:"link,omitempty"`   // another name of this entry, an earlier path
	Xattrs  map[string][]byte `json:"xattrs,omitempty"`
	Extents []extent          `json:"extents,omitempty"` // what lies between is a hole
}

type extent struct {
	Offset int64   `json:"offset"`
	Pieces []piece `json:"pieces"`
}

type piece struct {
	Ref  chunk.Ref `json:"ref"`
	Size int64     `json:"size"`
}

// pieces calls f for every piece that the index names.
func (x *index) pieces(f func(e *entry, p piece) error) error {
	for _, part := range x.Parts {
		for i := range part.Entries {
			for _, ext := range part.Entries[i].Extents {
				for _, p := range ext.Pieces {
					if err := f(&part.Entries[i], p); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// bytes is how much data the files hold.
func (x *index) bytes() int64 {
	var total int64
	x.pieces(func(_ *entry, p piece) error { total += p.Size; return nil }) //nolint:errcheck // the function returns none
	return total
}

// pack stores the files below dir and returns their entries and the bytes
// that were not stored already.
func pack(ctx context.Context, store *chunk.Store, dir string, done progress) ([]entry, int64, error) {
	if done == nil {
		done = func(int64, bool) {}
	}
	p := &packer{store: store, links: map[inode]string{}, done: done}
	err := filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return p.add(ctx, file, filepath.ToSlash(rel))
	})
	return p.entries, p.stored, err
}

type packer struct {
	store   *chunk.Store
	entries []entry
	links   map[inode]string
	stored  int64
	done    progress
}

func (p *packer) add(ctx context.Context, file, rel string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return &os.PathError{Op: "stat", Path: file, Err: err}
	}
	e := entry{Path: rel, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Device: st.Rdev, ModTime: st.Mtim.Nano()}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		key := inode{uint64(st.Dev), st.Ino}
		if first, seen := p.links[key]; seen {
			p.entries = append(p.entries, entry{Path: rel, Link: first})
			return nil
		}
		p.links[key] = rel
	}
	var err error
	switch kind {
	case unix.S_IFLNK:
		e.Target, err = os.Readlink(file)
	case unix.S_IFREG:
		e.Size = st.Size
		e.Extents, err = p.content(ctx, file, st.Size)
	}
	if err != nil {
		return err
	}
	if e.Xattrs, err = readXattrs(file); err != nil {
		return err
	}
	p.entries = append(p.entries, e)
	return nil
}

func (p *packer) content(ctx context.Context, file string, size int64) ([]extent, error) {
	f, err := openRegular(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []extent
	for offset := int64(0); offset < size; {
		data, err := unix.Seek(int(f.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, err
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		ext := extent{Offset: data}
		cutter := chunk.NewCutter(io.NewSectionReader(f, data, hole-data))
		for {
			b, err := cutter.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			ref, stored, err := p.store.Put(ctx, b)
			if err != nil {
				return nil, err
			}
			p.stored += stored
			p.done(int64(len(b)), false)
			ext.Pieces = append(ext.Pieces, piece{ref, int64(len(b))})
		}
		list = append(list, ext)
		offset = hole
	}
	return list, nil
}

func readXattrs(file string) (map[string][]byte, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(file, list)
	if errors.Is(err, unix.EOPNOTSUPP) || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if size, err := unix.Lgetxattr(file, name, value); err == nil {
			out[name] = append([]byte{}, value[:size]...)
		}
	}
	return out, nil
}

// unpack writes the entries below the empty directory dir. It trusts nothing:
// a path leads through directories that this very call made, and through
// nothing else.
func unpack(ctx context.Context, store *chunk.Store, entries []entry, dir string, done progress) error {
	if len(entries) > maxEntries {
		return faas.Errorf(faas.KindFailedPrecondition, "the index lists %d files; at most %d are possible", len(entries), maxEntries)
	}
	if done == nil {
		done = func(int64, bool) {}
	}
	u := &unpacker{store: store, dir: dir, made: map[string]uint32{}, done: done}
	for i := range entries {
		if err := u.entry(ctx, &entries[i]); err != nil {
			return fmt.Errorf("unpack %q: %w", entries[i].Path, err)
		}
	}
	// Directories last: what was put into them moved their times.
	for i := len(entries) - 1; i >= 0; i-- {
		if e := &entries[i]; e.Link == "" && e.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := applyEntry(filepath.Join(dir, e.Path), e); err != nil {
				return fmt.Errorf("unpack %q: %w", e.Path, err)
			}
		}
	}
	return nil
}

type unpacker struct {
	store *chunk.Store
	dir   string
	made  map[string]uint32 // path → file type
	done  progress
}

func (u *unpacker) entry(ctx context.Context, e *entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := u.checkPath(e); err != nil {
		return err
	}
	target := filepath.Join(u.dir, filepath.FromSlash(e.Path))
	if e.Link != "" {
		kind, made := u.made[e.Link]
		if !made || kind == unix.S_IFDIR {
			return faas.Errorf(faas.KindFailedPrecondition, "it is another name of %q, which is no earlier file", e.Link)
		}
		u.made[e.Path] = kind
		return os.Link(filepath.Join(u.dir, filepath.FromSlash(e.Link)), target)
	}
	kind := e.Mode & unix.S_IFMT
	u.made[e.Path] = kind
	switch kind {
	case unix.S_IFDIR:
		if e.Path == "." {
			return nil
		}
		return os.Mkdir(target, 0o700)
	case unix.S_IFREG:
		if err := u.file(ctx, target, e); err != nil {
			return err
		}
	case unix.S_IFLNK:
		if err := os.Symlink(e.Target, target); err != nil {
			return err
		}
	case unix.S_IFCHR:
		// A whiteout is the only device that a layer can hold; any other would
		// be a way to the host's own.
		if e.Device != 0 {
			return faas.Errorf(faas.KindFailedPrecondition, "it is a device")
		}
		if err := unix.Mknod(target, unix.S_IFCHR, 0); err != nil {
			return err
		}
	case unix.S_IFIFO, unix.S_IFSOCK:
		if err := unix.Mknod(target, kind|0o600, 0); err != nil {
			return err
		}
	default:
		return faas.Errorf(faas.KindFailedPrecondition, "its type %o is unknown", kind)
	}
	return applyEntry(target, e)
}

func (u *unpacker) checkPath(e *entry) error {
	if _, again := u.made[e.Path]; again {
		return faas.Errorf(faas.KindFailedPrecondition, "it is listed twice")
	}
	if e.Path == "." && e.Mode&unix.S_IFMT == unix.S_IFDIR && len(u.made) == 0 {
		return nil
	}
	if !filepath.IsLocal(filepath.FromSlash(e.Path)) || path.Clean(e.Path) != e.Path || e.Path == "." {
		return faas.Errorf(faas.KindFailedPrecondition, "the path leads outside")
	}
	if kind, made := u.made[path.Dir(e.Path)]; !made || kind != unix.S_IFDIR {
		return faas.Errorf(faas.KindFailedPrecondition, "%q is no earlier directory", path.Dir(e.Path))
	}
	return nil
}

func (u *unpacker) file(ctx context.Context, target string, e *entry) error {
	if e.Size < 0 || e.Size > maxBytes {
		return faas.Errorf(faas.KindFailedPrecondition, "its size %d is impossible", e.Size)
	}
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = u.content(ctx, f, e)
	return errors.Join(err, f.Close())
}

func (u *unpacker) content(ctx context.Context, f *os.File, e *entry) error {
	if err := f.Truncate(e.Size); err != nil {
		return err
	}
	for _, ext := range e.Extents {
		offset := ext.Offset
		for _, p := range ext.Pieces {
			b, err := u.store.Get(ctx, p.Ref)
			if err != nil {
				return err
			}
			if int64(len(b)) != p.Size || offset < 0 || offset+p.Size > e.Size {
				return faas.Errorf(faas.KindFailedPrecondition, "piece %s does not fit where the index puts it", p.Ref)
			}
			if _, err := f.WriteAt(b, offset); err != nil {
				return err
			}
			offset += p.Size
			u.done(p.Size, false)
		}
	}
	return nil
}

// applyEntry sets owner, mode, attributes and time.
func applyEntry(target string, e *entry) error {
	if os.Geteuid() == 0 {
		if err := unix.Lchown(target, int(e.UID), int(e.GID)); err != nil {
			return err
		}
	}
	if e.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(target, e.Mode&0o7777); err != nil {
			return err
		}
	}
	for name, value := range e.Xattrs {
		err := unix.Lsetxattr(target, name, value, 0)
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	at := unix.NsecToTimespec(e.ModTime)
	return unix.UtimesNanoAt(unix.AT_FDCWD, target, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}
