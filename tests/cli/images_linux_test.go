package cli

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/faas-platform/faas/image/imagetest"
)

// TestImagesOnEveryRuntime has each runtime pull an image of each kind from a
// registry on loopback and run a program in it.
func TestImagesOnEveryRuntime(t *testing.T) {
	images := []struct {
		name    string
		build   func(imagetest.TB) v1.Image
		command []string
		want    string
	}{
		{"busybox", imagetest.Busybox, []string{"sh", "-c", "read word; echo $word | tr a-z A-Z; busybox | head -n 1 | cut -d' ' -f1"}, "HELLO\nBusyBox\n"},
		{"python", imagetest.Python, []string{"python3", "-c", "import json, sys, hashlib; print(json.dumps({'word': sys.stdin.read().strip(), 'sum': hashlib.sha256(b'').hexdigest()[:8]}))"},
			`{"word": "hello", "sum": "e3b0c442"}` + "\n"},
		{"node", imagetest.Node, []string{"node", "-e", "process.stdin.on('data', d => console.log(String(d).trim().toUpperCase(), [3, 1, 2].sort().join('')))"}, "HELLO 123\n"},
	}
	for _, runtime := range []string{"native", "docker", "gvisor"} {
		t.Run(runtime, func(t *testing.T) {
			if ok, err := condition(t, runtime); err != nil || !ok {
				t.Skipf("SKIP %s images: the runtime is not available: %v", runtime, err)
			}
			registry := imagetest.Registry(t, imagetest.RegistryOptions{})
			dir, err := os.MkdirTemp("", "fi-") // short: sockets lie below it
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o711); err != nil { // some sandboxes' processes pass through as nobody
				t.Fatal(err)
			}
			for _, image := range images {
				t.Run(image.name, func(t *testing.T) {
					ref := registry.Pushed(t, "test/"+image.name+":1", image.build(t))
					if runtime == "docker" {
						t.Cleanup(func() { removeFromEngine(t, ref) })
					}
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
					defer cancel()
					args := append([]string{"run", "--runtime", runtime, "--image", ref, "--"}, image.command...)
					cmd := exec.CommandContext(ctx, binary, args...)
					cmd.Env = append(os.Environ(), "FAAS_CONFIG="+os.DevNull, "FAAS_API_URL=", "FAAS_DATA_DIR="+filepath.Join(dir, "d"))
					cmd.Stdin = bytes.NewReader([]byte("hello\n"))
					var stdout, stderr bytes.Buffer
					cmd.Stdout, cmd.Stderr = &stdout, &stderr
					if err := cmd.Run(); err != nil || stdout.String() != image.want {
						t.Errorf("%v, printed %q, want %q: %s", err, stdout.String(), image.want, stderr.String())
					}
				})
			}
		})
	}
}

// removeFromEngine takes a pulled image out of the engine's own store.
func removeFromEngine(t *testing.T, ref string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "docker", "image", "rm", "--force", ref).CombinedOutput(); err != nil {
		t.Logf("remove %s: %v: %s", ref, err, out)
	}
}
