package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

// installation is a daemon of its own, with one instance.
type installation struct {
	url      string // by the loopback address
	port     string
	key      string
	client   *client.Client
	instance string
}

// install builds faas, starts it, and makes an instance on the native runtime.
func install(t *testing.T) *installation {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "faas")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "../../cmd/faas")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build faas: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close() //nolint:errcheck // only its number was wanted
	config, keyFile := filepath.Join(dir, "faas.toml"), filepath.Join(dir, "key")
	if err := os.WriteFile(config, []byte("[log]\nlevel = \"warn\"\n[policy]\nallowed = [\"native\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command(program, "serve")
	daemon.Env = append(os.Environ(), "FAAS_CONFIG="+config, "FAAS_API_KEY_FILE="+keyFile, "FAAS_SERVER_LISTEN="+address,
		"FAAS_DATA_DIR="+filepath.Join(dir, "data"), "FAAS_DATA_RUNTIME_DIR="+filepath.Join(dir, "runtime"))
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	i := &installation{url: "http://" + address}
	_, i.port, _ = net.SplitHostPort(address)
	t.Cleanup(func() { i.stop(t, daemon, ended) })
	i.await(t, keyFile, ended)
	return i
}

// await waits until the daemon answers, and makes the instance.
func (i *installation) await(t *testing.T, keyFile string, ended chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		key, err := os.ReadFile(keyFile)
		if err == nil {
			i.key = strings.TrimSpace(string(key))
			if i.client, err = client.New(client.Options{URL: i.url, Key: i.key}); err != nil {
				t.Fatal(err)
			}
			if _, err = i.client.Health(ctx); err == nil {
				break
			}
		}
		select {
		case err := <-ended:
			t.Fatalf("the daemon ended: %v", err)
		case <-ctx.Done():
			t.Fatalf("the daemon does not answer: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	var made api.Instance
	i.call(t, http.MethodPost, api.PathInstances, map[string]any{"image": "host", "runtime": "native"}, &made)
	i.instance = made.ID
}

// call makes one request that must be a success.
func (i *installation) call(t *testing.T, method, path string, body, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	if body == nil {
		encoded = nil
	}
	request, err := http.NewRequestWithContext(ctx, method, i.url+path, bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+i.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %s %v", method, path, response.Status, answer, err)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		t.Fatal(err)
	}
}

func (i *installation) stop(t *testing.T, daemon *exec.Cmd, ended chan error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if i.instance != "" {
		i.call(t, http.MethodDelete, api.PathInstances+"/"+i.instance, nil, &struct{}{})
	}
	daemon.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	select {
	case <-ended:
	case <-ctx.Done():
		daemon.Process.Kill() //nolint:errcheck // it may have ended
		<-ended
		t.Error("the daemon did not end by itself")
	}
}

// browser starts a browser and returns the context of its first page.
func browser(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no browser: scripts/setup-test-host browser")
		}
		t.Skip("there is no browser: scripts/setup-test-host browser installs chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.WSURLReadTimeout(2*time.Minute))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	ctx, stopAllocator := chromedp.NewExecAllocator(ctx, options...)
	ctx, stopBrowser := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("close the browser: %v", err)
		}
		if c := chromedp.FromContext(ctx); c != nil && c.Allocator != nil {
			c.Allocator.Wait() // its profile is removed next
		}
		stopBrowser()
		stopAllocator()
		cancel()
	})
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return ctx
}

// run runs actions in the browser.
func run(t *testing.T, ctx context.Context, what string, actions ...chromedp.Action) { //nolint:revive // the test comes first
	t.Helper()
	if err := chromedp.Run(ctx, actions...); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func (i *installation) sub(name string) string {
	return fmt.Sprintf("http://%s.localhost:%s", name, i.port)
}
