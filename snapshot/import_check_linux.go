package snapshot

import (
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/snapshot/chunk"
)

// Limits of one file of an imported snapshot.
const (
	maxPath   = unix.PathMax
	maxXattrs = 64
)

// setIDs are the mode bits that make a program run as its owner.
const setIDs = unix.S_ISUID | unix.S_ISGID

// checkParts checks all that a layer's description says of its files, and puts
// the owners in it that they have here. It returns how many bytes it unpacks to.
func (in *importer) checkParts(x *shipped, top bool) (int64, error) {
	if len(x.Parts) < 1 || len(x.Parts) > 2 || x.Parts[0].Name != partFS || len(x.Parts) == 2 && (!top || x.Parts[1].Name != partMemory) {
		return 0, refuseStream("a layer has parts that it cannot have")
	}
	var total int64
	for i := range x.Parts {
		p := &x.Parts[i]
		if len(p.Entries) == 0 || len(p.Entries) > maxEntries {
			return 0, refuseStream("a layer has %d files", len(p.Entries))
		}
		for j := range p.Entries {
			bytes, err := in.checkEntry(&p.Entries[j], p.Name)
			if err != nil {
				return 0, err
			}
			if total += bytes; total > in.opts.MaxBytes {
				return 0, tooLarge()
			}
		}
	}
	return total, nil
}

func (in *importer) checkEntry(e *entry, part string) (int64, error) {
	kind := e.Mode & unix.S_IFMT
	switch {
	case len(e.Path) > maxPath || len(e.Target) > maxPath || len(e.Xattrs) > maxXattrs:
		return 0, refuseStream("a file has a name, a target or attributes longer than any")
	case e.Link != "" && (e.Mode != 0 || e.Size != 0 || len(e.Extents) > 0 || len(e.Xattrs) > 0):
		return 0, refuseStream("%q is another name of a file and says more", e.Path)
	case e.Link != "":
		return 0, nil
	case kind == unix.S_IFBLK, kind == unix.S_IFCHR && (e.Device != 0 || part != partFS):
		return 0, refuseStream("%q is a device", e.Path)
	case e.Target != "" && kind != unix.S_IFLNK, len(e.Extents) > 0 && kind != unix.S_IFREG:
		return 0, refuseStream("%q holds what its type cannot", e.Path)
	case e.Size < 0 || e.Size > maxBytes:
		return 0, refuseStream("the size %d of %q is impossible", e.Size, e.Path)
	}
	if err := in.checkOwner(e, part); err != nil {
		return 0, err
	}
	for name, value := range e.Xattrs {
		if !portableXattr(name) || name == opaqueMarks[0] && (string(value) != "y" || kind != unix.S_IFDIR || part != partFS) {
			return 0, refuseStream("%q has the attribute %.100q", e.Path, name)
		}
	}
	return in.checkExtents(e)
}

// checkOwner refuses ids that no sandbox has, and turns those inside into
// those of this machine.
func (in *importer) checkOwner(e *entry, part string) error {
	if part == partMemory {
		for _, id := range []uint32{e.UID, e.GID} {
			if id != 0 && (id < in.owner || id-in.owner >= ownerCount) {
				return refuseStream("%q belongs to %d, which is no user of a sandbox", e.Path, id)
			}
		}
		if (e.UID == 0 || e.GID == 0) && in.owner != 0 && e.Mode&setIDs != 0 {
			return refuseStream("%q would run as a user of the host", e.Path)
		}
		return nil
	}
	if e.UID >= ownerCount || e.GID >= ownerCount {
		return refuseStream("%q belongs to %d:%d; a sandbox has %d users", e.Path, e.UID, e.GID, ownerCount)
	}
	e.UID, e.GID = e.UID+in.owner, e.GID+in.owner
	return nil
}

// checkExtents sees that the pieces came, and fit where they are put.
func (in *importer) checkExtents(e *entry) (int64, error) {
	var total, at int64
	for _, ext := range e.Extents {
		if ext.Offset < at {
			return 0, refuseStream("parts of %q lie on each other", e.Path)
		}
		at = ext.Offset
		for _, p := range ext.Pieces {
			if _, came := in.sent[p.Ref]; !came {
				return 0, refuseStream("a piece of %q did not come", e.Path)
			}
			in.sent[p.Ref] = true
			if p.Size <= 0 || p.Size > chunk.MaxPiece || at > e.Size-p.Size {
				return 0, refuseStream("a piece of %q does not fit into it", e.Path)
			}
			at += p.Size
			total += p.Size
		}
	}
	return total, nil
}
