package image

import (
	"archive/tar"
	"errors"
	"math"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

const (
	// idCount is how many ids a sandbox's user namespace has, and nobody the
	// one that stands for all beyond.
	idCount = 65536
	nobody  = 65534

	xattrRecord    = "SCHILY.xattr."
	xattrOpaque    = "user.overlay.opaque"
	xattrOpaqueTop = "trusted.overlay.opaque"
)

func permissions(hdr *tar.Header) uint32 { return uint32(hdr.Mode) & 0o7777 }

// owner returns the ids that an entry is stored with, and whether the image's
// own could not be kept.
func (e *extractor) owner(hdr *tar.Header) (uid, gid int, foreign bool) {
	uid, gid = hdr.Uid, hdr.Gid
	if uid < 0 || uid >= idCount {
		uid, foreign = nobody, true
	}
	if gid < 0 || gid >= idCount {
		gid, foreign = nobody, true
	}
	if foreign {
		e.rec.ForeignIDs++
	}
	return e.own.uid + uid, e.own.gid + gid, foreign
}

// attributes sets owner, extended attributes and mode, in this order: a
// change of owner clears the setuid bit.
func (e *extractor) attributes(fd int, hdr *tar.Header) error {
	uid, gid, foreign := e.owner(hdr)
	if e.own.keep {
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return err
		}
	}
	if err := e.xattrs(fd, hdr); err != nil {
		return err
	}
	mode := permissions(hdr)
	if foreign {
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	return unix.Fchmod(fd, mode)
}

func (e *extractor) chownAt(parent int, base string, uid, gid int) error {
	if !e.own.keep {
		return nil
	}
	return unix.Fchownat(parent, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

// times sets the time of change, clamped to what every file system stores.
func (e *extractor) times(parent int, base string, at time.Time) error {
	seconds := min(max(at.Unix(), 0), math.MaxUint32)
	ts, err := unix.TimeToTimespec(time.Unix(seconds, int64(at.Nanosecond())))
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(parent, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// xattrs sets the user.* attributes of an entry and counts the others.
func (e *extractor) xattrs(fd int, hdr *tar.Header) error {
	for key, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrRecord)
		switch {
		case !ok || isOverlayXattr(name):
			continue
		case name == "security.capability":
			e.rec.Capabilities++
			continue
		case !strings.HasPrefix(name, "user.") || len(name) > maxNameBytes || strings.ContainsRune(name, 0):
			e.rec.Xattrs++
			continue
		}
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		switch {
		case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.E2BIG), errors.Is(err, unix.ERANGE):
			e.rec.XattrRefused++ // larger than the file system stores beside an inode
		case err != nil:
			return err
		}
	}
	return nil
}

// isOverlayXattr says whether an attribute would steer the overlay file
// system: an archive must not set one.
func isOverlayXattr(name string) bool {
	return strings.HasPrefix(name, "user.overlay.") || strings.HasPrefix(name, "trusted.overlay.")
}

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// whiteoutEntry writes what a name with the whiteout prefix stands for.
func (e *extractor) whiteoutEntry(dir, base string) error {
	if base != opaqueMarker && strings.HasPrefix(base, whiteoutReserved) {
		return nil
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return hostile("it is a whiteout of no name")
	}
	parent, err := e.parent(dir)
	if err != nil {
		return err
	}
	if base != opaqueMarker {
		return e.whiteout(parent, hidden)
	}
	if dir == "" {
		e.rec.Opaque = true // overlayfs ignores the mark on a layer's root
		return nil
	}
	return e.opaqueAt(parent, ".")
}

// whiteout hides what lower layers have under a name. What this layer has
// under it stays: a whiteout is about lower layers only, in whichever order.
func (e *extractor) whiteout(parent int, base string) error {
	err := unix.Mknodat(parent, base, unix.S_IFCHR, 0)
	if errors.Is(err, unix.EPERM) {
		return faas.Unavailable("this machine does not let this user make overlay whiteouts (0/0 character devices)",
			"use Linux 5.8 or newer, or run as root")
	}
	if !errors.Is(err, unix.EEXIST) {
		if err != nil {
			return err
		}
		return e.chownAt(parent, base, e.own.uid, e.own.gid)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return e.opaqueAt(parent, base)
	}
	return nil
}

// opaqueAt makes a directory hide what lower layers have in it.
func (e *extractor) opaqueAt(parent int, base string) error {
	fd, err := openDirAt(parent, base)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.Fsetxattr(fd, xattrOpaque, []byte("y"), 0)
	if errors.Is(err, unix.ENOTSUP) {
		return &faas.Error{Kind: faas.KindFailedPrecondition,
			Detail: "the image store's file system has no user.* extended attributes, which opaque directories need",
			Remedy: "put the store on ext4, XFS or btrfs, or on tmpfs with Linux 6.6 or newer"}
	}
	if err != nil {
		return err
	}
	err = unix.Fsetxattr(fd, xattrOpaqueTop, []byte("y"), 0)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
		return nil // only overlays mounted without userxattr read it
	}
	return err
}

func openDirAt(parent int, base string) (int, error) {
	return unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// removeAt removes a tree by name without following links. Depth is bounded
// by that of the entries which made it.
func removeAt(parent int, base string) error {
	fd, err := openDirAt(parent, base)
	if err != nil {
		return err
	}
	names, err := readNames(fd)
	for _, name := range names {
		unlinkErr := unix.Unlinkat(fd, name, 0)
		if errors.Is(unlinkErr, unix.EISDIR) || errors.Is(unlinkErr, unix.EPERM) {
			unlinkErr = removeAt(fd, name)
		}
		err = errors.Join(err, unlinkErr)
	}
	unix.Close(fd)
	if err != nil {
		return err
	}
	return unix.Unlinkat(parent, base, unix.AT_REMOVEDIR)
}

// readNames lists a directory. It leaves the descriptor to the caller.
func readNames(fd int) ([]string, error) {
	buffer := make([]byte, 32<<10)
	var names []string
	for {
		n, err := unix.Getdents(fd, buffer)
		if err != nil || n <= 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names)
	}
}
