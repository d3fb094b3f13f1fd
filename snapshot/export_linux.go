package snapshot

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/snapshot/chunk"
)

const fileSigning = "signing.json" // the key that exports are signed with

// SigningKey returns the key of this installation that its exports are signed
// with; it is made when it is first asked for.
func (s *Store) SigningKey() (ed25519.PrivateKey, error) {
	release, err := s.exclusive()
	if err != nil {
		return nil, err
	}
	defer release()
	file := filepath.Join(s.dir, fileSigning)
	var seed []byte
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, key, makeErr := ed25519.GenerateKey(nil)
		if makeErr != nil {
			return nil, makeErr
		}
		seed = key.Seed()
		err = writeDurably(file, seed)
	case err == nil:
		err = json.Unmarshal(b, &seed)
	}
	if err == nil && len(seed) != ed25519.SeedSize {
		err = fmt.Errorf("%s holds no key", file)
	}
	if err != nil {
		return nil, storeError("read the signing key", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// Export writes a snapshot with all layers below it as one signed stream:
// without its memory when kind is fs. The image is not part of it; its digest
// is. done is told the bytes as they are read, and may be nil.
func (s *Store) Export(ctx context.Context, w io.Writer, project, id string, opts ExportOptions) error {
	key, err := s.SigningKey()
	if err != nil {
		return err
	}
	if err := s.Warm(ctx, project, id); err != nil {
		return err
	}
	l, err := s.Acquire(project, id, faas.NewID(s.name))
	if err != nil {
		return err
	}
	err = s.export(ctx, w, l, key, opts)
	if err = errors.Join(err, l.Release()); err != nil {
		return storeError("export snapshot "+id, err)
	}
	return nil
}

func (s *Store) export(ctx context.Context, w io.Writer, l *Lease, key ed25519.PrivateKey, opts ExportOptions) error {
	out := newStreamWriter(w)
	if _, err := out.w.WriteString(streamMagic); err != nil {
		return err
	}
	header, err := json.Marshal(streamHeader{
		Version: formatVersion, Layers: len(l.Layers), PublicKey: key.Public().(ed25519.PublicKey), Owner: opts.Owner, //nolint:forcetypeassert // its documented type
	})
	if err != nil {
		return err
	}
	if err := out.frame(frameHeader, header); err != nil {
		return err
	}
	pieces, err := chunk.Open(&pieceFrames{out: out, sent: map[string]bool{}}, nil)
	if err != nil {
		return err
	}
	for i, layer := range slices.Backward(l.Layers) {
		m := l.Manifest
		if i > 0 {
			if m, err = s.readManifest(l.Manifest.Layers[i]); err != nil {
				return err
			}
		}
		x := &index{Version: formatVersion}
		entries, _, err := pack(ctx, pieces, layer, opts.Done)
		if err != nil {
			return err
		}
		if entries, err = portable(entries, opts.Owner); err != nil {
			return err
		}
		x.Parts = append(x.Parts, part{partFS, entries})
		if i == 0 && m.Kind == faas.SnapshotFull && opts.Kind != faas.SnapshotFS {
			entries, _, err := pack(ctx, pieces, l.Memory, opts.Done)
			if err != nil {
				return err
			}
			x.Parts = append(x.Parts, part{partMemory, entries})
		}
		if err := sendSnapshot(out, m, x); err != nil {
			return err
		}
	}
	return out.sign(key)
}

// sendSnapshot writes a description. Whose the snapshot is stays here.
func sendSnapshot(out *streamWriter, m *Manifest, x *index) error {
	sent := *clone(m)
	sent.Project, sent.InstanceID, sent.ParentID, sent.Hidden = "", "", "", false
	sent.Spec.Project, sent.Spec.ID, sent.Spec.Hostname = "", "", ""
	if len(x.Parts) == 1 {
		sent.Kind, sent.MemoryBytes, sent.Driver = faas.SnapshotFS, 0, nil
		sent.Requires = driver.Requirements{}
	}
	var err error
	if x.Manifest, err = json.Marshal(sent); err != nil {
		return err
	}
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if len(b) > maxSnapshotFrame {
		return faas.Errorf(faas.KindFailedPrecondition, "layer %s has too many files to be exported", m.ID)
	}
	return out.frame(frameSnapshot, b)
}

// portable rewrites what only this machine knows: owners to those inside, and
// the marks that an overlay leaves for itself.
func portable(entries []entry, owner uint32) ([]entry, error) {
	for i := range entries {
		e := &entries[i]
		e.UID, e.GID = inside(e.UID, owner), inside(e.GID, owner)
		for name, value := range e.Xattrs {
			switch {
			case slices.Contains(opaqueMarks[:], name):
				delete(e.Xattrs, name)
				e.Xattrs[opaqueMarks[0]] = value
			case !portableXattr(name):
				delete(e.Xattrs, name)
			}
		}
	}
	return entries, nil
}

// inside turns a host's id into that inside: what is not a sandbox's, such as
// a whiteout, is root's.
func inside(id, owner uint32) uint32 {
	if id < owner || id-owner >= ownerCount {
		return 0
	}
	return id - owner
}

// ownerCount is how many ids a sandbox has.
const ownerCount = 1 << 16

// portableXattr says whether an attribute means the same on another machine,
// and grants nothing there.
func portableXattr(name string) bool {
	return name == opaqueMarks[0] || strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// pieceFrames is a chunk.Backend that sends what it is given, once.
type pieceFrames struct {
	out  *streamWriter
	sent map[string]bool
}

// Put sends a piece.
func (p *pieceFrames) Put(_ context.Context, name string, content []byte) error {
	digest, err := hex.DecodeString(path.Base(name))
	if err != nil {
		return err
	}
	p.sent[name] = true
	return p.out.frame(framePiece, digest, content)
}

// Has says whether a piece was sent.
func (p *pieceFrames) Has(_ context.Context, name string) (bool, error) { return p.sent[name], nil }

// Get finds nothing.
func (*pieceFrames) Get(context.Context, string) ([]byte, error) {
	return nil, errors.New("a stream is written only")
}

// Delete does nothing.
func (*pieceFrames) Delete(context.Context, string) error { return nil }

// List lists nothing.
func (*pieceFrames) List(context.Context, string, func(string, int64) error) error { return nil }
