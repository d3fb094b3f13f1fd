package chunk

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/faas-platform/faas"
)

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed)})
	src.Read(b) //nolint:errcheck // never fails
	return b
}

func pieces(t *testing.T, r io.Reader) [][]byte {
	t.Helper()
	c := NewCutter(r)
	var list [][]byte
	for {
		b, err := c.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, bytes.Clone(b))
	}
}

func TestPiecesAreTheStream(t *testing.T) {
	for _, n := range []int{0, 1, minSize, minSize + 1, targetSize, maxSize, maxSize + 1, 20 << 20} {
		data := random(1, n)
		list := pieces(t, iotest.HalfReader(bytes.NewReader(data)))
		if !bytes.Equal(slices.Concat(list...), data) {
			t.Errorf("%d bytes: the pieces are not the stream", n)
		}
		for i, p := range list {
			if len(p) > maxSize || len(p) < minSize && i != len(list)-1 {
				t.Errorf("%d bytes: piece %d has %d", n, i, len(p))
			}
		}
	}
}

// An insertion changes the pieces around it only.
func TestCutsFollowContent(t *testing.T) {
	data := random(2, 32<<20)
	changed := slices.Concat(data[:10<<20], []byte("inserted"), data[10<<20:])
	have := map[string]bool{}
	for _, p := range pieces(t, bytes.NewReader(data)) {
		have[string(p)] = true
	}
	fresh := 0
	list := pieces(t, bytes.NewReader(changed))
	for _, p := range list {
		if !have[string(p)] {
			fresh++
		}
	}
	if fresh > 3 {
		t.Errorf("%d of %d pieces are new", fresh, len(list))
	}
}

func FuzzCutter(f *testing.F) {
	f.Add([]byte("x"), uint16(1))
	f.Fuzz(func(t *testing.T, seed []byte, repeat uint16) {
		data := bytes.Repeat(seed, int(repeat))
		if got := slices.Concat(pieces(t, bytes.NewReader(data))...); !bytes.Equal(got, data) {
			t.Error("the pieces are not the stream")
		}
	})
}

func TestStore(t *testing.T) {
	key := random(3, KeySize)
	for name, k := range map[string][]byte{"clear": nil, "encrypted": key} {
		t.Run(name, func(t *testing.T) {
			dir := Dir(t.TempDir())
			s, err := Open(dir, k)
			if err != nil {
				t.Fatal(err)
			}
			content := []byte("what a piece holds")
			ref, stored, err := s.Put(t.Context(), content)
			if err != nil || stored == 0 {
				t.Fatalf("%d, %v", stored, err)
			}
			if _, again, err := s.Put(t.Context(), content); err != nil || again != 0 {
				t.Errorf("stored again: %d, %v", again, err)
			}
			if got, err := s.Get(t.Context(), ref); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%q, %v", got, err)
			}
			// What lies under the name of something else is never handed out.
			other, _, err := s.Put(t.Context(), []byte("something else"))
			if err != nil {
				t.Fatal(err)
			}
			b, err := dir.Get(t.Context(), other.blob())
			if err != nil {
				t.Fatal(err)
			}
			if err := dir.Put(t.Context(), ref.blob(), b); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get(t.Context(), ref); !errors.Is(err, faas.ErrFailedPrecondition) {
				t.Errorf("swapped piece: %v", err)
			}
		})
	}
	s, err := Open(Dir(t.TempDir()), key)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Open(s.backend, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name([]byte("x")) == plain.Name([]byte("x")) {
		t.Error("an encrypted store names pieces by their plain digest")
	}
	if _, err := Open(s.backend, []byte("short")); !errors.Is(err, faas.ErrInvalidArgument) {
		t.Errorf("short key: %v", err)
	}
}

func TestSweepKeepsWhatIsNamed(t *testing.T) {
	s, err := Open(Dir(t.TempDir()), nil)
	if err != nil {
		t.Fatal(err)
	}
	kept, _, err := s.Put(t.Context(), []byte("kept"))
	if err != nil {
		t.Fatal(err)
	}
	gone, _, err := s.Put(t.Context(), []byte("gone"))
	if err != nil {
		t.Fatal(err)
	}
	if freed, err := s.Sweep(t.Context(), func(r Ref) bool { return r == kept }); err != nil || freed == 0 {
		t.Errorf("%d, %v", freed, err)
	}
	if _, err := s.Get(t.Context(), kept); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), gone); !errors.Is(err, faas.ErrFailedPrecondition) {
		t.Errorf("%v", err)
	}
}
