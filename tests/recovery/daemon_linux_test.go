package recovery

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/faas-platform/faas/api"
)

// installation is a data directory, its configuration and the daemon that
// works on it.
type installation struct {
	t       *testing.T
	program string
	dir     string
	url     string
	env     []string
	client  *http.Client

	cmd   *exec.Cmd
	ended chan struct{}
}

// install builds faas and writes the configuration of an installation with a
// small warm pool.
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
	address := address(t)
	config := fmt.Sprintf("[log]\nlevel = \"warn\"\n[policy]\nallowed = [\"native\"]\n[[pools]]\nruntime = \"native\"\nimage = \"host\"\nmin = %d\n", poolSize)
	file := filepath.Join(dir, "faas.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return &installation{
		t: t, program: program, dir: dir, url: "http://" + address,
		env: append(os.Environ(),
			"FAAS_CONFIG="+file, "FAAS_API_KEY_FILE="+filepath.Join(dir, "key"), "FAAS_SERVER_LISTEN="+address,
			"FAAS_DATA_DIR="+filepath.Join(dir, "data"), "FAAS_DATA_RUNTIME_DIR="+filepath.Join(dir, "runtime"),
		),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}},
	}
}

// address finds a free port that no outgoing connection is given by chance
// while the daemon is down.
func address(t *testing.T) string {
	t.Helper()
	first := 32768
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if _, err := fmt.Sscan(string(b), &first); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first-1-rand.IntN(first/2)))
		if listener, err := net.Listen("tcp", address); err == nil {
			listener.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// launch starts the daemon and does not wait for it.
func (in *installation) launch() {
	in.t.Helper()
	log, err := os.OpenFile(filepath.Join(in.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		in.t.Fatal(err)
	}
	defer log.Close()
	in.cmd = exec.Command(in.program, "serve")
	in.cmd.Env, in.cmd.Stdout, in.cmd.Stderr = in.env, log, log
	if err := in.cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	in.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		cmd.Wait() //nolint:errcheck // its log tells
		close(ended)
	}(in.cmd, in.ended)
}

// ready waits until the daemon answers.
func (in *installation) ready() {
	in.t.Helper()
	within(in.t, 30*time.Second, "the daemon answers", func() error {
		select {
		case <-in.ended:
			in.t.Fatalf("the daemon ended:\n%s", in.log())
		default:
		}
		return in.get(api.PathHealth, &api.Health{})
	})
}

// signal sends one to the daemon.
func (in *installation) signal(sig syscall.Signal) {
	in.t.Helper()
	if err := in.cmd.Process.Signal(sig); err != nil {
		in.t.Fatalf("signal %v: %v\n%s", sig, err, in.log())
	}
}

// kill ends the daemon as a power button would, and waits for its end.
func (in *installation) kill() {
	in.t.Helper()
	in.signal(syscall.SIGKILL)
	<-in.ended
	in.client.CloseIdleConnections()
}

// terminate ends the daemon in an orderly way.
func (in *installation) terminate() {
	in.t.Helper()
	in.signal(syscall.SIGTERM)
	select {
	case <-in.ended:
	case <-time.After(30 * time.Second):
		in.kill()
		in.t.Errorf("the daemon did not end within 30 s of SIGTERM\n%s", in.log())
	}
}

// clear ends what a test that failed leaves running.
func (in *installation) clear() {
	in.cmd.Process.Kill() //nolint:errcheck // it has ended where the test went well
	<-in.ended
	for _, p := range in.look().processes {
		syscall.Kill(p.pid, syscall.SIGKILL) //nolint:errcheck // it may have ended just now
	}
}

func (in *installation) log() string {
	b, err := os.ReadFile(filepath.Join(in.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8000):])
}

// request is an authenticated request of this installation's user.
func (in *installation) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, in.url+path, bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	if key, err := os.ReadFile(filepath.Join(in.dir, "key")); err == nil {
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	}
	request.Header.Set("Content-Type", "application/json")
	return request, nil
}

func (in *installation) get(path string, into any) error {
	ctx, cancel := context.WithTimeout(in.t.Context(), 10*time.Second)
	defer cancel()
	request, err := in.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	request.Body, request.ContentLength = http.NoBody, 0
	response, err := in.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// within waits for a condition: until holds returns nil.
func within(t *testing.T, limit time.Duration, what string, holds func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s: %v", limit, what, err)
		case <-tick.C:
		}
	}
}

// answersWithin lets a time pass and says whether the daemon answered in it.
func (in *installation) answersWithin(d time.Duration) bool {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), d)
	defer cancel()
	for answered := false; ; {
		request, err := in.request(ctx, http.MethodGet, api.PathHealth, nil)
		if err != nil {
			in.t.Fatal(err)
		}
		if response, err := in.client.Do(request); err == nil {
			response.Body.Close()
			answered = true
		}
		select {
		case <-ctx.Done():
			return answered
		case <-time.After(time.Millisecond):
		}
	}
}
