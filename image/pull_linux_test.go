package image_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/image/imagetest"
)

func TestPullRuns(t *testing.T) {
	needRoot(t)
	registry := imagetest.Registry(t, imagetest.RegistryOptions{})
	for _, c := range []struct {
		name, script, want string
		img                v1.Image
	}{
		{"busybox", `chroot . /bin/sh -c 'echo $((40+2))'`, "42", imagetest.Busybox(t)},
		{"python", `chroot . /usr/bin/python3 -c 'import json,ssl,sqlite3,ctypes; print(json.dumps([42]))'`, "[42]", imagetest.Python(t)},
		{"node", `chroot . /usr/bin/node -p 'JSON.stringify([6*7])'`, "[42]", imagetest.Node(t)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, image.Options{UIDShift: shift, GIDShift: shift})
			ref := registry.Pushed(t, c.name+":1", c.img)
			steps := map[string]bool{}
			img, err := s.Pull(t.Context(), ref, image.PullOptions{Progress: func(step string, done, total int64) {
				if done == total {
					steps[strings.Fields(step)[0]] = true
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if !steps["resolve"] || !steps["download"] || !steps["unpack"] {
				t.Errorf("progress ended for %v only", steps)
			}
			if digest, _ := c.img.Digest(); img.Digest != digest.String() {
				t.Errorf("digest %s, pushed %s", img.Digest, digest)
			}
			t.Logf("%s: %d bytes in %d layers, %v", c.name, img.SizeBytes, len(img.Layers), img.Limitations)
			if out := strings.TrimSpace(look(t, acquire(t, s, ref).Layers, c.script)); out != c.want {
				t.Errorf("it printed %q, not %q", out, c.want)
			}
			leftovers(t, s)
			if found, _ := filepath.Glob(s.Dir() + "/blobs/*"); len(found) > 0 {
				t.Errorf("packed layers stay: %v", found)
			}
		})
	}
}

// counting counts blob and manifest requests by path.
func counting(counts *sync.Map) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				n, _ := counts.LoadOrStore(r.URL.Path, new(atomic.Int64))
				n.(*atomic.Int64).Add(1)
			}
			next.ServeHTTP(w, r)
		})
	}
}

func TestConcurrentPullsHappenOnce(t *testing.T) {
	var counts sync.Map
	registry := imagetest.Registry(t, imagetest.RegistryOptions{Wrap: counting(&counts)})
	ref := registry.Pushed(t, "once:1", imageOf(t, layerTar(t, entry{name: "a", content: "1"}), layerTar(t, entry{name: "b", content: "2"})))
	counts.Clear()
	dir := filepath.Join(t.TempDir(), "store")
	var wg sync.WaitGroup
	for _, policy := range []image.Policy{image.PullMissing, image.PullMissing, image.PullMissing, image.PullMissing} {
		for range 3 {
			s := openIn(t, dir, image.Options{}) // a store of its own, as another process has
			wg.Go(func() {
				if _, err := s.Pull(t.Context(), ref, image.PullOptions{Policy: policy}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for path, n := range counts.Range {
		if strings.Contains(path.(string), "/once/") && n.(*atomic.Int64).Load() != 1 {
			t.Errorf("%s was asked for %d times", path, n.(*atomic.Int64).Load())
		}
	}
	locks, err := os.ReadDir(filepath.Join(dir, "locks"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range locks {
		if l.Name() != "store.lock" {
			t.Errorf("the lock %s stays", l.Name())
		}
	}
}

func TestPullPolicies(t *testing.T) {
	registry := imagetest.Registry(t, imagetest.RegistryOptions{})
	s := open(t, image.Options{})
	ref := registry.Pushed(t, "moving:1", imageOf(t, layerTar(t, entry{name: "a", content: "1"})))
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{Policy: image.PullNever}); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("never, without it: %v", err)
	}
	first, err := s.Pull(t.Context(), ref, image.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	registry.Pushed(t, "moving:1", imageOf(t, layerTar(t, entry{name: "a", content: "2"})))
	for _, c := range []struct {
		policy image.Policy
		moved  bool
	}{{image.PullMissing, false}, {image.PullNever, false}, {image.PullAlways, true}} {
		img, err := s.Pull(t.Context(), ref, image.PullOptions{Policy: c.policy})
		if err != nil {
			t.Fatal(err)
		}
		if moved := img.Digest != first.Digest; moved != c.moved {
			t.Errorf("%s: moved %v", c.policy, moved)
		}
	}
	if _, err := s.Get(t.Context(), first.Digest); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("the image whose name moved on is still there: %v", err)
	}
}

func TestPullWithCredentials(t *testing.T) {
	registry := imagetest.Registry(t, imagetest.RegistryOptions{Username: "ada", Password: "engine"})
	ref := registry.Pushed(t, "private:1", imageOf(t, layerTar(t, entry{name: "a"})))
	config := t.TempDir()
	t.Setenv("HOME", config)
	t.Setenv("DOCKER_CONFIG", config)
	t.Setenv("XDG_RUNTIME_DIR", config)
	t.Setenv("REGISTRY_AUTH_FILE", "")
	s := open(t, image.Options{})
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); !errors.Is(err, faas.ErrPermissionDenied) {
		t.Errorf("without credentials: %v", err)
	}
	auth := base64.StdEncoding.EncodeToString([]byte("ada:engine"))
	data := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, registry.Host, auth)
	if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
		t.Errorf("with the credentials of the docker configuration: %v", err)
	}
}

func TestPullPlatformsAndDigests(t *testing.T) {
	registry := imagetest.Registry(t, imagetest.RegistryOptions{})
	var index v1.ImageIndex = empty.Index
	digests := map[string]string{}
	for _, arch := range []string{"amd64", "arm64"} {
		img := onPlatform(t, imageOf(t, layerTar(t, entry{name: "arch", content: arch})), arch)
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests[arch] = digest.String()
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	ref, err := registry.PushIndex(t.Context(), "multi:1", index)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, image.Options{})
	for arch, want := range digests {
		img, err := s.Pull(t.Context(), ref, image.PullOptions{Platform: "linux/" + arch})
		if err != nil {
			t.Fatal(err)
		}
		root, err := s.AcquireWith(t.Context(), ref, image.AcquireOptions{Platform: "linux/" + arch})
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(root.Layers[0], "arch"))
		if err != nil || img.Digest != want || string(content) != arch {
			t.Errorf("%s: digest %s, content %q, %v", arch, img.Digest, content, err)
		}
		root.Release() //nolint:errcheck // the directory goes with the test
	}
	if got, err := s.Get(t.Context(), ref); err != nil || got.Digest != digests[runtime.GOARCH] {
		t.Errorf("without a platform: %v, %v", got, err)
	}
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{Platform: "linux/s390x"}); !errors.Is(err, faas.ErrInvalidArgument) ||
		!strings.Contains(err.Error(), "linux/arm64") {
		t.Errorf("a platform that is not there: %v", err)
	}
	byDigest := registry.Host + "/multi@" + digests[runtime.GOARCH]
	if img, err := s.Pull(t.Context(), byDigest, image.PullOptions{}); err != nil || img.Digest != digests[runtime.GOARCH] {
		t.Errorf("by digest: %v, %v", img, err)
	}
	wrong := registry.Host + "/multi@sha256:" + strings.Repeat("0", 64)
	if _, err := s.Pull(t.Context(), wrong, image.PullOptions{}); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("by a digest that is not there: %v", err)
	}
}

// spoil lets a function see the answers for one blob before the client does.
func spoil(t *testing.T, data []byte, answer func(n int64, w http.ResponseWriter, r *http.Request, blob []byte)) (ref string) {
	t.Helper()
	var requests atomic.Int64
	packed := gzipped(t, data)
	layer := layerOf(t, packed)
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	registry := imagetest.Registry(t, imagetest.RegistryOptions{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, digest.String()) {
				answer(requests.Add(1), w, r, packed)
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	return registry.Pushed(t, "spoilt:1", onPlatform(t, img, runtime.GOARCH))
}

func incompressible(n int) string {
	var b strings.Builder
	state := uint64(88172645463325252)
	for b.Len() < n {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		fmt.Fprintf(&b, "%016x", state)
	}
	return b.String()
}

func TestPullCorrupted(t *testing.T) {
	ref := spoil(t, layerTar(t, entry{name: "a", content: incompressible(1 << 16)}), func(_ int64, w http.ResponseWriter, _ *http.Request, blob []byte) {
		wrong := append([]byte{}, blob...)
		wrong[len(wrong)/2] ^= 1
		w.Write(wrong) //nolint:errcheck // the client sees
	})
	s := open(t, image.Options{})
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); !errors.Is(err, faas.ErrUnavailable) || !strings.Contains(err.Error(), "sha256:") {
		t.Errorf("%v", err)
	}
	if _, err := s.Get(t.Context(), ref); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("the damaged image is there: %v", err)
	}
	leftovers(t, s)
}

func TestPullResumes(t *testing.T) {
	var mu sync.Mutex
	var ranges []string // under mu
	var broken atomic.Bool
	broken.Store(true)
	content := incompressible(1 << 20)
	ref := spoil(t, layerTar(t, entry{name: "a", content: content}), func(n int64, w http.ResponseWriter, r *http.Request, blob []byte) {
		mu.Lock()
		ranges = append(ranges, r.Header.Get("Range"))
		mu.Unlock()
		var start, end int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &start, &end); err == nil {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end, len(blob)))
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)-start))
			w.WriteHeader(http.StatusPartialContent)
		} else {
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
		}
		rest := blob[start:]
		switch {
		case n == 1: // breaks off after a part
			w.Write(rest[:100_000]) //nolint:errcheck // the client sees
			panic(http.ErrAbortHandler)
		case broken.Load():
			panic(http.ErrAbortHandler)
		}
		w.Write(rest) //nolint:errcheck // the client sees
	})
	s := open(t, image.Options{})
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); !errors.Is(err, faas.ErrUnavailable) {
		t.Fatalf("while the registry breaks off: %v", err)
	}
	broken.Store(false)
	mu.Lock()
	ranges = nil
	mu.Unlock()
	again := openIn(t, s.Dir(), image.Options{}) // as after a restart
	if _, err := again.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ranges) != 1 || !strings.HasPrefix(ranges[0], "bytes=100000-") {
		t.Errorf("it asked for %q", ranges)
	}
	got, err := os.ReadFile(filepath.Join(acquire(t, again, ref).Layers[0], "a"))
	if err != nil || string(got) != content {
		t.Errorf("content is not what was pushed: %v", err)
	}
}

func TestPullResumedFromDamage(t *testing.T) {
	content := incompressible(1 << 18)
	var hex string
	ref := spoil(t, layerTar(t, entry{name: "a", content: content}), func(_ int64, w http.ResponseWriter, r *http.Request, blob []byte) {
		hex = filepath.Base(r.URL.Path)
		var start int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start); err == nil {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(blob)-1, len(blob)))
			w.WriteHeader(http.StatusPartialContent)
		}
		w.Write(blob[start:]) //nolint:errcheck // the client sees
	})
	s := open(t, image.Options{})
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(s.Dir(), "blobs", strings.TrimPrefix(hex, "sha256:")+".part")
	if err := os.WriteFile(part, make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
		t.Errorf("after a damaged part was taken up: %v", err)
	}
}

func TestPullErrorsAreTold(t *testing.T) {
	registry := imagetest.Registry(t, imagetest.RegistryOptions{})
	s := open(t, image.Options{})
	for ref, want := range map[string]error{
		registry.Host + "/absent:1": faas.ErrNotFound,
		"127.0.0.1:1/nobody:1":      faas.ErrUnavailable,
		"UPPER CASE":                faas.ErrInvalidArgument,
	} {
		if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", ref, err)
		} else {
			t.Log(err)
		}
	}
}

func TestPullScratch(t *testing.T) {
	registry := imagetest.Registry(t, imagetest.RegistryOptions{})
	ref := registry.Pushed(t, "scratch:1", onPlatform(t, empty.Image, runtime.GOARCH))
	s := open(t, image.Options{UIDShift: shiftIfRoot(), GIDShift: shiftIfRoot()})
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if out := look(t, acquire(t, s, ref).Layers, "ls -A"); out != "" {
		t.Errorf("it holds %q", out)
	}
}

func shiftIfRoot() int {
	if os.Geteuid() == 0 {
		return shift
	}
	return 0
}
