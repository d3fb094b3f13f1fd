package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shownTags are the areas of the API of which docs/http-api shows every route.
var shownTags = []string{"execute", "executions", "instances", "snapshots", "branches"}

// shownElsewhere are routes of those areas that a page of their own does not
// show, each with the command that uses it.
var shownElsewhere = map[string]string{
	"GET /api/v1/snapshots/{id}/export":  "faas snapshot export",
	"POST /api/v1/snapshots/import":      "faas snapshot import",
	"POST /api/v1/snapshots/verify":      "faas snapshot verify",
	"POST /api/v1/snapshots/gc":          "faas snapshot gc",
	"GET /api/v1/snapshots/key":          "faas snapshot key",
	"GET /api/v1/instances/{id}/stream":  "docs/streams.md",
	"GET /api/v1/containers/{id}/stream": "docs/streams.md",
}

// TestHTTPAPIPages runs the pages of docs/http-api against a fresh server, and
// demands that they show every route.
func TestHTTPAPIPages(t *testing.T) {
	for _, program := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIP the pages of the HTTP API: there is no %s", program)
		}
	}
	if ok, err := condition(t, "native"); err != nil || !ok {
		t.Skipf("SKIP the pages of the HTTP API: the native runtime is not available: %v", err)
	}
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "http-api", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatal("there are no pages", err)
	}
	s := startPaged(t)
	for _, page := range pages {
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			steps := readPage(t, page)
			shell := s.shell(t)
			for _, step := range steps {
				if got := shell.run(t, step.command); !step.matches(got) {
					t.Errorf("%s:%d: $ %s\nprints\n%s\nnot\n%s", filepath.Base(page), step.line, step.command, got, step.want)
				}
			}
		})
	}
	if !t.Failed() {
		s.everyRoute(t)
	}
}

// step is one command of a page with what it prints.
type step struct {
	line          int
	command, want string
}

// readPage reads the commands of a page's blocks of sh: lines that begin with
// "$ ", those that go on with "> ", and what follows them.
func readPage(t *testing.T, path string) []step {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var steps []step
	inside := false
	for i, line := range strings.Split(string(content), "\n") {
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```sh"
		case !inside:
		case isCommand:
			steps = append(steps, step{line: i + 1, command: command})
		case len(steps) == 0:
			t.Fatalf("%s:%d: output before a command", path, i+1)
		default:
			last := &steps[len(steps)-1]
			if more, ok := strings.CutPrefix(line, "> "); ok && last.want == "" {
				last.command += "\n" + more
				continue
			}
			last.want += line + "\n"
		}
	}
	if len(steps) == 0 {
		t.Fatalf("%s shows no command", path)
	}
	return steps
}

// matches compares what a command printed with what the page says, in which …
// stands for anything.
func (s step) matches(got string) bool {
	var pattern strings.Builder
	for i, part := range strings.Split(strings.TrimSpace(s.want), "…") {
		if i > 0 {
			pattern.WriteString("(?s:.*)")
		}
		pattern.WriteString(regexp.QuoteMeta(part))
	}
	return regexp.MustCompile(`\A` + pattern.String() + `\z`).MatchString(strings.TrimSpace(got))
}

// paged is a server of its own for the pages.
type paged struct {
	url, home string
	log       *lockedBuffer
}

func startPaged(t *testing.T) *paged {
	t.Helper()
	home, err := os.MkdirTemp("", "fp-") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	if err := os.Chmod(home, 0o711); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	s := &paged{url: "http://" + address, home: home, log: &lockedBuffer{}}
	// The runtime whose snapshots hold memory on most machines, and is fast.
	config := "[policy]\norder = [\"native\", \"gvisor\", \"docker\", \"firecracker\", \"qemu\"]\n"
	if err := os.WriteFile(filepath.Join(home, "faas.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--listen", address)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "FAAS_CONFIG="+filepath.Join(home, "faas.toml"),
		"FAAS_DATA_DIR="+filepath.Join(home, "data"), "FAAS_DATA_RUNTIME_DIR="+filepath.Join(home, "rt"), "FAAS_LOG_FORMAT=json", "FAAS_LOG_LEVEL=info")
	cmd.Stderr = s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may be gone
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v\n%s", err, s.log.String())
		}
	})
	s.await(t)
	key, err := os.ReadFile(filepath.Join(home, "faas", "key"))
	if err != nil {
		t.Fatal(err)
	}
	curlrc := fmt.Sprintf("header = \"Authorization: Bearer %s\"\n", strings.TrimSpace(string(key)))
	if err := os.WriteFile(filepath.Join(home, ".curlrc"), []byte(curlrc), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// await waits until the server answers and has probed its runtime.
func (s *paged) await(t *testing.T) {
	t.Helper()
	for until := time.Now().Add(2 * time.Minute); ; <-time.After(20 * time.Millisecond) {
		response, err := http.Get(s.url + "/health") //nolint:noctx // bounded by the loop
		if err == nil {
			body, _ := io.ReadAll(response.Body) //nolint:errcheck // asked again
			response.Body.Close()
			if strings.Contains(string(body), `"native"`) {
				return
			}
		}
		if time.Now().After(until) {
			t.Fatalf("the server does not answer: %v\n%s", err, s.log.String())
		}
	}
}

// pageShell is one bash for the commands of a page.
type pageShell struct {
	in  io.WriteCloser
	out *bufio.Reader
}

const pageMark = "--end-of-step--"

func (s *paged) shell(t *testing.T) *pageShell {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "bash")
	cmd.Env = append(os.Environ(), "HOME="+s.home, "CURL_HOME="+s.home, "FAAS="+s.url+"/api/v1", "TZ=UTC", "LC_ALL=C.UTF-8",
		"PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() //nolint:errcheck // its commands have said what they had to
		read.Close()
	})
	return &pageShell{in: in, out: bufio.NewReader(read)}
}

// run runs one command and returns what it prints.
func (p *pageShell) run(t *testing.T, command string) string {
	t.Helper()
	if _, err := fmt.Fprintf(p.in, "%s\necho %s\n", command, pageMark); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for {
		line, err := p.out.ReadString('\n')
		if err != nil {
			t.Fatalf("$ %s\nended the shell: %v\n%s", command, err, out.String())
		}
		if before, marked := strings.CutSuffix(line, pageMark+"\n"); marked {
			return out.String() + before
		}
		out.WriteString(line)
	}
}

// everyRoute compares the server's log with its own description.
func (s *paged) everyRoute(t *testing.T) {
	t.Helper()
	response, err := http.Get(s.url + "/openapi.json") //nolint:noctx // a server of this machine
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var spec struct {
		Paths map[string]map[string]struct{ Tags []string }
	}
	if err := json.NewDecoder(response.Body).Decode(&spec); err != nil {
		t.Fatal(err)
	}
	called := s.called()
	for path, item := range spec.Paths {
		pattern := regexp.MustCompile(`^` + regexp.MustCompile(`\\\{[^}]*\\\}`).ReplaceAllString(regexp.QuoteMeta(path), `[^/]+`) + `$`)
		for method, op := range item {
			route := strings.ToUpper(method) + " " + path
			shown := slices.ContainsFunc(called, func(c [2]string) bool {
				// A literal path is not an example of one with a parameter.
				return c[0] == strings.ToUpper(method) && (c[1] == path || pattern.MatchString(c[1]) && spec.Paths[c[1]] == nil)
			})
			if shown || shownElsewhere[route] != "" || !slices.ContainsFunc(op.Tags, func(tag string) bool { return slices.Contains(shownTags, tag) }) {
				continue
			}
			t.Errorf("no page of docs/http-api shows %s", route)
		}
	}
}

// called lists method and path of every request in the server's log.
func (s *paged) called() [][2]string {
	var all [][2]string
	for line := range strings.Lines(s.log.String()) {
		var entry struct{ Msg, Method, Path string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "request" {
			all = append(all, [2]string{entry.Method, entry.Path})
		}
	}
	return all
}
