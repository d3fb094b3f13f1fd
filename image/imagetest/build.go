package imagetest

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"

	"github.com/faas-platform/faas"
)

// recipeVersion is part of every cache key. Raise it with every change to what
// the layers hold.
const recipeVersion = "1"

// programTimeout bounds each program that a build asks.
const programTimeout = 30 * time.Second

// searchPath is that of the images.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// BuildBusybox builds an image of one layer: the machine's static busybox with
// a link for each of its programs. It needs Debian's busybox-static or the
// like, and fails with faas.KindCapabilityUnavailable without.
func BuildBusybox(ctx context.Context) (v1.Image, error) {
	layer, err := busyboxLayer(ctx)
	if err != nil {
		return nil, err
	}
	return assemble([]string{"/bin/sh"}, nil, layer)
}

// BuildPython builds an image of two layers: busybox, and the machine's own
// /usr/bin/python3 with its standard library and what they link to.
func BuildPython(ctx context.Context) (v1.Image, error) {
	return programImage(ctx, pythonRecipe)
}

// BuildNode builds an image of two layers: busybox, and the machine's own
// /usr/bin/node with what it links to.
func BuildNode(ctx context.Context) (v1.Image, error) {
	return programImage(ctx, nodeRecipe)
}

func programImage(ctx context.Context, find func(context.Context) (recipe, error)) (v1.Image, error) {
	base, err := busyboxLayer(ctx)
	if err != nil {
		return nil, err
	}
	r, err := find(ctx)
	if err != nil {
		return nil, err
	}
	layer, err := cachedLayer(ctx, r)
	if err != nil {
		return nil, err
	}
	return assemble([]string{r.program}, r.env, base, layer)
}

// recipe says what a layer is made of.
type recipe struct {
	name    string
	program string // its identity is the cache's key
	env     []string
	write   func(context.Context, *layerWriter)
}

func missing(what, pkg string) error {
	return faas.Unavailable("this machine has no "+what, "install it, on Debian with: apt-get install "+pkg)
}

func busyboxLayer(ctx context.Context) (v1.Layer, error) {
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if _, err := os.Stat(path); err == nil {
			return cachedLayer(ctx, recipe{name: "busybox", program: path, write: func(ctx context.Context, w *layerWriter) {
				writeBusybox(ctx, w, path)
			}})
		}
	}
	return nil, missing("static busybox", "busybox-static")
}

func writeBusybox(ctx context.Context, w *layerWriter, path string) {
	for _, dir := range []string{"bin", "dev", "etc", "home", "proc", "root", "run", "sbin", "sys", "usr", "usr/bin", "usr/sbin", "var"} {
		w.dir(dir, 0o755)
	}
	w.dir("tmp", 0o1777)
	w.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n", 0o644)
	w.file("etc/group", "root:x:0:\nuser:x:1000:\n", 0o644)
	w.copy("bin/busybox", path)
	list, err := output(ctx, path, "--list-full")
	w.fail(err)
	for name := range strings.FieldsSeq(list) {
		if name != "bin/busybox" && !strings.Contains(name, "..") && strings.Contains(name, "/") {
			w.link(name, "/bin/busybox")
		}
	}
}

func pythonRecipe(ctx context.Context) (recipe, error) {
	program, err := filepath.EvalSymlinks("/usr/bin/python3")
	if err != nil {
		return recipe{}, missing("/usr/bin/python3", "python3")
	}
	library, err := output(ctx, program, "-I", "-c", "import os; print(os.path.dirname(os.__file__))")
	if err != nil {
		return recipe{}, err
	}
	library = strings.TrimSpace(library)
	return recipe{name: "python", program: program, env: []string{"LANG=C.UTF-8"}, write: func(ctx context.Context, w *layerWriter) {
		w.tree(library, unneeded)
		w.copy(program[1:], program)
		w.link("usr/bin/python3", program)
		modules, err := filepath.Glob(library + "/lib-dynload/*.so")
		w.fail(err)
		w.libraries(ctx, append(modules, program))
	}}, nil
}

// unneeded names what the standard library can do without in a small image.
func unneeded(name string) bool {
	return slices.Contains([]string{"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip",
		"dist-packages", "site-packages", "pydoc_data"}, name) || strings.HasPrefix(name, "config-")
}

func nodeRecipe(context.Context) (recipe, error) {
	program, err := filepath.EvalSymlinks("/usr/bin/node")
	if err != nil {
		return recipe{}, missing("/usr/bin/node", "nodejs")
	}
	return recipe{name: "node", program: program, write: func(ctx context.Context, w *layerWriter) {
		w.copy(program[1:], program)
		if program != "/usr/bin/node" {
			w.link("usr/bin/node", program)
		}
		w.libraries(ctx, []string{program})
	}}, nil
}

// assemble makes an image of layers, bottom first.
func assemble(cmd, env []string, layers ...v1.Layer) (v1.Image, error) {
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Cmd = cmd
	config.Config.Env = append([]string{searchPath}, env...)
	config.Config.WorkingDir = "/"
	config.Config.Labels = map[string]string{"org.faas.test": "true"}
	return mutate.ConfigFile(img, config)
}

// cachedLayer builds a layer, or takes the one that an earlier run built from
// the same program.
func cachedLayer(ctx context.Context, r recipe) (v1.Layer, error) {
	info, err := os.Stat(r.program)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s %s %s %d %d", recipeVersion, r.name, r.program, info.Size(), info.ModTime().UnixNano()))
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("faas-imagetest-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fmt.Sprintf("%s-%x.tar.gz", r.name, key[:8]))
	unlock, err := lockFile(ctx, path+".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		err = buildLayer(ctx, r, path)
		if err != nil {
			return nil, fmt.Errorf("build the %s layer: %w", r.name, err)
		}
	}
	return tarball.LayerFromFile(path)
}

func buildLayer(ctx context.Context, r recipe, path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // renamed when all went well
	packed, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	w := &layerWriter{tar: tar.NewWriter(packed), written: map[string]bool{}}
	r.write(ctx, w)
	err = errors.Join(w.err, w.tar.Close(), packed.Close(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// layerWriter writes a layer; its first error stays.
type layerWriter struct {
	tar     *tar.Writer
	written map[string]bool
	err     error
}

func (w *layerWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// header writes an entry, its directories before it, once.
func (w *layerWriter) header(h *tar.Header) bool {
	if w.err != nil || w.written[h.Name] {
		return false
	}
	if dir := filepath.Dir(h.Name); dir != "." && !w.written[dir] {
		w.dir(dir, 0o755)
	}
	w.written[h.Name] = true
	h.Format = tar.FormatPAX
	w.fail(w.tar.WriteHeader(h))
	return w.err == nil
}

func (w *layerWriter) dir(path string, mode int64) {
	w.header(&tar.Header{Typeflag: tar.TypeDir, Name: path, Mode: mode, ModTime: time.Unix(0, 0)})
}

func (w *layerWriter) link(path, target string) {
	w.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: path, Linkname: target, Mode: 0o777, ModTime: time.Unix(0, 0)})
}

func (w *layerWriter) file(path, content string, mode int64) {
	if w.header(&tar.Header{Typeflag: tar.TypeReg, Name: path, Size: int64(len(content)), Mode: mode, ModTime: time.Unix(0, 0)}) {
		_, err := io.WriteString(w.tar, content)
		w.fail(err)
	}
}

// copy takes a file of this machine over. Its time stays: Python checks that
// of its sources against the compiled ones.
func (w *layerWriter) copy(path, source string) {
	f, err := os.Open(source)
	if err != nil {
		w.fail(err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		w.fail(err)
		return
	}
	if w.header(&tar.Header{Typeflag: tar.TypeReg, Name: path, Size: info.Size(),
		Mode: int64(info.Mode().Perm()), ModTime: info.ModTime().Truncate(time.Second)}) {
		_, err := io.Copy(w.tar, f)
		w.fail(err)
	}
}

// tree copies a directory of this machine to the same place.
func (w *layerWriter) tree(root string, skip func(name string) bool) {
	w.fail(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case skip(d.Name()) && d.IsDir():
			return fs.SkipDir
		case d.IsDir():
			w.dir(path[1:], 0o755)
		case d.Type().IsRegular():
			w.copy(path[1:], path)
		}
		return w.err
	}))
}

// libraries copies what programs link to, found by the dynamic linker itself.
func (w *layerWriter) libraries(ctx context.Context, programs []string) {
	for _, dir := range []string{"lib", "lib64"} {
		if target, err := os.Readlink("/" + dir); err == nil {
			w.link(dir, target)
		}
	}
	list, err := output(ctx, "ldd", programs...)
	w.fail(err)
	lines := bufio.NewScanner(strings.NewReader(list))
	for lines.Scan() {
		for field := range strings.FieldsSeq(lines.Text()) {
			if strings.HasPrefix(field, "/") && !strings.HasSuffix(field, ":") {
				dir, err := filepath.EvalSymlinks(filepath.Dir(field))
				w.fail(err)
				w.copy(filepath.Join(dir, filepath.Base(field))[1:], field)
			}
		}
	}
}

// output runs a program of this machine.
func output(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, programTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", program, err)
	}
	return string(out), nil
}
