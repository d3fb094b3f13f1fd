package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/faas-platform/faas"
)

const (
	whiteoutPrefix = ".wh."
	// whiteoutReserved begins the names that AUFS kept its own records under;
	// opaqueMarker is the only one with a meaning in images.
	whiteoutReserved = ".wh..wh."
	opaqueMarker     = ".wh..wh..opq"
	maxNameBytes     = 255
	maxPathBytes     = 4095
)

// unpack reads a layer (a tar in any known compression) into dir, which it
// makes, and returns what it found with the digest of the uncompressed tar.
// dir is of no use after an error.
func (s *Store) unpack(ctx context.Context, dir string, r io.Reader, progress func(done int64)) (*layerRecord, error) {
	packed := &meter{ctx: ctx, r: r, progress: progress}
	plain, err := decompress(packed)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	digest := sha256.New()
	stream := io.TeeReader(&budget{r: plain, packed: packed, limits: s.limits}, digest)
	rec, err := extract(ctx, dir, stream, s.own, s.limits)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, stream); err != nil { // what follows the tar's end is hashed as well
		return nil, badArchive("after its last entry", err)
	}
	rec.DiffID = fmt.Sprintf("sha256:%x", digest.Sum(nil))
	return rec, nil
}

// extract is the unpacking proper.
func extract(ctx context.Context, dir string, stream io.Reader, own ownership, limits Limits) (*layerRecord, error) {
	e, err := newExtractor(dir, own, limits)
	if err != nil {
		return nil, err
	}
	defer e.close()
	archive := tar.NewReader(stream)
	for {
		hdr, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, badArchive("it is not a whole tar", err)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		e.rec.Entries++
		if e.rec.Entries > limits.MaxEntries {
			return nil, tooLarge("it has more than %d entries", limits.MaxEntries)
		}
		if err := e.entry(hdr, archive); err != nil {
			return nil, entryError(hdr.Name, err)
		}
	}
	if err := e.finish(); err != nil {
		return nil, storeError("unpack", "a layer", err)
	}
	return &e.rec, nil
}

// badArchive says that an archive is at fault, unless the cause says better.
func badArchive(what string, err error) error {
	var known *faas.Error
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return faas.Errorf(faas.KindInvalidArgument, "the archive cannot be read, %s: %w", what, err)
}

// entryError puts the entry's name before what is wrong with it.
func entryError(name string, err error) error {
	if len(name) > 200 {
		name = name[:200] + "…"
	}
	var known *faas.Error
	if errors.As(err, &known) {
		located := *known
		located.Detail = fmt.Sprintf("entry %q: %s", name, known.Detail)
		return &located
	}
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return badArchive(fmt.Sprintf("in entry %q", name), err)
	}
	return storeError("unpack", fmt.Sprintf("entry %q", name), err)
}

func hostile(format string, args ...any) error {
	return faas.Errorf(faas.KindInvalidArgument, format, args...)
}

// cleanPath turns the name of an entry into a path relative to the layer's
// root: "" for the root itself. A name that climbs up is refused rather than
// bent, since no honest archiver writes one.
func cleanPath(name string, limits Limits) (string, error) {
	if name == "" || strings.ContainsRune(name, 0) || len(name) > maxPathBytes {
		return "", hostile("its path is empty, too long or not one")
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			return "", hostile("its path climbs up")
		case len(part) > maxNameBytes:
			return "", hostile("its name is longer than %d bytes", maxNameBytes)
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) > limits.MaxDepth {
		return "", tooLarge("its path is deeper than %d", limits.MaxDepth)
	}
	return strings.Join(parts, "/"), nil
}

// split divides a clean path into its directory ("" for the root) and base.
func split(path string) (dir, base string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// place unpacks nothing: it gives a finished layer in work its name, unless
// another process was faster. The caller holds a lease on the layer's path.
func (s *Store) place(dir string, rec *layerRecord) error {
	target := s.path(s.layerPath(rec.DiffID))
	if s.hasLayer(rec.DiffID) {
		return nil
	}
	if err := writeLayerRecord(dir, rec); err != nil {
		return storeError("write", "a layer's record", err)
	}
	if err := syncFS(dir); err != nil {
		return storeError("write out", "a layer", err)
	}
	if err := os.Rename(dir, target); err != nil && !s.hasLayer(rec.DiffID) {
		return storeError("place", "a layer", err)
	}
	if err := syncDir(filepath.Dir(target)); err != nil {
		return storeError("place", "a layer", err)
	}
	return nil
}
