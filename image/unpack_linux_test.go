package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/image/imagetest"
)

func pulled(t *testing.T, s *image.Store, tars ...[]byte) *image.RootFS {
	t.Helper()
	registry := imagetest.Registry(t, imagetest.RegistryOptions{})
	ref := registry.Pushed(t, "layers:1", imageOf(t, tars...))
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	return acquire(t, s, ref)
}

func TestWhiteoutsInAnOverlay(t *testing.T) {
	needRoot(t)
	s := open(t, image.Options{UIDShift: shift, GIDShift: shift})
	bottom := layerTar(t, entry{name: "gone"}, entry{name: "dir/", mode: 0o750}, entry{name: "dir/old"}, entry{name: "tree/"}, entry{name: "tree/a/old"},
		entry{name: "hidden/"}, entry{name: "hidden/old"}, entry{name: "early/"}, entry{name: "early/old"}, entry{name: "late/"}, entry{name: "late/old"},
		entry{name: "file"}, entry{name: "raw"}, entry{name: "implied/old"})
	top := layerTar(t,
		entry{name: ".wh.gone"},
		entry{name: "dir/"}, entry{name: "dir/.wh..wh..opq"}, entry{name: "dir/new"},
		entry{name: "tree/a/"}, entry{name: "tree/a/new"}, entry{name: "tree/a/.wh..wh..opq"},
		entry{name: ".wh.hidden"},
		// A whiteout beside a new entry of its name, in either order.
		entry{name: ".wh.early"}, entry{name: "early/"}, entry{name: "early/new"},
		entry{name: "late/"}, entry{name: "late/new"}, entry{name: ".wh.late"},
		entry{name: "file", content: "new"}, entry{name: ".wh.file"},
		entry{name: "raw", kind: tar.TypeChar},
		entry{name: ".wh.implied"}, entry{name: "implied/new"},
		entry{name: ".wh..wh.plnk/"}, entry{name: ".wh..wh.plnk/1.2"}, entry{name: ".wh..wh.aufs"},
	)
	root := pulled(t, s, bottom, top)
	got := look(t, root.Layers, `find . ! -name . | sort; cat file`)
	want := "./dir\n./dir/new\n./early\n./early/new\n./file\n./implied\n./implied/new\n./late\n./late/new\n./tree\n./tree/a\n./tree/a/new\nnew"
	if got != want {
		t.Errorf("the overlay shows\n%s\nnot\n%s", got, want)
	}
}

func TestOpaqueRoot(t *testing.T) {
	needRoot(t)
	s := open(t, image.Options{UIDShift: shift, GIDShift: shift})
	root := pulled(t, s, layerTar(t, entry{name: "old"}), layerTar(t, entry{name: ".wh..wh..opq"}, entry{name: "new"}), layerTar(t, entry{name: "top"}))
	if got := look(t, root.Layers, "ls"); got != "new\ntop\n" {
		t.Errorf("the overlay shows %q", got)
	}
}

func TestEqualLayersOnce(t *testing.T) {
	needRoot(t)
	s := open(t, image.Options{UIDShift: shift, GIDShift: shift})
	a, b := layerTar(t, entry{name: "a", content: "1"}), layerTar(t, entry{name: ".wh.a"}, entry{name: "b"})
	root := pulled(t, s, a, b, a)
	if got := look(t, root.Layers, "ls"); got != "a\nb\n" || len(root.Layers) != 2 {
		t.Errorf("%d layers, the overlay shows %q", len(root.Layers), got)
	}
}

func TestAttributes(t *testing.T) {
	needRoot(t)
	s := open(t, image.Options{UIDShift: shift, GIDShift: shift})
	img, root := importTar(t, s,
		entry{name: "./", mode: 0o751},
		entry{name: "su", content: "x", mode: 0o4755, uid: 0, gid: 5},
		entry{name: "mine", uid: 1000, gid: 1000, mode: 0o600, xattrs: map[string]string{
			"user.note": "hello", "user.overlay.redirect": "/etc", "trusted.overlay.opaque": "y",
			"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "trusted.x": "y"}},
		entry{name: "hard", kind: tar.TypeLink, link: "/mine"},
		entry{name: "soft", kind: tar.TypeSymlink, link: "/etc/passwd", uid: 7},
		entry{name: "hardsoft", kind: tar.TypeLink, link: "soft"},
		entry{name: "pipe", kind: tar.TypeFifo, mode: 0o622},
		entry{name: "null", kind: tar.TypeChar, major: 1, minor: 3},
		entry{name: "disk", kind: tar.TypeBlock, major: 8},
		entry{name: "huge", uid: 1_000_660_000, gid: 3, mode: 0o4755},
		entry{name: "shut/", mode: 0o500}, entry{name: "shut/in", content: "y"},
		entry{name: "tmp/", mode: 0o1777},
	)
	dir := root.Layers[0]
	stat := func(name string) *syscall.Stat_t {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t)
	}
	for name, want := range map[string]struct {
		mode     uint32
		uid, gid uint32
	}{
		".":    {syscall.S_IFDIR | 0o751, shift, shift},
		"su":   {syscall.S_IFREG | 0o4755, shift, shift + 5},
		"mine": {syscall.S_IFREG | 0o600, shift + 1000, shift + 1000},
		"soft": {syscall.S_IFLNK | 0o777, shift + 7, shift},
		"pipe": {syscall.S_IFIFO | 0o622, shift, shift},
		"huge": {syscall.S_IFREG | 0o755, shift + 65534, shift + 3},
		"shut": {syscall.S_IFDIR | 0o500, shift, shift},
		"tmp":  {syscall.S_IFDIR | 0o1777, shift, shift},
	} {
		if st := stat(name); st.Mode != want.mode || st.Uid != want.uid || st.Gid != want.gid || name != "." && st.Mtim.Sec != 1_600_000_000 {
			t.Errorf("%s: mode %o uid %d gid %d mtime %d, want %+v", name, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, want)
		}
	}
	if stat("mine").Ino != stat("hard").Ino || stat("soft").Ino != stat("hardsoft").Ino {
		t.Error("hard links are not links")
	}
	for _, name := range []string{"null", "disk"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the device %s: %v", name, err)
		}
	}
	names := make([]byte, 1024)
	n, err := unix.Llistxattr(filepath.Join(dir, "mine"), names)
	if err != nil || string(names[:n]) != "user.note\x00" {
		t.Errorf("extended attributes %q, %v", names[:n], err)
	}
	if len(img.Limitations) != 4 {
		t.Errorf("limitations: %q", img.Limitations)
	}
	got := look(t, root.Layers, `stat -c '%a %u %g' su mine; test -u su && echo suid; readlink soft`)
	if got != "4755 0 5\n600 1000 1000\nsuid\n/etc/passwd\n" {
		t.Errorf("inside it looks like %q", got)
	}
}

func TestHostileArchives(t *testing.T) {
	outside := t.TempDir()
	canary := filepath.Join(outside, "canary")
	if err := os.WriteFile(canary, []byte("alive"), 0o644); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("n", 300)
	var deep, jumps []entry
	for i := range 300 {
		deep = append(deep, entry{name: strings.Repeat("d/", i+1)})
	}
	base := strings.TrimSuffix(strings.Repeat("d/", 30), "/")
	jumps = append(jumps, entry{name: base + "/"})
	at := base
	for i := range 15 { // each link makes what lies behind the next one deeper
		link := "j" + strconv.Itoa(i)
		jumps = append(jumps, entry{name: link, kind: tar.TypeSymlink, link: at}, entry{name: link + "/" + base + "/x"})
		at = link + "/" + base
	}
	cases := []struct {
		name    string
		entries []entry
		want    error // nil: accepted, and kept inside
	}{
		{"climbing path", []entry{{name: "../canary", content: "dead"}}, faas.ErrInvalidArgument},
		{"climbing path within", []entry{{name: "a/../../canary", content: "dead"}}, faas.ErrInvalidArgument},
		{"absolute path", []entry{{name: canary, content: "dead"}}, nil},
		{"write through an absolute link", []entry{{name: "l", kind: tar.TypeSymlink, link: outside}, {name: "l/canary", content: "dead"}}, faas.ErrInvalidArgument},
		{"write through a climbing link", []entry{{name: "l", kind: tar.TypeSymlink, link: "../../../../../../../../.." + outside}, {name: "l/canary", content: "dead"}}, faas.ErrInvalidArgument},
		{"write through a link to a file", []entry{{name: "l", kind: tar.TypeSymlink, link: canary}, {name: "l", content: "dead"}}, nil},
		{"write through two links", []entry{{name: "d/"}, {name: "d/up", kind: tar.TypeSymlink, link: ".."}, {name: "l", kind: tar.TypeSymlink, link: "d/up/up/up" + outside}, {name: "l/canary", content: "dead"}}, faas.ErrInvalidArgument},
		{"link in circles", []entry{{name: "a", kind: tar.TypeSymlink, link: "b"}, {name: "b", kind: tar.TypeSymlink, link: "a"}, {name: "a/x"}}, faas.ErrInvalidArgument},
		{"directory over a link", []entry{{name: "l", kind: tar.TypeSymlink, link: outside}, {name: "l/", kind: tar.TypeDir, mode: 0o700}, {name: "l/canary", content: "dead"}}, nil},
		{"hard link outside", []entry{{name: "h", kind: tar.TypeLink, link: canary}}, faas.ErrInvalidArgument},
		{"hard link climbing", []entry{{name: "h", kind: tar.TypeLink, link: "../../../../.." + canary}}, faas.ErrInvalidArgument},
		{"hard link through a link", []entry{{name: "l", kind: tar.TypeSymlink, link: outside}, {name: "h", kind: tar.TypeLink, link: "l/canary"}}, faas.ErrInvalidArgument},
		{"hard link to a link, then written", []entry{{name: "l", kind: tar.TypeSymlink, link: canary}, {name: "h", kind: tar.TypeLink, link: "l"}, {name: "h", content: "dead"}}, nil},
		{"hard link to a directory", []entry{{name: "d/"}, {name: "h", kind: tar.TypeLink, link: "d"}}, faas.ErrInvalidArgument},
		{"hard link to a whiteout", []entry{{name: ".wh.w"}, {name: "h", kind: tar.TypeLink, link: "w"}}, faas.ErrInvalidArgument},
		{"hard link to itself", []entry{{name: "h", content: "1"}, {name: "h", kind: tar.TypeLink, link: "h"}}, nil},
		{"whiteout of the parent", []entry{{name: "d/.wh..."}}, faas.ErrInvalidArgument},
		{"whiteout of the directory", []entry{{name: "d/.wh.."}}, faas.ErrInvalidArgument},
		{"whiteout of nothing", []entry{{name: "d/.wh."}}, faas.ErrInvalidArgument},
		{"whiteout as a directory", []entry{{name: ".wh.d/x"}}, faas.ErrInvalidArgument},
		{"whiteout through a link", []entry{{name: "l", kind: tar.TypeSymlink, link: outside}, {name: "l/.wh.canary"}}, faas.ErrInvalidArgument},
		{"opaque through a link", []entry{{name: "l", kind: tar.TypeSymlink, link: outside}, {name: "l/.wh..wh..opq"}}, faas.ErrInvalidArgument},
		{"root that is a link", []entry{{name: ".", kind: tar.TypeSymlink, link: outside}}, faas.ErrInvalidArgument},
		{"root that is a file", []entry{{name: "./.", content: "x"}}, faas.ErrInvalidArgument},
		{"path through a file", []entry{{name: "f"}, {name: "f/x"}}, faas.ErrInvalidArgument},
		{"long name", []entry{{name: long}}, faas.ErrInvalidArgument},
		{"deep path", deep, faas.ErrPayloadTooLarge},
		{"deep by links", jumps, faas.ErrPayloadTooLarge},
		{"names again", []entry{{name: "a/"}, {name: "a/b/c"}, {name: "a", content: "file"}, {name: "a/"}, {name: "a/d"}}, nil},
		{"link to nothing", []entry{{name: "l", kind: tar.TypeSymlink}}, faas.ErrInvalidArgument},
		{"unknown type", []entry{{name: "x", kind: 'Z'}}, faas.ErrInvalidArgument},
	}
	s := open(t, image.Options{})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.Import(t.Context(), bytes.NewReader(layerTar(t, c.entries...)), "hostile")
			if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			} else if err != nil {
				t.Log(err)
			}
			if content, err := os.ReadFile(canary); string(content) != "alive" || err != nil {
				t.Fatalf("the file outside: %q, %v", content, err)
			}
			if found, _ := os.ReadDir(outside); len(found) != 1 {
				t.Fatalf("outside: %v", found)
			}
			leftovers(t, s)
		})
	}
}

func TestPathsThroughLinksStayInside(t *testing.T) {
	s := open(t, image.Options{})
	_, root := importTar(t, s, entry{name: "usr/lib/"}, entry{name: "lib", kind: tar.TypeSymlink, link: "/usr/lib"},
		entry{name: "lib/deep/x", content: "1"}, entry{name: "up", kind: tar.TypeSymlink, link: "../../../usr"}, entry{name: "up/lib/y", content: "2"},
		entry{name: "z", kind: tar.TypeLink, link: "lib/y"})
	for name, want := range map[string]string{"usr/lib/deep/x": "1", "usr/lib/y": "2", "z": "2"} {
		if got, err := os.ReadFile(filepath.Join(root.Layers[0], name)); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestLimits(t *testing.T) {
	s := open(t, image.Options{Limits: image.Limits{MaxEntries: 10, MaxBytes: 1 << 20, MaxLayers: 2}})
	many := make([]entry, 11)
	for i := range many {
		many[i] = entry{name: strconv.Itoa(i)}
	}
	claim := layerTar(t, entry{name: "a", content: "1"})
	giant := bytes.Replace(claim, []byte("00000000001\x00"), []byte("77777777777\x00"), 1)
	sum := 0 // the header's checksum again
	for i, b := range giant[:512] {
		if i >= 148 && i < 156 {
			b = ' '
		}
		sum += int(b)
	}
	copy(giant[148:], []byte(strconv.FormatInt(int64(0o1000000+sum), 8)[1:]+"\x00 "))
	for name, data := range map[string][]byte{
		"entries":   layerTar(t, many...),
		"bytes":     gzipped(t, layerTar(t, entry{name: "zeros", content: strings.Repeat("\x00", 2<<20)})),
		"the end":   gzipped(t, append(layerTar(t, entry{name: "a"}), make([]byte, 2<<20)...)),
		"the claim": giant,
	} {
		if _, err := s.Import(t.Context(), bytes.NewReader(data), "large"); !errors.Is(err, faas.ErrPayloadTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	registry := imagetest.Registry(t, imagetest.RegistryOptions{})
	ref := registry.Pushed(t, "many:1", imageOf(t, layerTar(t, entry{name: "a"}), layerTar(t, entry{name: "b"}), layerTar(t, entry{name: "c"})))
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); !errors.Is(err, faas.ErrPayloadTooLarge) {
		t.Errorf("layers: %v", err)
	}
	leftovers(t, s)
}

func TestBombs(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks 256 MiB")
	}
	s := open(t, image.Options{})
	zeros := gzipped(t, layerTar(t, entry{name: "zeros", content: strings.Repeat("\x00", 300<<20)}))
	if _, err := s.Import(t.Context(), bytes.NewReader(zeros), "bomb"); !errors.Is(err, faas.ErrPayloadTooLarge) || !strings.Contains(err.Error(), "times") {
		t.Errorf("%v", err)
	}
	leftovers(t, s)
}
