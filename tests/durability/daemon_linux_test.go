package durability

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/api"
)

// diskSize is that of the file system that holds all of the installation.
const diskSize = 768 << 20

// installation is a daemon with its data on a small file system of its own.
type installation struct {
	t       *testing.T
	program string
	dir     string // outside of the small file system: program, log
	disk    string // where that is mounted
	url     string
	env     []string
	client  *http.Client

	cmd   *exec.Cmd
	ended chan struct{}
}

func install(t *testing.T, runtimes []string) *installation {
	t.Helper()
	// A short path: gVisor's sockets lie below it.
	dir, err := os.MkdirTemp("", "fd")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	in := &installation{
		t: t, program: filepath.Join(dir, "faas"), dir: dir, disk: filepath.Join(dir, "d"),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8, DisableCompression: true}},
	}
	in.command("go", "build", "-o", in.program, "../../cmd/faas")
	image := filepath.Join(dir, "disk.img")
	check(t, os.WriteFile(image, nil, 0o600))
	check(t, os.Truncate(image, diskSize))
	in.command("mkfs.ext4", "-q", "-F", "-m", "0", image)
	check(t, os.Mkdir(in.disk, 0o700))
	in.command("mount", "-o", "loop", image, in.disk)
	for _, d := range []string{dir, in.disk} {
		check(t, os.Chmod(d, 0o711)) // gVisor's processes pass through as nobody
	}
	t.Cleanup(func() { in.unmount() })
	address := freeAddress(t)
	in.url = "http://" + address
	config := fmt.Sprintf(`[log]
level = "warn"
[policy]
allowed = [%s]
[snapshots]
cold = %q
archive_after = "700ms"
evict_after = "1ms"
max_depth = 3
`, `"`+strings.Join(runtimes, `", "`)+`"`, filepath.Join(in.disk, "cold"))
	file := filepath.Join(dir, "faas.toml")
	check(t, os.WriteFile(file, []byte(config), 0o600))
	in.env = append(os.Environ(),
		"FAAS_CONFIG="+file, "FAAS_API_KEY_FILE="+filepath.Join(dir, "key"), "FAAS_SERVER_LISTEN="+address,
		"FAAS_DATA_DIR="+in.disk, "FAAS_DATA_RUNTIME_DIR="+filepath.Join(dir, "run"),
	)
	return in
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// command runs a program to its end.
func (in *installation) command(name string, args ...string) {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		in.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (in *installation) unmount() {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := unix.Unmount(in.disk, 0)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			in.t.Errorf("the file system of the installation is still in use: %v", err)
			unix.Unmount(in.disk, unix.MNT_DETACH) //nolint:errcheck // the error is told
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// freeAddress finds a port that no outgoing connection is given by chance
// while the daemon is down.
func freeAddress(t *testing.T) string {
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
			check(t, listener.Close())
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// launch starts the daemon and waits until it answers.
func (in *installation) launch() {
	in.t.Helper()
	log, err := os.OpenFile(filepath.Join(in.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	check(in.t, err)
	defer log.Close()
	in.cmd = exec.Command(in.program, "serve")
	in.cmd.Env, in.cmd.Stdout, in.cmd.Stderr = in.env, log, log
	check(in.t, in.cmd.Start())
	in.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		cmd.Wait() //nolint:errcheck // its log tells
		close(ended)
	}(in.cmd, in.ended)
	in.within(time.Minute, "the daemon answers", func() error {
		select {
		case <-in.ended:
			in.t.Fatalf("the daemon ended:\n%s", in.log())
		default:
		}
		return in.call(http.MethodGet, api.PathHealth, nil, &api.Health{})
	})
}

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

// terminate ends it in an orderly way.
func (in *installation) terminate() {
	in.t.Helper()
	in.signal(syscall.SIGTERM)
	select {
	case <-in.ended:
	case <-time.After(time.Minute):
		in.kill()
		in.t.Errorf("the daemon did not end within a minute\n%s", in.log())
	}
}

func (in *installation) log() string {
	b, err := os.ReadFile(filepath.Join(in.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-10000):])
}

// opTimeout bounds one request: what hangs is a failure of its own.
const opTimeout = 2 * time.Minute

// errGone is what a request gets whose daemon was killed.
var errGone = errors.New("no answer")

// call sends one request. A refusal is an *api.Problem.
func (in *installation) call(method, path string, body, into any) error {
	var content io.Reader = http.NoBody
	switch b := body.(type) {
	case nil:
	case io.Reader:
		content = b
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded)
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, in.url+path, content)
	if err != nil {
		return err
	}
	if key, err := os.ReadFile(filepath.Join(in.dir, "key")); err == nil {
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := in.client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s %s hangs", method, path)
		}
		return errors.Join(errGone, err)
	}
	defer response.Body.Close()
	if out, ok := into.(io.Writer); ok && response.StatusCode/100 == 2 {
		if _, err := io.Copy(out, response.Body); err != nil {
			return errors.Join(errGone, err)
		}
		return nil
	}
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return errors.Join(errGone, err)
	}
	if response.StatusCode/100 != 2 {
		return &refusal{response.StatusCode, string(answer)}
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// refusal is an answer that is none.
type refusal struct {
	status int
	body   string
}

// Error implements error.
func (r *refusal) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.body) }

// within waits for a condition.
func (in *installation) within(limit time.Duration, what string, holds func() error) {
	in.t.Helper()
	deadline := time.Now().Add(limit)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			in.t.Fatalf("not within %v: %s: %v\n%s", limit, what, err, in.log())
		}
		<-time.After(pause)
	}
}
