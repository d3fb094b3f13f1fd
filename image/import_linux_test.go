package image_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/image/imagetest"
)

func TestImportForms(t *testing.T) {
	busybox := imagetest.Busybox(t)
	dir := t.TempDir()
	saved := filepath.Join(dir, "saved.tar")
	tag, err := name.NewTag("saved/busybox:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(saved, tag, busybox); err != nil {
		t.Fatal(err)
	}
	oci := filepath.Join(dir, "oci")
	path, err := layout.Write(oci, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(busybox, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "oci/busybox:1"})); err != nil {
		t.Fatal(err)
	}
	ociTar := filepath.Join(dir, "oci.tar")
	pack(t, ociTar, oci, ".")
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	copyFile(t, "/bin/busybox", filepath.Join(tree, "bin", "busybox"))
	if err := os.Symlink("busybox", filepath.Join(tree, "bin", "sh")); err != nil {
		t.Fatal(err)
	}
	rootfs := filepath.Join(dir, "rootfs.tar")
	pack(t, rootfs, tree, "bin")
	plain, err := os.ReadFile(rootfs)
	if err != nil {
		t.Fatal(err)
	}
	gz, zst := filepath.Join(dir, "rootfs.tar.gz"), filepath.Join(dir, "rootfs.tar.zst")
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{gz: gzipped(t, plain), zst: encoder.EncodeAll(plain, nil)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ form, path, give, name string }{
		{"docker save", saved, "", "saved/busybox:1"},
		{"docker save renamed", saved, "other:2", "other:2"},
		{"OCI directory", oci, "", "oci/busybox:1"},
		{"OCI tar", ociTar, "", "oci/busybox:1"},
		{"root file system", rootfs, "mine", "mine:latest"},
		{"root file system in gzip", gz, "mine:gz", "mine:gz"},
		{"root file system in zstd", zst, "mine:zst", "mine:zst"},
	} {
		t.Run(c.form, func(t *testing.T) {
			s := open(t, image.Options{UIDShift: shiftIfRoot(), GIDShift: shiftIfRoot()})
			img, err := s.ImportPath(t.Context(), c.path, c.give)
			if err != nil {
				t.Fatal(err)
			}
			if len(img.Names) != 1 || img.Names[0] != c.name || img.Source != image.SourceImport {
				t.Errorf("it became %+v", img)
			}
			if got, err := s.Get(t.Context(), c.name); err != nil || got.Digest != img.Digest {
				t.Errorf("by name: %v, %v", got, err)
			}
			if got, err := s.Get(t.Context(), img.Digest[7:23]); err != nil || got.Digest != img.Digest {
				t.Errorf("by the digest's beginning: %v, %v", got, err)
			}
			root := acquire(t, s, c.name)
			if len(root.Config.Env) == 0 || !strings.HasPrefix(root.Config.Env[0], "PATH=") {
				t.Errorf("environment %q", root.Config.Env)
			}
			if out := look(t, root.Layers, `chroot . /bin/sh -c 'echo ok'`); out != "ok\n" {
				t.Errorf("it printed %q", out)
			}
			leftovers(t, s)
			if info, err := os.Stat(c.path); err == nil && !info.IsDir() {
				f, err := os.Open(c.path)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				again, err := s.Import(t.Context(), f, c.give)
				if err != nil || again.Digest != img.Digest {
					t.Errorf("from a stream: %v, %v", again, err)
				}
			}
		})
	}
}

func pack(t *testing.T, to, dir string, what ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "tar", append([]string{"-C", dir, "-cf", to}, what...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Skipf("needs %s: %v", from, err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestImportRefuses(t *testing.T) {
	s := open(t, image.Options{})
	layer := layerTar(t, entry{name: "a"})
	hex := strings.Repeat("a", 64)
	config := fmt.Sprintf(`{"os":"linux","architecture":%q,"rootfs":{"type":"layers","diff_ids":["sha256:%x"]}}`, runtime.GOARCH, sha256.Sum256(layer))
	// saved is an archive by docker save with one layer at a path of choice.
	saved := func(layerPath string) []byte {
		named := fmt.Sprintf("%x.json", sha256.Sum256([]byte(config)))
		manifest, err := json.Marshal([]map[string]any{{"Config": named, "RepoTags": []string{"x:1"}, "Layers": []string{layerPath}}})
		if err != nil {
			t.Fatal(err)
		}
		return layerTar(t, entry{name: named, content: config}, entry{name: "manifest.json", content: string(manifest)})
	}
	for name, c := range map[string]struct {
		data []byte
		name string
	}{
		"no tar":            {[]byte(strings.Repeat("no tar at all ", 100)), "x"},
		"cut off":           {layerTar(t, entry{name: "a", content: strings.Repeat("x", 5000)})[:2000], "x"},
		"damaged gzip":      {append([]byte{0x1f, 0x8b, 8}, make([]byte, 100)...), "x"},
		"xz":                {[]byte("\xfd7zXZ\x00aaaaaaaaaaa"), "x"},
		"without a name":    {layer, ""},
		"bad name":          {layer, "Bad Name"},
		"reserved name":     {layer, "host"},
		"named by digest":   {layer, "x@sha256:" + hex},
		"layer that climbs": {saved("../../../../etc/passwd"), ""},
		"config by a link out": {layerTar(t, entry{name: hex + ".json", kind: tar.TypeSymlink, link: "/etc/passwd"},
			entry{name: "manifest.json", content: `[{"Config":"` + hex + `.json","RepoTags":["x:1"],"Layers":[]}]`}), ""},
		"several images": {layerTar(t, entry{name: "manifest.json", content: `[{"RepoTags":["a:1"]},{"RepoTags":["b:1"]}]`}), ""},
		"write through a link": {layerTar(t, entry{name: "blobs", kind: tar.TypeSymlink, link: "/tmp"}, entry{name: "blobs/dead", content: "x"},
			entry{name: "oci-layout", content: "{}"}), ""},
		"damaged layout": {layerTar(t, entry{name: "oci-layout", content: "{}"}, entry{name: "index.json", content: "{"}), "x"},
		"lost manifest": {layerTar(t, entry{name: "oci-layout", content: "{}"},
			entry{name: "index.json", content: `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + hex + `","size":3}]}`}), "x"},
	} {
		if _, err := s.Import(t.Context(), bytes.NewReader(c.data), c.name); !errors.Is(err, faas.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	leftovers(t, s)
	if images, err := s.List(t.Context()); err != nil || len(images) > 1 {
		t.Errorf("images: %v, %v", images, err)
	}
}

func TestImportVerifies(t *testing.T) {
	s := open(t, image.Options{})
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	img := imageOf(t, layerTar(t, entry{name: "a", content: "right"}))
	if err := path.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(dir, "blobs", "sha256", digest.Hex)
	if err := os.Chmod(blob, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, gzipped(t, layerTar(t, entry{name: "a", content: "wrong"})), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ImportPath(t.Context(), dir, "x"); !errors.Is(err, faas.ErrInvalidArgument) || !strings.Contains(err.Error(), digest.Hex) {
		t.Errorf("%v", err)
	}
	foreign := onPlatform(t, img, "s390x")
	other := t.TempDir()
	if path, err = layout.Write(other, empty.Index); err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(foreign, layout.WithPlatform(v1.Platform{OS: "linux", Architecture: "s390x"})); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ImportPath(t.Context(), other, "x"); !errors.Is(err, faas.ErrInvalidArgument) || !strings.Contains(err.Error(), "s390x") {
		t.Errorf("of another platform: %v", err)
	}
	if _, err := s.ImportPath(t.Context(), t.TempDir(), "x"); !errors.Is(err, faas.ErrInvalidArgument) {
		t.Errorf("a directory that is no layout: %v", err)
	}
	leftovers(t, s)
}
