package ssh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// faasProgram is the program under test, built once a run.
var faasProgram string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "faas-ssh-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := 1
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// build builds the agent and then the program that carries it.
func build(dir string) error {
	faasProgram = filepath.Join(dir, "faas")
	for _, cmd := range []*exec.Cmd{
		exec.Command("make", "-s", "agent"), exec.Command("go", "build", "-o", faasProgram, "./cmd/faas"),
	} {
		cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
	}
	return nil
}

// server is a running server with an installation of its own.
type server struct {
	t    testing.TB
	dir  string
	env  []string
	url  string
	cmd  *exec.Cmd
	log  *lockedBuffer
	port string // of SSH

	knownHosts string
}

// start starts a server.
func start(t testing.TB, args ...string) *server {
	t.Helper()
	for _, program := range []string{"ssh", "sftp", "scp", "ssh-keygen", "ssh-agent", "ssh-add", "rsync", "git"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s here: scripts/setup-test-host installs it", program)
		}
	}
	dir, err := os.MkdirTemp("", "fs-") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // some sandboxes' processes pass through as nobody
		t.Fatal(err)
	}
	s := &server{t: t, dir: dir, log: &lockedBuffer{}}
	config := filepath.Join(dir, "faas.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	s.url = "http://127.0.0.1:" + port
	s.env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+filepath.Join(dir, "config"), "FAAS_CONFIG="+config,
		"FAAS_DATA_DIR="+filepath.Join(dir, "data"), "FAAS_DATA_RUNTIME_DIR="+filepath.Join(dir, "rt"), "FAAS_API_URL="+s.url,
		"SSH_AUTH_SOCK=", "GIT_CONFIG_NOSYSTEM=1")
	s.cmd = exec.Command(faasProgram, append([]string{"serve", "--listen", "127.0.0.1:" + port, "--ssh", "127.0.0.1:0"}, args...)...)
	s.cmd.Env, s.cmd.Stderr = s.env, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.cmd.Wait()
	}()
	t.Cleanup(func() { s.stop(ended) })
	s.until("the server to answer", func() bool {
		response, err := http.Get(s.url + "/health") //nolint:noctx // bounded by the loop
		if err != nil {
			return false
		}
		response.Body.Close()
		return true
	})
	var about struct {
		Port       int    `json:"ssh_port"`
		KnownHosts string `json:"known_hosts"`
	}
	s.api(http.MethodGet, "/api/v1/ssh/server", nil, &about)
	s.port = fmt.Sprint(about.Port)
	s.knownHosts = s.write("known_hosts", about.KnownHosts)
	return s
}

func (s *server) stop(ended <-chan struct{}) {
	if s.t.Failed() {
		s.t.Logf("the server's log:\n%s", s.log)
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		s.cmd.Process.Signal(syscall.SIGTERM) // what still runs is ended
		select {
		case <-ended:
		case <-time.After(60 * time.Second):
			s.cmd.Process.Kill()
			<-ended
			s.t.Errorf("the server had to be killed\n%s", s.log)
		}
	}
}

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// until waits for a condition.
func (s *server) until(what string, holds func() bool) {
	s.t.Helper()
	for end := time.Now().Add(60 * time.Second); !holds(); {
		if time.Now().After(end) {
			s.t.Fatalf("waited in vain for %s\n%s", what, s.log)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// try sends a request with the server's key, and returns the status.
func (s *server) try(method, path string, body, into any) (int, string) {
	s.t.Helper()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		content = bytes.NewReader(encoded)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, content)
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(s.dir, "config", "faas", "key"))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("X-API-Key", strings.TrimSpace(string(key)))
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode < 300 && into != nil {
		err = json.Unmarshal(answer, into)
	}
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", method, path, err, answer)
	}
	return response.StatusCode, string(answer)
}

// api is try where nothing else than success will do.
func (s *server) api(method, path string, body, into any) {
	s.t.Helper()
	if status, answer := s.try(method, path, body, into); status >= 300 {
		s.t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
}

// instance makes an instance that the test's end removes, and returns its id.
func (s *server) instance(settings map[string]any) string {
	s.t.Helper()
	var made struct{ ID string }
	s.api(http.MethodPost, "/api/v1/instances", settings, &made)
	s.t.Cleanup(func() { s.try(http.MethodDelete, "/api/v1/instances/"+made.ID, nil, nil) })
	return made.ID
}

// key has the server generate a key and returns its file and id.
func (s *server) key(name string, settings map[string]any) (file, id string) {
	s.t.Helper()
	var made struct {
		ID         string
		PrivateKey string `json:"private_key"`
	}
	s.api(http.MethodPost, "/api/v1/ssh-keys", settings, &made)
	return s.write(name, made.PrivateKey), made.ID
}

// write writes a private file of the test.
func (s *server) write(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// options are those of every program of OpenSSH.
func (s *server) options(key string) []string {
	return []string{
		"-F", "/dev/null", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" + s.knownHosts,
		"-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes", "-o", "PasswordAuthentication=no", "-o", "ConnectTimeout=60",
	}
}

// ssh is a call of OpenSSH's client.
func (s *server) ssh(key string, args ...string) *exec.Cmd {
	return s.program("ssh", slices.Concat(s.options(key), []string{"-p", s.port}, args)...)
}

func (s *server) program(name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	s.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.WaitDelay = s.env, 5*time.Second
	return cmd
}

// output runs a program that has to succeed.
func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", cmd.Args, err, out, &stderr)
	}
	return string(out)
}

// exitCode runs a program and returns its exit code with what it wrote.
func exitCode(t testing.TB, cmd *exec.Cmd) (int, string) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// runtimes are those that the tests run on. One that FAAS_REQUIRE_RUNTIMES
// names must be there.
var runtimes = []string{"native", "docker", "gvisor"}

// each runs a test against an instance of every runtime that works here.
func (s *server) each(t *testing.T, test func(t *testing.T, s *server, instance string)) {
	var known struct {
		Runtimes []struct {
			Runtime   string
			Available bool
			Reason    string
		}
	}
	s.api(http.MethodGet, "/api/v1/runtimes", nil, &known)
	for _, name := range runtimes {
		t.Run(name, func(t *testing.T) {
			for _, r := range known.Runtimes {
				if r.Runtime != name || r.Available {
					continue
				}
				if slices.Contains(strings.Split(os.Getenv("FAAS_REQUIRE_RUNTIMES"), ","), name) {
					t.Fatalf("%s is required and not available: %s", name, r.Reason)
				}
				t.Skipf("%s does not work here: %s", name, r.Reason)
			}
			own := *s
			own.t = t
			test(t, &own, own.instance(map[string]any{"image": "host", "runtime": name, "name": name}))
		})
	}
}

// needs skips the test where a runtime lacks a feature, which must not be when
// FAAS_REQUIRE_RUNTIMES names the runtime.
func (s *server) needs(runtime, feature string) {
	s.t.Helper()
	var known struct {
		Runtimes []struct {
			Runtime  string
			Features []struct {
				Feature, Reason string
				Available       bool
			}
		}
	}
	s.api(http.MethodGet, "/api/v1/runtimes", nil, &known)
	why := "it does not know it"
	for _, r := range known.Runtimes {
		for _, f := range r.Features {
			if r.Runtime != runtime || f.Feature != feature {
				continue
			}
			if f.Available {
				return
			}
			why = f.Reason
		}
	}
	if slices.Contains(strings.Split(os.Getenv("FAAS_REQUIRE_RUNTIMES"), ","), runtime) {
		s.t.Fatalf("%s is required, with %s: %s", runtime, feature, why)
	}
	s.t.Skipf("%s has no %s here: %s", runtime, feature, why)
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
