package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"

	"github.com/faas-platform/faas/image"
)

// shift is where the tests' user namespaces begin on the host.
const shift = 200000

func open(t *testing.T, opts image.Options) *image.Store {
	t.Helper()
	return openIn(t, filepath.Join(traversable(t), "store"), opts)
}

func openIn(t *testing.T, dir string, opts image.Options) *image.Store {
	t.Helper()
	s, err := image.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// traversable is t.TempDir that root of a user namespace may pass through.
func traversable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: maps a range of ids into a user namespace")
	}
}

// look mounts the layers as an overlay in a user namespace of its own, as the
// drivers do, and runs a script of the host's shell below it.
func look(t *testing.T, layers []string, script string) string {
	t.Helper()
	if len(layers) == 1 { // one lower layer is no overlay without an upper
		empty := filepath.Join(traversable(t), "empty")
		if err := os.Mkdir(empty, 0o755); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, empty)
	}
	return inNamespace(t, `mount -t overlay overlay -o ro,userxattr,lowerdir=`+strings.Join(layers, ":")+` "$at" && cd "$at" && `+script)
}

func inNamespace(t *testing.T, script string) string {
	t.Helper()
	needRoot(t)
	at := filepath.Join(traversable(t), "root")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.Env = []string{"at=" + at, "LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: shift, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: one, GidMappings: one, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{Uid: 0, Gid: 0}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// entry is one entry of a test's layer. A zero mode is 0644, or 0755 of a
// directory.
type entry struct {
	name, content, link string
	kind                byte
	mode                int64
	uid, gid            int
	xattrs              map[string]string
	major, minor        int64
}

func layerTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: e.mode, Uid: e.uid, Gid: e.gid,
			Size: int64(len(e.content)), ModTime: time.Unix(1_600_000_000, 0), Devmajor: e.major, Devminor: e.minor, Format: tar.FormatPAX}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(e.name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if e.mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		for name, value := range e.xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+name] = value
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("%s: %v", e.name, err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func layerOf(t testing.TB, data []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// imageOf makes an image of tars, bottom first.
func imageOf(t testing.TB, tars ...[]byte) v1.Image {
	t.Helper()
	var layers []v1.Layer
	for _, data := range tars {
		layers = append(layers, layerOf(t, data))
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return onPlatform(t, img, runtime.GOARCH)
}

func onPlatform(t testing.TB, img v1.Image, arch string) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// importTar imports a root file system and leases it.
func importTar(t *testing.T, s *image.Store, entries ...entry) (*image.Image, *image.RootFS) {
	t.Helper()
	img, err := s.Import(t.Context(), bytes.NewReader(layerTar(t, entries...)), "test")
	if err != nil {
		t.Fatal(err)
	}
	return img, acquire(t, s, "test")
}

func acquire(t *testing.T, s *image.Store, ref string) *image.RootFS {
	t.Helper()
	root, err := s.Acquire(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := root.Release(); err != nil {
			t.Error(err)
		}
	})
	return root
}

// leftovers fails the test when the store holds work in progress.
func leftovers(t *testing.T, s *image.Store) {
	t.Helper()
	for _, dir := range []string{"tmp"} {
		entries, err := os.ReadDir(filepath.Join(s.Dir(), dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			t.Errorf("%s/%s is left behind", dir, e.Name())
		}
	}
}
