package snapshot

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/snapshot/chunk"
)

// testOwner is where the users of sandboxes begin on the importing machine.
const testOwner = 0x70000000

func importing(kind faas.SnapshotKind, trusted ...ed25519.PublicKey) ImportOptions {
	return ImportOptions{
		Project: "p", Kind: kind, Memory: len(trusted) > 0, Trusted: trusted, MaxBytes: 64 << 20,
		Owner: func(faas.Runtime) uint32 { return testOwner },
	}
}

// exported makes a snapshot with memory on two layers below it, and its stream.
func exported(t testing.TB, s *Store, kind faas.SnapshotKind, owner uint32) (*Manifest, []byte) {
	t.Helper()
	var m *Manifest
	for i, files := range []map[string]string{
		{"a": "1", "gone": "x", "d/x": "x"}, {"a": "2", "gone": "-", "d/": "opaque"}, {"b": strings.Repeat("b", 1<<20), "l": "-> a"},
	} {
		parent := ""
		if m != nil {
			parent = m.ID
		}
		d, err := s.Begin(Manifest{Project: "p", Kind: faas.SnapshotFull, Runtime: faas.RuntimeNative, Image: faas.HostImage, ParentID: parent,
			ImageDigest: "sha256:0", Driver: json.RawMessage(`{"secret":"c2VjcmV0"}`), Annotations: Annotations{Name: fmt.Sprint("n", i)}})
		must(t, err)
		writeInto(t, d.FS(), files)
		if owner != 0 {
			must(t, filepath.WalkDir(d.FS(), func(p string, _ fs.DirEntry, err error) error {
				return errors.Join(err, os.Lchown(p, int(owner)+7, int(owner)))
			}))
			if files["a"] != "" {
				must(t, os.Chmod(filepath.Join(d.FS(), "a"), 0o755|fs.ModeSetuid))
			}
		}
		must(t, os.WriteFile(filepath.Join(d.Memory(), "pages-1.img"), []byte(strings.Repeat("page", 1<<16)), 0o600))
		m, err = d.Commit(t.Context())
		must(t, err)
	}
	var out bytes.Buffer
	must(t, s.Export(t.Context(), &out, "p", m.ID, ExportOptions{Kind: kind, Owner: owner}))
	return m, out.Bytes()
}

func TestImportedSnapshotsAreTheSame(t *testing.T) {
	needRoot(t)
	here, there := open(t, t.TempDir()), open(t, t.TempDir())
	m, stream := exported(t, here, faas.SnapshotAuto, testOwner)
	key, err := here.SigningKey()
	must(t, err)
	public := key.Public().(ed25519.PublicKey)
	want := stackOf(t, here, m)
	for name, tc := range map[string]struct {
		opts ImportOptions
		kind faas.SnapshotKind
	}{
		"a user's":             {importing(faas.SnapshotAuto), faas.SnapshotFS},
		"an admin's, trusted":  {importing(faas.SnapshotAuto, public), faas.SnapshotFull},
		"an admin's, asked fs": {importing(faas.SnapshotFS, public), faas.SnapshotFS},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := there.Import(t.Context(), bytes.NewReader(stream), tc.opts)
			must(t, err)
			if got.Kind != tc.kind || len(got.Layers) != 3 || got.Name != "n2" || got.ImageDigest != "sha256:0" || got.ID == m.ID || got.ParentID != "" {
				t.Errorf("%+v", got)
			}
			if (got.Driver != nil) != (tc.kind == faas.SnapshotFull) {
				t.Errorf("the driver's part is %s", got.Driver)
			}
			if have := stackOf(t, there, got); !maps.Equal(have, want) {
				t.Errorf("%v, was %v", have, want)
			}
			var st unix.Stat_t
			must(t, unix.Stat(filepath.Join(there.path(got.Layers[1]), partFS, "a"), &st))
			if st.Uid != testOwner+7 || st.Gid != testOwner || st.Mode&unix.S_ISUID == 0 {
				t.Errorf("/a is of %d:%d, mode %o", st.Uid, st.Gid, st.Mode)
			}
			if list := there.List("p", nil); len(list) != 1 {
				t.Errorf("%d snapshots are seen", len(list))
			}
			_, err = there.Remove("p", got.ID, false)
			must(t, err)
			nothingLeft(t, there)
		})
	}
	for name, opts := range map[string]ImportOptions{
		"a user's": importing(faas.SnapshotFull), "another key": importing(faas.SnapshotFull, make(ed25519.PublicKey, ed25519.PublicKeySize)),
	} {
		if _, err := there.Import(t.Context(), bytes.NewReader(stream), opts); !errors.Is(err, faas.ErrPermissionDenied) {
			t.Errorf("%s with memory: %v", name, err)
		}
	}
	nothingLeft(t, there)
}

func stackOf(t *testing.T, s *Store, m *Manifest) map[string]string {
	t.Helper()
	var layers []string
	for _, id := range m.Layers {
		layers = append(layers, filepath.Join(s.path(id), partFS))
	}
	return listing(t, layers)
}

func nothingLeft(t testing.TB, s *Store) {
	t.Helper()
	for _, d := range []string{dirSnapshots, filepath.Join(dirStaging, s.name), dirLeases, dirTrash} {
		if entries, _ := os.ReadDir(filepath.Join(s.dir, d)); len(entries) > 0 {
			t.Errorf("%s: %d entries left, the first %s", d, len(entries), entries[0].Name())
		}
	}
}

// frames returns where the frames of a stream begin, and its length.
func frames(stream []byte) []int {
	at := []int{0}
	for i := len(streamMagic); i < len(stream); {
		at = append(at, i)
		i += 5 + int(binary.BigEndian.Uint32(stream[i+1:]))
	}
	return append(at, len(stream))
}

func TestImportRefusesDamagedStreams(t *testing.T) {
	needRoot(t)
	here, there := open(t, t.TempDir()), open(t, t.TempDir())
	_, stream := exported(t, here, faas.SnapshotAuto, 0)
	refused := func(what string, damaged []byte) {
		t.Helper()
		if _, err := there.Import(t.Context(), bytes.NewReader(damaged), importing(faas.SnapshotAuto)); !errors.Is(err, faas.ErrInvalidArgument) {
			t.Errorf("%s: %v", what, err)
		}
	}
	at := frames(stream)
	for i, from := range at[:len(at)-1] {
		size := at[i+1] - from
		for _, n := range []int{0, 1, min(5, size-1), size / 2, size - 1} {
			refused(fmt.Sprintf("cut %d bytes into frame %d", n, i), stream[:from+n])
		}
		for _, n := range []int{0, 1, 4, min(5, size-1), min(40, size-1), size / 2, size - 1} {
			for _, bit := range []byte{1, 0x80} {
				flipped := bytes.Clone(stream)
				flipped[from+n] ^= bit
				refused(fmt.Sprintf("bit %#x of byte %d of frame %d", bit, n, i), flipped)
			}
		}
		if i > 0 && i < len(at)-2 {
			refused(fmt.Sprintf("without frame %d", i), append(bytes.Clone(stream[:from]), stream[at[i+1]:]...))
			refused(fmt.Sprintf("with frame %d twice", i), append(bytes.Clone(stream[:at[i+1]]), stream[from:]...))
		}
	}
	refused("with more behind", append(bytes.Clone(stream), 0))
	nothingLeft(t, there)
}

// forged is a stream that somebody signed: all that its frames say is theirs.
type forged struct {
	header *streamHeader
	pieces [][]byte // contents
	raw    [][]byte // payloads of further frames of pieces
	layers []index
}

func (f forged) stream(t testing.TB) []byte {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	var b bytes.Buffer
	out := newStreamWriter(&b)
	_, err = out.w.WriteString(streamMagic)
	must(t, err)
	h := streamHeader{Version: formatVersion, Layers: len(f.layers), PublicKey: public}
	if f.header != nil {
		h = *f.header
		h.PublicKey = public
	}
	header, err := json.Marshal(h)
	must(t, err)
	must(t, out.frame(frameHeader, header))
	pieces, err := chunk.Open(&pieceFrames{out: out, sent: map[string]bool{}}, nil)
	must(t, err)
	for _, p := range f.pieces {
		_, _, err := pieces.Put(t.Context(), p)
		must(t, err)
	}
	for _, p := range f.raw {
		must(t, out.frame(framePiece, p))
	}
	for _, l := range f.layers {
		b, err := json.Marshal(l)
		must(t, err)
		must(t, out.frame(frameSnapshot, b))
	}
	must(t, out.sign(key))
	return b.Bytes()
}

const forgedID = "snap-0c7v4g6k1w0003f9a2m5d8r1t6"

// layerOf describes one layer of these files.
func layerOf(change func(*Manifest), entries ...entry) index {
	m := Manifest{Version: formatVersion, ID: forgedID, Kind: faas.SnapshotFS, Runtime: faas.RuntimeNative, Image: "host", Layers: []string{forgedID}}
	if change != nil {
		change(&m)
	}
	b, _ := json.Marshal(m) //nolint:errchkjson // plain data
	return index{Version: formatVersion, Manifest: b, Parts: []part{{partFS, append([]entry{{Path: ".", Mode: 0o040755}}, entries...)}}}
}

func TestImportRefusesHostileStreams(t *testing.T) {
	needRoot(t)
	naming, err := chunk.Open(chunk.Discard{}, nil)
	must(t, err)
	ok := []byte("content")
	ref := naming.Name(ok)
	file := func(p string, change func(*entry)) entry {
		e := entry{Path: p, Mode: 0o100644, Size: int64(len(ok)), Extents: []extent{{0, []piece{{ref, int64(len(ok))}}}}}
		if change != nil {
			change(&e)
		}
		return e
	}
	one := func(entries ...entry) forged {
		return forged{pieces: [][]byte{ok}, layers: []index{layerOf(nil, append(entries, file("uses-the-piece", nil))...)}}
	}
	said := func(change func(*Manifest)) forged {
		return forged{pieces: [][]byte{ok}, layers: []index{layerOf(change, file("f", nil))}}
	}
	bomb := make([]byte, 32<<20) // of zeros, which pack well
	bombBlob := func() []byte {
		var blob []byte
		s, err := chunk.Open(keep{&blob}, nil)
		must(t, err)
		_, _, err = s.Put(t.Context(), bomb)
		must(t, err)
		digest, err := hex.DecodeString(string(naming.Name(bomb)))
		must(t, err)
		return append(digest, blob...)
	}()
	many := make([]extent, 0, 64)
	big := bytes.Repeat([]byte{1}, chunk.MaxPiece)
	for i := range 64 {
		many = append(many, extent{int64(i) * int64(len(big)), []piece{{naming.Name(big), int64(len(big))}}})
	}
	memory := layerOf(func(m *Manifest) { m.Kind = faas.SnapshotFull }, file("f", nil))
	memory.Parts = append(memory.Parts, part{partMemory, []entry{{Path: ".", Mode: 0o040755}}})
	twoParts := layerOf(nil, file("f", nil))
	twoParts.Parts = append(twoParts.Parts, twoParts.Parts[0])
	for name, f := range map[string]forged{
		"dots":                       one(file("../evil", nil)),
		"inner dots":                 one(file("a/../../evil", nil)),
		"absolute":                   one(file("/evil", nil)),
		"through a link":             one(entry{Path: "l", Mode: 0o120777, Target: "/tmp"}, file("l/evil", nil)),
		"over a link":                one(entry{Path: "l", Mode: 0o120777, Target: "/tmp/evil"}, file("l", nil)),
		"hard link outside":          one(entry{Path: "l", Link: "../../../../etc/passwd"}),
		"hard link that says more":   one(entry{Path: "l", Link: "uses-the-piece", Mode: 0o104755}),
		"no root":                    {layers: []index{{Version: 1, Manifest: layerOf(nil).Manifest, Parts: []part{{partFS, nil}}}}},
		"duplicate":                  one(file("f", nil), file("f", nil)),
		"device":                     one(entry{Path: "sda", Mode: 0o060660, Device: 0x800}),
		"character device":           one(entry{Path: "mem", Mode: 0o020666, Device: 0x101}),
		"setuid of a foreign id":     one(file("su", func(e *entry) { e.Mode, e.UID = 0o104755, ownerCount })),
		"an owner below all":         one(file("f", func(e *entry) { e.UID = 1<<32 - testOwner })),
		"a group beyond":             one(file("f", func(e *entry) { e.GID = 1 << 31 })),
		"capabilities":               one(file("cap", func(e *entry) { e.Xattrs = map[string][]byte{"security.capability": {1}} })),
		"a redirect":                 one(file("f", func(e *entry) { e.Xattrs = map[string][]byte{"user.overlay.redirect": []byte("/etc")} })),
		"metacopy":                   one(file("f", func(e *entry) { e.Xattrs = map[string][]byte{"trusted.overlay.metacopy": {}} })),
		"an opaque file":             one(file("f", func(e *entry) { e.Xattrs = map[string][]byte{opaqueMarks[0]: []byte("y")} })),
		"a negative size":            one(file("f", func(e *entry) { e.Size = -1 })),
		"a huge size":                one(file("f", func(e *entry) { e.Size = maxBytes + 1 })),
		"smaller than it says":       one(file("f", func(e *entry) { e.Extents[0].Pieces[0].Size = 3 })),
		"larger than its size":       one(file("f", func(e *entry) { e.Size = 3 })),
		"data before the beginning":  one(file("f", func(e *entry) { e.Extents[0].Offset = -4 })),
		"data far behind":            one(file("f", func(e *entry) { e.Extents[0].Offset = 1<<63 - 3 })),
		"data on data":               one(file("f", func(e *entry) { e.Size = 14; e.Extents = append(e.Extents, extent{3, e.Extents[0].Pieces}) })),
		"data in a directory":        one(file("d", func(e *entry) { e.Mode = 0o040755 })),
		"a piece that did not come":  one(file("f", func(e *entry) { e.Extents[0].Pieces[0].Ref = chunk.Ref(strings.Repeat("0", 64)) })),
		"a piece without a name":     one(file("f", func(e *entry) { e.Extents[0].Pieces[0].Ref = "" })),
		"a piece of nothing":         {pieces: [][]byte{ok, []byte("more")}, layers: one().layers},
		"a piece of another content": {raw: [][]byte{append(make([]byte, 32), 1, 2, 3)}, layers: one().layers},
		"a piece too short":          {raw: [][]byte{{1}}, layers: one().layers},
		"a bomb":                     {pieces: [][]byte{ok}, raw: [][]byte{bombBlob}, layers: one().layers},
		"one piece many times":       {pieces: [][]byte{ok, big}, layers: one(file("f", func(e *entry) { e.Size, e.Extents = 1<<40, many })).layers},
		"no layer":                   {},
		"layers that do not come":    {header: &streamHeader{Version: 1, Layers: 2}, pieces: [][]byte{ok}, layers: one().layers},
		"more layers than promised":  {header: &streamHeader{Version: 1, Layers: 1}, pieces: [][]byte{ok}, layers: append(one().layers, one().layers...)},
		"many layers":                {header: &streamHeader{Version: 1, Layers: 1 << 30}, pieces: [][]byte{ok}, layers: one().layers},
		"another version":            {header: &streamHeader{Version: 2, Layers: 1}, pieces: [][]byte{ok}, layers: one().layers},
		"two layers of one id":       {pieces: [][]byte{ok}, layers: append(one().layers, one().layers...)},
		"two parts alike":            {pieces: [][]byte{ok}, layers: []index{twoParts}},
		"an id that is a path":       said(func(m *Manifest) { m.ID, m.Layers = "../x", []string{"../x"} }),
		"layers of others":           said(func(m *Manifest) { m.Layers = append(m.Layers, "snap-0c7v4g6k1w0003f9a2m5d8r1t7") }),
		"no such runtime":            said(func(m *Manifest) { m.Runtime = "x" }),
		"no image":                   said(func(m *Manifest) { m.Image = "" }),
		"a long name":                said(func(m *Manifest) { m.Name = strings.Repeat("n", maxTextField+1) }),
		"memory that is not there":   said(func(m *Manifest) { m.Kind = faas.SnapshotFull }),
		"no such kind":               said(func(m *Manifest) { m.Kind = "x" }),
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			_, err := s.Import(t.Context(), bytes.NewReader(f.stream(t)), importing(faas.SnapshotAuto))
			if !errors.Is(err, faas.ErrInvalidArgument) && !errors.Is(err, faas.ErrPayloadTooLarge) {
				t.Errorf("%v", err)
			}
			nothingLeft(t, s)
		})
	}
	t.Run("honest", func(t *testing.T) {
		s := open(t, t.TempDir())
		for _, f := range []forged{one(), said(nil), {pieces: [][]byte{ok}, layers: []index{memory}}} {
			m, err := s.Import(t.Context(), bytes.NewReader(f.stream(t)), importing(faas.SnapshotAuto))
			must(t, err)
			if m.Kind != faas.SnapshotFS {
				t.Errorf("kind %s", m.Kind)
			}
		}
	})
}

// keep is a backend that keeps the last blob.
type keep struct{ blob *[]byte }

func (k keep) Put(_ context.Context, _ string, content []byte) error {
	*k.blob = bytes.Clone(content)
	return nil
}
func (keep) Get(context.Context, string) ([]byte, error) { return nil, errors.ErrUnsupported }
func (keep) Has(context.Context, string) (bool, error)   { return false, nil }
func (keep) Delete(context.Context, string) error        { return nil }
func (keep) List(context.Context, string, func(string, int64) error) error {
	return nil
}

// FuzzImport changes the description of a layer, which somebody has signed,
// and the stream as a whole. What is taken in harms nobody.
func FuzzImport(f *testing.F) {
	if os.Geteuid() != 0 {
		f.Skip("SKIP imports: owners need root")
	}
	here, err := Open(f.TempDir(), Options{})
	must(f, err)
	defer here.Close()
	_, stream := exported(f, here, faas.SnapshotFS, 0)
	f.Add(stream, false)
	for _, e := range []entry{
		{Path: "f", Mode: 0o104755}, {Path: "l", Mode: 0o120777, Target: "/etc/passwd"}, {Path: "../x", Mode: 0o040755},
		{Path: "d", Mode: 0o040755, Xattrs: map[string][]byte{opaqueMarks[0]: []byte("y")}}, {Path: "w", Mode: 0o020000},
		{Path: "h", Mode: 0o100644, Size: 1 << 40, Extents: []extent{{1, []piece{{"00", 1}}}}}, {Path: "k", Link: "f"},
	} {
		b, err := json.Marshal(layerOf(nil, e))
		must(f, err)
		f.Add(b, true)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte, layer bool) {
		if layer {
			var x index
			if json.Unmarshal(b, &x) != nil {
				return
			}
			b = forged{layers: []index{x}}.stream(t)
		}
		s, err := Open(dir, Options{})
		must(t, err)
		defer s.Close()
		m, err := s.Import(t.Context(), bytes.NewReader(b), importing(faas.SnapshotAuto))
		if err == nil {
			harmless(t, filepath.Join(s.path(m.ID), partFS))
			_, err = s.Remove("p", m.ID, false)
			must(t, err)
		}
		nothingLeft(t, s)
	})
}

// harmless fails when files mean anything outside of a sandbox.
func harmless(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		kind := st.Mode & unix.S_IFMT
		if kind == unix.S_IFBLK || kind == unix.S_IFCHR && st.Rdev != 0 {
			t.Errorf("%s is a device", p)
		}
		if st.Uid < testOwner || st.Uid >= testOwner+ownerCount {
			t.Errorf("%s is of %d", p, st.Uid)
		}
		return nil
	}))
}
