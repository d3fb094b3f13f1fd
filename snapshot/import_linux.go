package snapshot

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/snapshot/chunk"
)

// Limits of one imported snapshot.
const (
	maxImportLayers = 64
	maxTextField    = 4096
)

// Import takes in a snapshot that Export wrote, perhaps on another machine and
// perhaps not by Export at all: it trusts nothing. The snapshot and its layers
// get ids of their own; with memory it is kept only when opts allow that, and
// its signature is one of a trusted key. It is durable when Import returns, and
// after an error nothing of it is left.
func (s *Store) Import(ctx context.Context, r io.Reader, opts ImportOptions) (*Manifest, error) {
	in := &importer{store: s, opts: opts, dir: filepath.Join(s.dir, dirStaging, s.name, faas.NewID("import")), sent: map[chunk.Ref]bool{}}
	m, err := in.run(ctx, r)
	if err = errors.Join(err, removeAll(in.dir)); err != nil {
		return nil, storeError("import snapshot", err)
	}
	return m, nil
}

type importer struct {
	store  *Store
	opts   ImportOptions
	dir    string
	pieces *chunk.Store // aside, until the signature is known
	header streamHeader
	sent   map[chunk.Ref]bool // pieces that came; true once one is named
	layers []shipped          // the lowest first
	owner  uint32             // of what it unpacks
}

// shipped is one layer of the stream, and what becomes of it.
type shipped struct {
	index
	was Manifest
	is  Manifest
	dir string
}

func (in *importer) run(ctx context.Context, r io.Reader) (*Manifest, error) {
	if err := os.MkdirAll(in.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if in.pieces, err = chunk.Open(aside(filepath.Join(in.dir, "pieces")), nil); err != nil {
		return nil, err
	}
	if err := in.receive(ctx, r); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	in.number()
	if accept := in.opts.Accept; accept != nil {
		if err := accept(&in.layers[len(in.layers)-1].is); err != nil {
			return nil, err
		}
	}
	for i := range in.layers {
		if err := in.build(ctx, &in.layers[i]); err != nil {
			return nil, err
		}
	}
	return in.commit()
}

// receive reads the stream to its signature.
func (in *importer) receive(ctx context.Context, r io.Reader) error {
	stream, err := newStreamReader(r, in.opts.MaxBytes)
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		if err := ctx.Err(); err != nil {
			return err
		}
		kind, payload, err := stream.next()
		if err != nil {
			return err
		}
		if first != (kind == frameHeader) {
			return refuseStream("a header stands at its beginning and nowhere else")
		}
		switch kind {
		case frameHeader:
			err = in.begin(payload)
		case framePiece:
			err = in.piece(ctx, payload)
		case frameSnapshot:
			err = in.layer(payload)
		case frameSignature:
			if len(in.layers) != in.header.Layers {
				return refuseStream("it has %d layers and promised %d", len(in.layers), in.header.Layers)
			}
			return stream.end(payload, in.header.PublicKey)
		}
		if err != nil {
			return err
		}
	}
}

func (in *importer) begin(payload []byte) error {
	if err := decodeFrame(payload, &in.header, "its header"); err != nil {
		return err
	}
	h := in.header
	switch {
	case h.Version != formatVersion:
		return refuseStream("it is of version %d, which this program does not know", h.Version)
	case h.Layers < 1 || h.Layers > maxImportLayers:
		return refuseStream("it promises %d layers; 1 to %d are possible", h.Layers, maxImportLayers)
	case len(h.PublicKey) != ed25519.PublicKeySize:
		return refuseStream("it names no key")
	}
	return nil
}

// piece keeps a piece aside, when it is what it says.
func (in *importer) piece(ctx context.Context, payload []byte) error {
	if len(payload) < sha256.Size {
		return refuseStream("a piece has no digest")
	}
	ref := chunk.Ref(hex.EncodeToString(payload[:sha256.Size]))
	if _, again := in.sent[ref]; again {
		return refuseStream("piece %s comes twice", ref)
	}
	in.sent[ref] = false
	if err := in.pieces.Accept(ctx, ref, payload[sha256.Size:]); err != nil {
		if errors.Is(err, faas.ErrFailedPrecondition) {
			return refuseStream("%v", err)
		}
		return err
	}
	return nil
}

func (in *importer) layer(payload []byte) error {
	var x shipped
	if len(in.layers) >= in.header.Layers {
		return refuseStream("it has more layers than it promised")
	}
	if err := decodeFrame(payload, &x.index, "a layer"); err != nil {
		return err
	}
	if err := decodeFrame(x.index.Manifest, &x.was, "a manifest"); err != nil {
		return err
	}
	if x.Version != formatVersion || x.was.Version != formatVersion {
		return refuseStream("a layer is of version %d, %d", x.Version, x.was.Version)
	}
	in.layers = append(in.layers, x)
	return nil
}

// check compares what the stream says with itself and with what is possible,
// before anything is unpacked.
func (in *importer) check() error {
	in.owner = in.opts.Owner(in.layers[len(in.layers)-1].was.Runtime)
	var ids []string
	var total int64
	for i := range in.layers {
		x, last := &in.layers[i], i == len(in.layers)-1
		if !faas.ValidID(faas.PrefixSnapshot, x.was.ID) || slices.Contains(ids, x.was.ID) {
			return refuseStream("a layer has no id of its own")
		}
		ids = append([]string{x.was.ID}, ids...)
		if last && !slices.Equal(x.was.Layers, ids) {
			return refuseStream("its layers are not those that it lies on")
		}
		bytes, err := in.checkParts(x, last)
		if err != nil {
			return err
		}
		if total += bytes; total > in.opts.MaxBytes {
			return tooLarge()
		}
	}
	for ref, named := range in.sent {
		if !named {
			return refuseStream("piece %s belongs to nothing", ref)
		}
	}
	if err := in.checkTop(&in.layers[len(in.layers)-1]); err != nil {
		return err
	}
	return in.room(total)
}

// room sees that the disk holds what will be unpacked.
func (in *importer) room(total int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(in.dir, &st); err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; total > free { //nolint:gosec,unconvert // of a real file system
		return &faas.Error{Kind: faas.KindResourceExhausted, Detail: fmt.Sprintf("it unpacks to %d MiB and the disk has %d MiB free", total>>20, free>>20),
			Remedy: "remove snapshots or give the data directory more room"}
	}
	return nil
}

// checkTop checks the snapshot itself, and decides what is kept of it.
func (in *importer) checkTop(x *shipped) error {
	w := &x.was
	for _, text := range []string{w.Image, w.ImageDigest, w.Name, w.Description, string(w.Runtime)} {
		if len(text) > maxTextField {
			return refuseStream("a text in its manifest is longer than %d bytes", maxTextField)
		}
	}
	if w.Image == "" || !slices.Contains(faas.Runtimes(), w.Runtime) {
		return refuseStream("its manifest names no image and no runtime that there is")
	}
	hasMemory := len(x.Parts) == 2
	if (w.Kind == faas.SnapshotFull) != hasMemory || !hasMemory && w.Kind != faas.SnapshotFS {
		return refuseStream("it says that it is of kind %.20q, and is not", w.Kind)
	}
	if !hasMemory || in.opts.Kind == faas.SnapshotFS {
		if in.opts.Kind == faas.SnapshotFull {
			return faas.InvalidField("kind", "the exported snapshot has no memory")
		}
		in.dropMemory(x)
		return nil
	}
	err := in.allowMemory()
	if err != nil && in.opts.Kind != faas.SnapshotFull {
		in.dropMemory(x)
		return nil
	}
	return err
}

func (in *importer) dropMemory(x *shipped) {
	x.Parts = x.Parts[:1]
	x.was.Kind, x.was.Driver, x.was.Requires, x.was.MemoryBytes = faas.SnapshotFS, nil, driver.Requirements{}, 0
}

// allowMemory says why memory is not taken in: it decides credentials, paths
// and programs of what it restores.
func (in *importer) allowMemory() error {
	trusted := slices.ContainsFunc(in.opts.Trusted, func(k ed25519.PublicKey) bool { return k.Equal(in.header.PublicKey) })
	switch {
	case !in.opts.Memory:
		return &faas.Error{Kind: faas.KindPermissionDenied, Detail: "a snapshot with memory is imported by admins only", Remedy: "import its files: kind fs"}
	case !trusted:
		return &faas.Error{Kind: faas.KindPermissionDenied, Detail: "the key that signed it is not among the trusted ones",
			Remedy: "import its files (kind fs), or have snapshots.trusted_keys name the key of the installation that exported it"}
	case in.header.Owner != in.owner:
		return &faas.Error{Kind: faas.KindFailedPrecondition, Detail: fmt.Sprintf("the users of its sandbox begin at %d, here they begin at %d", in.header.Owner, in.owner),
			Remedy: "import its files: kind fs"}
	}
	return nil
}

// build unpacks one layer aside.
func (in *importer) build(ctx context.Context, x *shipped) error {
	x.dir = filepath.Join(in.dir, "layers", x.is.ID)
	for _, name := range []string{partFS, partMemory} {
		if err := os.MkdirAll(filepath.Join(x.dir, name), 0o700); err != nil {
			return err
		}
	}
	for _, p := range x.Parts {
		if err := unpack(ctx, in.pieces, p.Entries, filepath.Join(x.dir, p.Name), in.opts.Done); err != nil {
			if errors.Is(err, faas.ErrFailedPrecondition) {
				return refuseStream("%v", err)
			}
			return err
		}
	}
	d := &Draft{Manifest: x.is, store: in.store, dir: x.dir}
	if err := d.finish(ctx); err != nil {
		return err
	}
	if x != &in.layers[len(in.layers)-1] {
		return writeDurably(filepath.Join(x.dir, fileRemoved), time.Now().UTC())
	}
	return nil
}

// commit puts the layers in place, the snapshot last: until then nobody sees
// any of them.
func (in *importer) commit() (*Manifest, error) {
	s := in.store
	release, err := s.exclusive()
	if err != nil {
		return nil, err
	}
	defer release()
	var placed []string
	for i := range in.layers {
		x := &in.layers[i]
		if err := s.place(x.dir, x.is.ID); err != nil {
			return nil, errors.Join(err, s.reap(placed...))
		}
		placed = append(placed, x.is.ID)
	}
	top := in.layers[len(in.layers)-1].is
	m, err := s.get(top.Project, top.ID)
	if err != nil {
		return nil, err
	}
	return clone(m), nil
}

// manifest is what a layer is here. Only of the topmost one anything else is
// ever read.
func (in *importer) manifest(was Manifest, id string, layers []string) Manifest {
	top := in.layers[len(in.layers)-1].was
	m := Manifest{
		Version: formatVersion, ID: id, Project: in.opts.Project, Kind: faas.SnapshotFS, Runtime: top.Runtime,
		Image: top.Image, ImageDigest: top.ImageDigest, CreatedAt: time.Now().UTC(), Layers: layers, Hidden: true,
	}
	if was.ID != top.ID {
		return m
	}
	m.Kind, m.Hidden, m.Requires, m.Driver = was.Kind, false, was.Requires, was.Driver
	m.Annotations = was.Annotations
	m.Spec = faas.Spec{Image: was.Image, Resources: was.Spec.Resources, Env: was.Spec.Env, ReadOnly: was.Spec.ReadOnly}
	if was.Kind == faas.SnapshotFull {
		m.Spec.Network = was.Spec.Network // of somebody trusted
	}
	return m
}

// number gives the layers ids of their own.
func (in *importer) number() {
	var ids []string
	for i := range in.layers {
		ids = append([]string{faas.NewID(faas.PrefixSnapshot)}, ids...)
		in.layers[i].is = in.manifest(in.layers[i].was, ids[0], slices.Clone(ids))
	}
}

// aside is a chunk.Dir that does not wait for the disk: what it holds is gone
// after a crash anyhow.
type aside string

// Put writes a piece.
func (a aside) Put(_ context.Context, name string, content []byte) error {
	file := filepath.Join(string(a), filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o600)
}

// Get reads a piece.
func (a aside) Get(ctx context.Context, name string) ([]byte, error) {
	return chunk.Dir(a).Get(ctx, name)
}

// Has looks for a piece.
func (a aside) Has(ctx context.Context, name string) (bool, error) {
	return chunk.Dir(a).Has(ctx, name)
}

// Delete removes a piece.
func (a aside) Delete(ctx context.Context, name string) error { return chunk.Dir(a).Delete(ctx, name) }

// List lists pieces.
func (a aside) List(ctx context.Context, prefix string, f func(string, int64) error) error {
	return chunk.Dir(a).List(ctx, prefix, f)
}
