package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/image/imagetest"
)

func TestRemoveAndLeases(t *testing.T) {
	s := open(t, image.Options{})
	shared := layerTar(t, entry{name: "shared", content: strings.Repeat("s", 1000)})
	registry := imagetest.Registry(t, imagetest.RegistryOptions{})
	a := registry.Pushed(t, "a:1", imageOf(t, shared, layerTar(t, entry{name: "a", content: strings.Repeat("a", 100)})))
	b := registry.Pushed(t, "b:1", imageOf(t, shared))
	for _, ref := range []string{a, b} {
		if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	root := acquire(t, s, a)
	if _, err := s.Remove(t.Context(), a); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("while it is leased: %v", err)
	}
	other := openIn(t, s.Dir(), image.Options{})
	if img, err := other.Get(t.Context(), a); err != nil || img.InUse != 1 {
		t.Errorf("seen by another store: %+v, %v", img, err)
	}
	if err := root.Release(); err != nil {
		t.Fatal(err)
	}
	if freed, err := other.Remove(t.Context(), a); err != nil || freed != 100 {
		t.Errorf("it freed %d, %v: the shared layer must stay", freed, err)
	}
	if _, err := s.Acquire(t.Context(), a); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("after the removal: %v", err)
	}
	img, err := s.Get(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if freed, err := s.Remove(t.Context(), img.Digest); err != nil || freed != 1000 {
		t.Errorf("by digest it freed %d, %v", freed, err)
	}
	if _, err := s.Remove(t.Context(), b); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("a second time: %v", err)
	}
	if _, err := s.Remove(t.Context(), "host"); !errors.Is(err, faas.ErrInvalidArgument) {
		t.Errorf("the host image: %v", err)
	}
}

func TestNamesShareAnImage(t *testing.T) {
	s := open(t, image.Options{})
	data := layerTar(t, entry{name: "a"})
	for _, name := range []string{"one", "two"} {
		if _, err := s.Import(t.Context(), bytes.NewReader(data), name); err != nil {
			t.Fatal(err)
		}
	}
	img, err := s.Get(t.Context(), "one")
	if err != nil || fmt.Sprint(img.Names) != "[one:latest two:latest]" {
		t.Errorf("%+v, %v", img, err)
	}
	acquire(t, s, "two")
	if _, err := s.Remove(t.Context(), "one"); err != nil {
		t.Errorf("one of two names, while leased: %v", err)
	}
	if _, err := s.Get(t.Context(), "two"); err != nil {
		t.Error(err)
	}
}

func TestOwnedLeases(t *testing.T) {
	s := open(t, image.Options{})
	_, root := importTar(t, s, entry{name: "a"})
	owned, err := s.AcquireWith(t.Context(), "test", image.AcquireOptions{Owner: "sbx-1", Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AcquireWith(t.Context(), "test", image.AcquireOptions{Owner: "sbx-1"}); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("a second lease of one owner: %v", err)
	}
	for _, bad := range []string{"../x", "a/b", ".", strings.Repeat("x", 200)} {
		if _, err := s.AcquireWith(t.Context(), "test", image.AcquireOptions{Owner: bad}); !errors.Is(err, faas.ErrInvalidArgument) {
			t.Errorf("owner %q: %v", bad, err)
		}
	}
	later := openIn(t, s.Dir(), image.Options{}) // as after a restart
	if _, err := later.Remove(t.Context(), "test"); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("while it is owned: %v", err)
	}
	resumed, err := later.Resume(t.Context(), "sbx-1")
	if err != nil || fmt.Sprint(resumed.Layers) != fmt.Sprint(owned.Layers) || resumed.Digest != owned.Digest {
		t.Fatalf("resumed %+v, %v", resumed, err)
	}
	if owners, err := later.Owners(t.Context()); err != nil || fmt.Sprint(owners) != "[sbx-1]" {
		t.Errorf("owners %v, %v", owners, err)
	}
	if err := later.ReleaseOwner(t.Context(), "sbx-1"); err != nil {
		t.Error(err)
	}
	if err := later.ReleaseOwner(t.Context(), "sbx-1"); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := later.Resume(t.Context(), "sbx-1"); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("after the release: %v", err)
	}
	if _, err := later.Remove(t.Context(), "test"); err != nil {
		t.Error(err)
	}
}

// TestGCBesideEverything has stores on one directory import, lease, remove and
// collect at the same time: whoever holds a lease must see its files whole.
func TestGCBesideEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var tars [3][]byte
	for i := range tars {
		tars[i] = layerTar(t, entry{name: "content", content: strings.Repeat(string(rune('a'+i)), 10_000)})
	}
	var seen, absent atomic.Int64
	var wg sync.WaitGroup
	for worker := range 4 {
		s := openIn(t, dir, image.Options{})
		wg.Go(func() {
			for round := range 25 {
				i := (worker + round) % len(tars)
				name := fmt.Sprintf("image%d", i)
				if _, err := s.Import(t.Context(), bytes.NewReader(tars[i]), name); err != nil {
					t.Errorf("import: %v", err)
				}
				root, err := s.Acquire(t.Context(), name)
				switch {
				case errors.Is(err, faas.ErrNotFound): // another removed it
					absent.Add(1)
				case err != nil:
					t.Errorf("acquire: %v", err)
				default:
					s.Remove(t.Context(), name) //nolint:errcheck // refused or not: the lease holds
					s.GC(t.Context())           //nolint:errcheck // its errors show in the others
					got, err := os.ReadFile(filepath.Join(root.Layers[0], "content"))
					if err != nil || len(got) != 10_000 {
						t.Errorf("under a lease: %d bytes, %v", len(got), err)
					}
					seen.Add(1)
					if err := root.Release(); err != nil {
						t.Errorf("release: %v", err)
					}
				}
				if _, err := s.Remove(t.Context(), name); err != nil && !errors.Is(err, faas.ErrNotFound) && !errors.Is(err, faas.ErrConflict) {
					t.Errorf("remove: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if seen.Load() == 0 {
		t.Error("no lease was ever had")
	}
	t.Logf("%d leases, %d times the image was removed before", seen.Load(), absent.Load())
	s := openIn(t, dir, image.Options{})
	for i := range tars {
		if _, err := s.Remove(t.Context(), fmt.Sprintf("image%d", i)); err != nil && !errors.Is(err, faas.ErrNotFound) {
			t.Error(err)
		}
	}
	if _, err := s.GC(t.Context()); err != nil {
		t.Error(err)
	}
	for _, pattern := range []string{"layers/*/*", "leases/*", "tmp/*", "blobs/*"} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) > 0 {
			t.Errorf("%s: %v stay", pattern, found)
		}
	}
}

// childEnv tells the test's own program, started again, to be a process that
// pulls a reference, leases it, says so and waits to be killed.
const childEnv = "FAAS_TEST_IMAGE_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		os.Exit(child(strings.Split(what, "|")))
	}
	os.Exit(m.Run())
}

func child(args []string) int {
	dir, ref := args[0], args[1]
	s, err := image.Open(dir, image.Options{})
	if err == nil {
		_, err = s.Pull(context.Background(), ref, image.PullOptions{})
	}
	if err == nil {
		_, err = s.Acquire(context.Background(), ref)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("leased")
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // until it is killed
	return 0
}

func startChild(t *testing.T, dir, ref string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir+"|"+ref)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // usually gone
		cmd.Wait()         //nolint:errcheck // killed on purpose
	})
	return cmd, out
}

func killed(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() //nolint:errcheck // killed on purpose
}

func TestCrashWhileLeased(t *testing.T) {
	registry := imagetest.Registry(t, imagetest.RegistryOptions{})
	ref := registry.Pushed(t, "held:1", imageOf(t, layerTar(t, entry{name: "a"})))
	s := open(t, image.Options{})
	cmd, out := startChild(t, s.Dir(), ref)
	line := make([]byte, 7)
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "leased\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	if _, err := s.Remove(t.Context(), ref); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("while another process holds it: %v", err)
	}
	killed(t, cmd)
	if _, err := s.Remove(t.Context(), ref); err != nil {
		t.Errorf("after that process died: %v", err)
	}
}

func TestCrashWhilePulling(t *testing.T) {
	reached := make(chan struct{})
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	var once sync.Once
	content := incompressible(1 << 20)
	ref := spoil(t, layerTar(t, entry{name: "a", content: content}), func(n int64, w http.ResponseWriter, r *http.Request, blob []byte) {
		var start int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start); err == nil {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(blob)-1, len(blob)))
			w.WriteHeader(http.StatusPartialContent)
		}
		if n > 1 {
			w.Write(blob[start:]) //nolint:errcheck // the client sees
			return
		}
		w.Write(blob[:200_000]) //nolint:errcheck // the client sees
		w.(http.Flusher).Flush()
		once.Do(func() { close(reached) })
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	s := open(t, image.Options{})
	cmd, _ := startChild(t, s.Dir(), ref)
	<-reached
	part := ""
	for deadline := time.Now().Add(20 * time.Second); ; {
		if found, _ := filepath.Glob(s.Dir() + "/blobs/*.part"); len(found) == 1 {
			if info, err := os.Stat(found[0]); err == nil && info.Size() == 200_000 {
				part = found[0]
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the part never grew")
		}
	}
	if freed, err := s.GC(t.Context()); err != nil || freed != 0 {
		t.Errorf("beside a running pull GC freed %d, %v", freed, err)
	}
	killed(t, cmd)
	again := openIn(t, s.Dir(), image.Options{})
	for _, pattern := range []string{"tmp/*", "leases/*"} {
		if found, _ := filepath.Glob(filepath.Join(s.Dir(), pattern)); len(found) > 0 {
			t.Errorf("%v stay", found)
		}
	}
	if _, err := os.Stat(part); err != nil {
		t.Errorf("the part is gone: %v", err)
	}
	if _, err := again.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(acquire(t, again, ref).Layers[0], "a"))
	if err != nil || string(got) != content {
		t.Errorf("what was pulled in two parts is not what was pushed: %v", err)
	}
}

func TestSweepAtOpen(t *testing.T) {
	s := open(t, image.Options{})
	dead := filepath.Join(s.Dir(), "tmp", "work-dead")
	orphan := filepath.Join(s.Dir(), "tmp", "work-orphan")
	for _, dir := range []string{dead, orphan} {
		if err := os.MkdirAll(filepath.Join(dir, "layer", "fs"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{dead + ".lock", filepath.Join(s.Dir(), "leases", "process-lease-dead.json"), filepath.Join(s.Dir(), ".new-1")} {
		if err := os.WriteFile(file, []byte(`{"pid":1`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openIn(t, s.Dir(), image.Options{})
	leftovers(t, s)
	for _, pattern := range []string{"leases/*", ".new*"} {
		if found, _ := filepath.Glob(filepath.Join(s.Dir(), pattern)); len(found) > 0 {
			t.Errorf("%v stay", found)
		}
	}
}

func TestAnotherOwnership(t *testing.T) {
	needRoot(t)
	registry := imagetest.Registry(t, imagetest.RegistryOptions{})
	ref := registry.Pushed(t, "own:1", imageOf(t, layerTar(t, entry{name: "a"})))
	s := open(t, image.Options{UIDShift: shift, GIDShift: shift})
	if _, err := s.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	other := openIn(t, s.Dir(), image.Options{UIDShift: 2 * shift, GIDShift: 2 * shift})
	if _, err := other.Acquire(t.Context(), ref); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("before it is pulled with these ids: %v", err)
	}
	if _, err := other.Pull(t.Context(), ref, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(acquire(t, other, ref).Layers[0], "a"))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 2*shift {
		t.Errorf("%+v, %v", info, err)
	}
}
