package image

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// FuzzUnpack unpacks whatever tar there is and looks that nothing but the
// layer's directory changed, and nothing in it is a device but whiteouts.
func FuzzUnpack(f *testing.F) {
	seed := func(headers ...*tar.Header) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			if err := w.WriteHeader(h); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	seed(&tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, &tar.Header{Name: "d/f", Mode: 0o4755})
	seed(&tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../.."}, &tar.Header{Name: "l/canary"})
	seed(&tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/"}, &tar.Header{Name: "l/l/x"}, &tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "l/x"})
	seed(&tar.Header{Name: ".wh.a"}, &tar.Header{Name: "a/", Typeflag: tar.TypeDir}, &tar.Header{Name: "a/.wh..wh..opq"})
	seed(&tar.Header{Name: "p", Typeflag: tar.TypeFifo}, &tar.Header{Name: "c", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, &tar.Header{Name: "p/", Typeflag: tar.TypeDir})
	seed(&tar.Header{Name: "x", Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.user.a": "b"}})
	limits := Limits{MaxEntries: 1000, MaxBytes: 1 << 20, MaxDepth: 20}.withDefaults()
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		canary := filepath.Join(dir, "canary")
		if err := os.WriteFile(canary, []byte("alive"), 0o600); err != nil {
			t.Fatal(err)
		}
		layer := filepath.Join(dir, "layer")
		own := ownership{keep: os.Geteuid() == 0, uid: 0, gid: 0}
		_, err := extract(t.Context(), layer, bytes.NewReader(data), own, limits)
		if got, readErr := os.ReadFile(canary); string(got) != "alive" || readErr != nil {
			t.Fatalf("the file outside: %q, %v", got, readErr)
		}
		if names, _ := os.ReadDir(dir); len(names) > 2 {
			t.Fatalf("outside: %v", names)
		}
		walkErr := filepath.WalkDir(layer, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type()&fs.ModeDevice != 0 && d.Type()&fs.ModeCharDevice == 0 {
				t.Errorf("%s is a block device", path)
			}
			return nil
		})
		if err == nil && walkErr != nil {
			t.Error(walkErr)
		}
		if err := removeTree(layer); err != nil {
			t.Errorf("it cannot be removed: %v", err)
		}
	})
}

func BenchmarkAcquire(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "store"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Import(b.Context(), bytes.NewReader(emptyTar[:]), "empty"); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, ref, owner string }{
		{"image", "empty", ""}, {"image owned", "empty", "sbx-1"}, {"host", "host", ""}, {"host owned", "host", "sbx-1"},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				root, err := s.AcquireWith(b.Context(), c.ref, AcquireOptions{Owner: c.owner})
				if err != nil {
					b.Fatal(err)
				}
				if err := root.Release(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
