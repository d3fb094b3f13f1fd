package cli

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
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// binary is the program under test, built once a run.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "faas-cli-test-")
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
	name := "faas"
	if runtime.GOOS == "windows" {
		name = "faas.exe"
	}
	binary = filepath.Join(dir, name)
	root := filepath.Join("..", "..")
	agent := exec.Command("make", "-s", "agent")
	compile := exec.Command("go", "build", "-ldflags", "-X main.version=test", "-o", binary, "./cmd/faas")
	for _, cmd := range []*exec.Cmd{agent, compile} {
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
	}
	return nil
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Setup:               setup,
		RequireExplicitExec: true,
		Condition:           func(name string) (bool, error) { return condition(t, name) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serve, "http": request, "terminal": terminal, "exits": exits, "interrupt": interrupt, "started": started, "registry": serveRegistry, "json": checkJSON, "crash": crash, "asleep": asleep,
		},
		Deadline: time.Now().Add(5 * time.Minute),
	})
}

// setup gives a script an installation of its own.
func setup(env *testscript.Env) error {
	// Sockets have short paths, and the test's own may be long.
	runtimeDir, err := os.MkdirTemp("", "faas-rt-")
	if err != nil {
		return err
	}
	env.Defer(func() { os.RemoveAll(runtimeDir) })
	env.Vars = append(env.Vars,
		"PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"),
		"HOME="+filepath.Join(env.WorkDir, "home"),
		"XDG_CONFIG_HOME="+filepath.Join(env.WorkDir, "config"),
		"FAAS_CONFIG="+filepath.Join(env.WorkDir, "faas.toml"),
		"FAAS_DATA_DIR="+filepath.Join(env.WorkDir, "data"),
		"FAAS_DATA_RUNTIME_DIR="+runtimeDir,
	)
	return os.WriteFile(filepath.Join(env.WorkDir, "faas.toml"), nil, 0o600)
}

// condition answers [native] and its like: whether the runtime works here. One
// that FAAS_REQUIRE_RUNTIMES names must.
func condition(t *testing.T, name string) (bool, error) {
	dir, err := os.MkdirTemp("", "fd-") // short: sockets lie below it
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // some sandboxes' processes pass through as nobody
		return false, err
	}
	out, err := exec.Command(binary, "--set", "data.dir="+dir, "doctor", "--json").Output()
	if err != nil {
		return false, fmt.Errorf("faas doctor: %w", err)
	}
	var found struct {
		Runtimes []struct {
			Runtime, Reason string
			Available       bool
		}
	}
	if err := json.Unmarshal(out, &found); err != nil {
		return false, err
	}
	for _, r := range found.Runtimes {
		if r.Runtime != name {
			continue
		}
		if required := strings.Split(os.Getenv("FAAS_REQUIRE_RUNTIMES"), ","); !r.Available && slices.Contains(required, name) {
			t.Errorf("the runtime %s is required and not available: %s", name, r.Reason)
		}
		return r.Available, nil
	}
	return false, fmt.Errorf("there is no runtime %q", name)
}

// serve starts a server on a free port, waits until it answers and sets
// FAAS_API_URL. Arguments go to faas serve.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	port := freePort(ts)
	cmd := exec.Command(binary, append([]string{"serve", "--listen", "127.0.0.1:" + port}, args...)...)
	var log lockedBuffer
	cmd.Stderr, cmd.Env = &log, environ(ts)
	ts.Check(cmd.Start())
	d := &daemon{cmd: cmd, log: &log, ended: make(chan struct{})}
	go func() {
		defer close(d.ended)
		d.err = cmd.Wait()
	}()
	daemons.put(ts, d)
	ts.Defer(func() { d.stop(ts) })
	url := "http://127.0.0.1:" + port
	for until := time.Now().Add(20 * time.Second); ; {
		response, err := http.Get(url + "/health") //nolint:noctx // bounded by the loop
		if err == nil {
			response.Body.Close()
			break
		}
		select {
		case <-d.ended:
			ts.Fatalf("the server ended: %v\n%s", d.err, log.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(until) {
			ts.Fatalf("the server does not answer\n%s", log.String())
		}
	}
	ts.Setenv("FAAS_API_URL", url)
}

func freePort(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	return port
}

// request sends METHOD PATH [HEADER: VALUE…] [BODY] to the server with its
// key, and prints the status line, the headers and the body.
func request(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: http METHOD PATH [HEADER:VALUE…] [BODY]")
	}
	var body io.Reader
	header := http.Header{}
	host := ""
	for _, arg := range args[2:] {
		name, value, isHeader := strings.Cut(arg, ": ")
		switch {
		case strings.HasPrefix(arg, "{"):
			body = strings.NewReader(arg)
		case isHeader && name == "Host":
			host = value
		case isHeader:
			header.Set(name, value)
		default:
			ts.Fatalf("neither a header nor a body: %q", arg)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, args[0], ts.Getenv("FAAS_API_URL")+args[1], body)
	ts.Check(err)
	r.Header, r.Host = header, host
	if key, err := os.ReadFile(filepath.Join(ts.Getenv("XDG_CONFIG_HOME"), "faas", "key")); err == nil && header.Get("Authorization") == "" {
		header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	}
	response, err := http.DefaultClient.Do(r)
	ts.Check(err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	ts.Check(err)
	out := ts.Stdout()
	fmt.Fprintln(out, response.Status)
	ts.Check(response.Header.Write(out))
	fmt.Fprintf(out, "\n%s\n", content)
	for name := range response.Trailer {
		fmt.Fprintf(out, "trailer %s: %s\n", name, response.Trailer.Get(name))
	}
	if (response.StatusCode >= 400) != neg {
		ts.Fatalf("%s %s: %s\n%s", args[0], args[1], response.Status, content)
	}
}

// started waits until an execution runs on the server.
func started(ts *testscript.TestScript, neg bool, args []string) {
	key, err := os.ReadFile(filepath.Join(ts.Getenv("XDG_CONFIG_HOME"), "faas", "key"))
	ts.Check(err)
	waitFor(ts, "an execution to run", func() bool {
		r, err := http.NewRequest(http.MethodGet, ts.Getenv("FAAS_API_URL")+"/api/v1/metrics", nil) //nolint:noctx // a server of this machine
		ts.Check(err)
		r.Header.Set("X-API-Key", strings.TrimSpace(string(key)))
		response, err := http.DefaultClient.Do(r)
		ts.Check(err)
		defer response.Body.Close()
		var metrics struct{ Running int }
		ts.Check(json.NewDecoder(response.Body).Decode(&metrics))
		return metrics.Running > 0
	})
}

// exits runs a command and demands an exit code: exits CODE PROGRAM ARG….
func exits(ts *testscript.TestScript, neg bool, args []string) {
	var want int
	if _, err := fmt.Sscan(args[0], &want); err != nil {
		ts.Fatalf("usage: exits CODE PROGRAM ARG…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	switch {
	case errorAs(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("exit code %d, not %d", code, want)
	}
}

// checkJSON demands that a file is one JSON value.
func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	var value any
	decoder := json.NewDecoder(bytes.NewReader([]byte(ts.ReadFile(args[0]))))
	ts.Check(decoder.Decode(&value))
	if decoder.More() {
		ts.Fatalf("%s holds more than one value", args[0])
	}
}
