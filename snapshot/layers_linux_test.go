package snapshot

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP snapshot layers: whiteouts and owners need root")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// layer makes a layer directory. A value is a file's content; a path that
// ends in / is a directory; "-" is a whiteout; a directory's "opaque" is that;
// "-> x" is a symbolic link.
func layer(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	writeInto(t, dir, files)
	return dir
}

func writeInto(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for _, p := range slices.Sorted(maps.Keys(files)) {
		content, full := files[p], filepath.Join(dir, p)
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		switch {
		case strings.HasSuffix(p, "/"):
			must(t, os.MkdirAll(full, 0o755))
			if content == "opaque" {
				must(t, unix.Lsetxattr(full, "user.overlay.opaque", []byte("y"), 0))
			}
		case content == "-":
			must(t, unix.Mknod(full, unix.S_IFCHR, 0))
		case strings.HasPrefix(content, "-> "):
			must(t, os.Symlink(content[3:], full))
		default:
			must(t, os.WriteFile(full, []byte(content), 0o644))
		}
	}
}

// listing describes a tree by its nodes.
func listing(t *testing.T, layers []string) map[string]string {
	t.Helper()
	root, err := newTree(layers)
	must(t, err)
	out := map[string]string{}
	var walk func(p string, n *node)
	walk = func(p string, n *node) {
		names, err := n.names()
		must(t, err)
		for _, name := range names {
			c, err := n.child(name)
			must(t, err)
			full := p + "/" + name
			switch {
			case c.isDir():
				out[full] = "dir"
				walk(full, c)
			case c.isRegular():
				b, err := os.ReadFile(c.file)
				must(t, err)
				out[full] = string(b)
			default:
				target, err := os.Readlink(c.file)
				must(t, err)
				out[full] = "-> " + target
			}
		}
	}
	walk("", root)
	return out
}

// mounted describes a tree as the kernel's overlay shows it.
func mounted(t *testing.T, layers []string) map[string]string {
	t.Helper()
	at, base := t.TempDir(), t.TempDir()
	must(t, unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "userxattr,lowerdir="+strings.Join(append(slices.Clone(layers), base), ":")))
	defer func() { must(t, unix.Unmount(at, 0)) }()
	out := map[string]string{}
	must(t, filepath.WalkDir(at, func(p string, e fs.DirEntry, err error) error {
		must(t, err)
		rel := strings.TrimPrefix(p, at)
		if _, err := os.Lstat(p); err != nil {
			return nil // the kernel lists a whiteout that hides nothing, and finds no file there
		}
		switch {
		case rel == "":
		case e.IsDir():
			out[rel] = "dir"
		case e.Type().IsRegular():
			b, err := os.ReadFile(p)
			must(t, err)
			out[rel] = string(b)
		default:
			target, err := os.Readlink(p)
			must(t, err)
			out[rel] = "-> " + target
		}
		return nil
	}))
	return out
}

// A stack reads as the kernel's overlay reads it, for layers made at random.
func TestTreeIsTheKernels(t *testing.T) {
	needRoot(t)
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	for round := range 30 {
		var layers []string
		for range 1 + r.IntN(4) {
			layers = append(layers, layer(t, randomLayer(r)))
		}
		if got, want := listing(t, layers), mounted(t, layers); !maps.Equal(got, want) {
			t.Fatalf("seed %d, round %d: %v, the kernel shows %v", seed, round, got, want)
		}
	}
}

func randomLayer(r *rand.Rand) map[string]string {
	files := map[string]string{}
	for range 1 + r.IntN(8) {
		p := string(rune('a' + r.IntN(3)))
		for range r.IntN(3) {
			p += "/" + string(rune('a'+r.IntN(3)))
		}
		clash := false
		for have := range files {
			have = strings.TrimSuffix(have, "/")
			clash = clash || have == p || strings.HasPrefix(p, have+"/") || strings.HasPrefix(have, p+"/")
		}
		if clash {
			continue
		}
		switch r.IntN(6) {
		case 0:
			files[p] = "-"
		case 1:
			files[p+"/"] = "opaque"
		case 2:
			files[p+"/"] = ""
		case 3:
			files[p] = "-> elsewhere"
		default:
			files[p] = fmt.Sprint(r.IntN(3))
		}
	}
	return files
}

func TestCopyLayer(t *testing.T) {
	needRoot(t)
	src := layer(t, map[string]string{
		"etc/app.conf": "x", "gone": "-", "replaced/": "opaque", "replaced/new": "y",
		"link": "-> /etc/passwd", "empty/": "",
	})
	must(t, os.Link(filepath.Join(src, "etc/app.conf"), filepath.Join(src, "etc/second")))
	must(t, os.Lchown(filepath.Join(src, "etc/app.conf"), 100123, 100456))
	must(t, os.Chmod(filepath.Join(src, "replaced/new"), 0o4755))
	must(t, unix.Mkfifo(filepath.Join(src, "pipe"), 0o600))
	must(t, unix.Lsetxattr(filepath.Join(src, "etc/app.conf"), "user.note", []byte("kept"), 0))
	sparse, err := os.Create(filepath.Join(src, "sparse"))
	must(t, err)
	_, err = sparse.WriteAt([]byte("end"), 64<<20)
	must(t, err)
	must(t, sparse.Close())
	dst := t.TempDir()
	must(t, CopyLayer(t.Context(), src, dst))

	if got := describe(t, dst); !maps.Equal(got, describe(t, src)) {
		t.Errorf("copy %v\nsource %v", got, describe(t, src))
	}
	var a, b, s unix.Stat_t
	must(t, unix.Lstat(filepath.Join(dst, "etc/app.conf"), &a))
	must(t, unix.Lstat(filepath.Join(dst, "etc/second"), &b))
	if a.Ino != b.Ino {
		t.Error("a hard link became a second file")
	}
	must(t, unix.Lstat(filepath.Join(dst, "sparse"), &s))
	if s.Blocks*512 > 1<<20 {
		t.Errorf("a hole became %d bytes", s.Blocks*512)
	}
	value := make([]byte, 16)
	n, err := unix.Lgetxattr(filepath.Join(dst, "etc/app.conf"), "user.note", value)
	if err != nil || string(value[:n]) != "kept" {
		t.Errorf("extended attribute: %q, %v", value[:n], err)
	}
	if !isOpaque(filepath.Join(dst, "replaced")) {
		t.Error("the opaque mark is lost")
	}
}

// describe lists type, mode, owner, time and size of everything in a layer.
func describe(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		size := st.Size
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			size = 0
		}
		if p != dir {
			out[strings.TrimPrefix(p, dir)] = fmt.Sprintf("%o %d:%d %d %d %v", st.Mode, st.Uid, st.Gid, st.Rdev, size, st.Mtim)
		}
		return nil
	}))
	return out
}

func TestDiff(t *testing.T) {
	needRoot(t)
	image := layer(t, map[string]string{"etc/a": "1", "etc/b": "22", "lib/x": "333", "lib/y": "1", "keep": "k"})
	before := layer(t, map[string]string{"etc/a": "one", "new": "n"})
	after := layer(t, map[string]string{"etc/a": "1", "etc/b": "-", "lib/": "opaque", "lib/z": "zz", "keep": "k"})
	got, err := Diff(t.Context(), []string{before, image}, []string{after, image})
	must(t, err)
	want := []Change{
		{"/etc/a", Changed, 3, 1},
		{"/etc/b", Removed, 2, 0},
		{"/lib/x", Removed, 3, 0},
		{"/lib/y", Removed, 1, 0},
		{"/lib/z", Added, 0, 2},
		{"/new", Removed, 1, 0},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

func TestMerge(t *testing.T) {
	needRoot(t)
	base := map[string]string{"a": "a", "b": "b", "d/x": "x", "d/y": "y", "deep/er/file": "f"}
	for _, tc := range []struct {
		name      string
		one, two  map[string]string
		strategy  Strategy
		want      map[string]string // nil: conflicts only
		conflicts []string
	}{
		{"disjoint", map[string]string{"a": "A"}, map[string]string{"b": "B", "new/n": "n"}, Union,
			map[string]string{"/a": "A", "/b": "B", "/new": "dir", "/new/n": "n", "/d": "dir", "/d/x": "x", "/d/y": "y"}, nil},
		{"alike", map[string]string{"a": "A", "b": "-"}, map[string]string{"a": "A", "b": "-"}, Union,
			map[string]string{"/a": "A", "/d": "dir", "/d/x": "x", "/d/y": "y"}, nil},
		{"differently", map[string]string{"a": "1"}, map[string]string{"a": "2"}, Union, nil, []string{"/a"}},
		{"changed and removed", map[string]string{"a": "1"}, map[string]string{"a": "-"}, Union, nil, []string{"/a"}},
		{"below a removed directory", map[string]string{"d": "-"}, map[string]string{"d/z": "z"}, Union, nil, []string{"/d/z"}},
		{"intersection", map[string]string{"a": "A", "b": "1"}, map[string]string{"a": "A", "b": "2", "c": "c"}, Intersection,
			map[string]string{"/a": "A", "/b": "b", "/d": "dir", "/d/x": "x", "/d/y": "y"}, []string{"/b"}},
		{"latest", map[string]string{"a": "1", "c": "c"}, map[string]string{"a": "2"}, Latest,
			map[string]string{"/a": "2", "/b": "b", "/c": "c", "/d": "dir", "/d/x": "x", "/d/y": "y"}, []string{"/a"}},
		{"latest removes a directory", map[string]string{"d/z": "z"}, map[string]string{"d": "-"}, Latest,
			map[string]string{"/a": "a", "/b": "b"}, []string{"/d/z"}},
		{"latest adds to a removed directory", map[string]string{"d": "-"}, map[string]string{"d/z": "z"}, Latest,
			map[string]string{"/a": "a", "/b": "b", "/d": "dir", "/d/z": "z"}, []string{"/d/z"}},
		{"directory becomes file", map[string]string{"d": "file"}, map[string]string{"a": "A"}, Union,
			map[string]string{"/a": "A", "/b": "b", "/d": "file"}, nil},
		{"file becomes directory", map[string]string{"a/": "", "a/in": "i"}, map[string]string{"b": "-"}, Union,
			map[string]string{"/a": "dir", "/a/in": "i", "/d": "dir", "/d/x": "x", "/d/y": "y"}, nil},
		{"directory replaced", map[string]string{"d/": "opaque", "d/new": "n"}, map[string]string{}, Union,
			map[string]string{"/a": "a", "/b": "b", "/d": "dir", "/d/new": "n"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := layer(t, base)
			merged := t.TempDir()
			conflicts, err := Merge(t.Context(), []string{b},
				[][]string{{layer(t, tc.one), b}, {layer(t, tc.two), b}}, tc.strategy, merged)
			must(t, err)
			var paths []string
			for _, c := range conflicts {
				paths = append(paths, c.Path)
			}
			if !slices.Equal(paths, tc.conflicts) {
				t.Errorf("conflicts %v, want %v", paths, tc.conflicts)
			}
			if tc.want == nil {
				if entries, _ := os.ReadDir(merged); len(entries) > 0 {
					t.Error("a refused merge wrote something")
				}
				return
			}
			want := maps.Clone(tc.want)
			want["/deep"], want["/deep/er"], want["/deep/er/file"] = "dir", "dir", "f"
			if got := mounted(t, []string{merged, b}); !maps.Equal(got, want) {
				t.Errorf("%v\nwant %v", got, want)
			}
		})
	}
}

// Merging one branch gives that branch, whatever it changed.
func TestMergeOfOneBranchIsTheBranch(t *testing.T) {
	needRoot(t)
	const seed = 11
	r := rand.New(rand.NewPCG(seed, seed))
	for round := range 40 {
		base := []string{layer(t, randomLayer(r)), layer(t, randomLayer(r))}
		branch := append([]string{layer(t, randomLayer(r))}, base...)
		merged := t.TempDir()
		conflicts, err := Merge(t.Context(), base, [][]string{branch}, Union, merged)
		must(t, err)
		if len(conflicts) > 0 {
			t.Fatalf("conflicts %v", conflicts)
		}
		if got, want := mounted(t, append([]string{merged}, base...)), mounted(t, branch); !maps.Equal(got, want) {
			t.Fatalf("seed %d, round %d: %v, want %v", seed, round, got, want)
		}
	}
}
