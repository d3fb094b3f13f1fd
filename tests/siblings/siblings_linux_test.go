package siblings

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

// count is how many copies of one snapshot are compared.
const count = 20

// create makes an instance that is deleted at the test's end.
func (w *world) create(req faas.InstanceRequest) *faas.Instance {
	w.t.Helper()
	x, err := w.CreateInstance(w.t.Context(), req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.made = append(w.made, x.ID)
	return x
}

// deleteAll deletes what the test has made.
func (w *world) deleteAll() {
	var group sync.WaitGroup
	for _, id := range w.made {
		group.Go(func() {
			if err := w.DeleteInstance(context.Background(), "", id); err != nil {
				w.t.Errorf("delete %s: %v", id, err)
			}
		})
	}
	group.Wait()
}

// sh runs a script that must succeed and returns what it prints.
func (w *world) sh(id, script string) string {
	w.t.Helper()
	got, err := w.ExecInstance(w.t.Context(), "", id, faas.Request{Command: []string{"sh", "-c", script}, Timeout: 2 * time.Minute})
	if err != nil {
		w.t.Fatalf("%s: %v", script, err)
	}
	if got.ExitCode != 0 {
		w.t.Fatalf("%s: exit code %d (timed out: %v), %s", script, got.ExitCode, got.TimedOut, got.Stderr)
	}
	return strings.TrimSpace(string(got.Stdout))
}

// put copies a file in.
func (w *world) put(id, path string, content []byte, mode os.FileMode) {
	w.t.Helper()
	err := w.Guest(w.t.Context(), "", id, func(c *guest.Client) error {
		_, err := c.WriteFile(w.t.Context(), path, bytes.NewReader(content), guest.WriteOptions{Parents: true, Mode: mode})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) fork(from string, variants ...faas.InstanceRequest) []faas.Forked {
	w.t.Helper()
	forks, err := w.Fork(w.t.Context(), faas.ForkRequest{From: from, Variants: variants})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range forks {
		if f.Err == nil {
			w.made = append(w.made, f.Instance.ID)
		}
	}
	return forks
}

// build compiles the Go generator, without the C library, for the sandbox.
func build(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "generator")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./generator")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the generator: %v\n%s", err, out)
	}
	return read(t, path)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The names by which a program in each language is started, where the machine
// has what it needs.
var languages = []struct{ suffix, program string }{
	{"go", "/gen/generator"},
	{"py", "/usr/bin/python3 /gen/generator.py"},
	{"js", "/usr/bin/node /gen/generator.js"},
}

// generators puts the programs in and returns those that can run here.
func (w *world) generators(id string) []string {
	w.t.Helper()
	w.put(id, "/gen/generator", build(w.t), 0o755)
	have := []string{"go"}
	for suffix, needs := range map[string]string{"py": "/usr/bin/python3", "js": "/usr/bin/node"} {
		if _, err := os.Stat(needs); err != nil {
			w.t.Logf("no %s here: its generators are not compared", needs)
			continue
		}
		w.put(id, "/gen/generator."+suffix, read(w.t, "testdata/generator."+suffix), 0o644)
		have = append(have, suffix)
	}
	return have
}

// begin starts the programs and waits until each has drawn once.
func (w *world) begin(id string, suffixes []string) {
	w.t.Helper()
	var script strings.Builder
	for _, l := range languages {
		for _, s := range suffixes {
			if s == l.suffix {
				fmt.Fprintf(&script, "setsid %s /gen </dev/null >/gen/log.%s 2>&1 &\n", l.program, s)
			}
		}
	}
	for _, s := range suffixes {
		fmt.Fprintf(&script, "while [ ! -e /gen/ready.%s ]; do sleep 0.05; done\n", s)
	}
	w.sh(id, script.String())
}

// drawn asks the running programs and returns what they drew, by source.
func (w *world) drawn(id string, suffixes []string) map[string]string {
	w.t.Helper()
	script := "touch /gen/go; "
	for _, s := range suffixes {
		script += fmt.Sprintf("while [ ! -e /gen/drawn.%s ]; do sleep 0.02; done; ", s)
	}
	found := map[string]string{}
	for line := range strings.Lines(w.sh(id, script+"cat /gen/drawn.*")) {
		line = strings.TrimSpace(line)
		if i := strings.LastIndexByte(line, ' '); i > 0 {
			found[line[:i]] = line[i+1:]
		}
	}
	return found
}

// sources are what must have been compared, by the program that draws.
var sources = map[string][]string{
	"go": {"go crypto/rand"},
	"py": {"/dev/urandom", "getrandom", "python os.urandom", "python secrets", "python uuid4", "python ssl.RAND_bytes"},
	"js": {"node crypto.randomBytes", "node crypto.getRandomValues"},
}

// hook sees that nothing runs before it has: a counter stands still while it
// waits, and it knows already who it is.
const hook = `#!/bin/sh
cat /gen/n > /gen/hook.first
sleep 0.4
cat /gen/n > /gen/hook.second
cat /run/faas/instance.json > /gen/hook.instance
`

func TestSiblings(t *testing.T) {
	for _, r := range runtimes {
		t.Run(string(r.name), func(t *testing.T) { compare(t, open(t, r.name)) })
	}
}

func compare(t *testing.T, w *world) {
	req := faas.InstanceRequest{Resources: faas.Resources{CPUCores: 1, MemoryMB: 512, PIDs: 128}}
	if w.caps.Has(faas.FeatureLimitDisk) {
		req.Resources.DiskMB = 128
	}
	connected := w.caps.Has(faas.FeatureNetworkEgress)
	if connected {
		req.Network = &faas.NetworkPolicy{Mode: faas.NetworkEgress}
	}
	source := w.create(req)
	suffixes := w.generators(source.ID)
	w.put(source.ID, "/etc/faas/on-restore.d/10-look", []byte(hook), 0o755)
	full := w.caps.Has(faas.FeatureSnapshotFull)
	if full {
		w.begin(source.ID, suffixes)
	}
	snap, err := w.Snapshot(t.Context(), "", source.ID, faas.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[bool]faas.SnapshotKind{true: faas.SnapshotFull, false: faas.SnapshotFS}[full]; snap.Kind != want || snap.PauseMS <= 0 {
		t.Errorf("the best kind is %s, with a pause of %v ms; want %s", snap.Kind, snap.PauseMS, want)
	}
	variants := make([]faas.InstanceRequest, count)
	for i := range variants {
		// Half of them in another size, all with an environment of their own.
		variants[i] = faas.InstanceRequest{Entropy: faas.EntropyStrict, Env: map[string]string{"COPY": strconv.Itoa(i)}}
		if i%2 == 1 {
			variants[i].Resources.MemoryMB = 640
		}
	}
	begun := time.Now()
	forks := w.fork(snap.ID, variants...)
	t.Logf("%s: paused for %.0f ms, %d copies in %v", snap.Kind, snap.PauseMS, count, time.Since(begun).Round(time.Millisecond))
	seen := &values{by: map[string]string{}}
	if full {
		seen.all("source", w.drawn(source.ID, suffixes))
	}
	var group sync.WaitGroup
	places := make(chan struct{}, 4)
	for i, f := range forks {
		if f.Err != nil {
			t.Fatalf("copy %d: %v", i, f.Err)
		}
		group.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			w.sibling(f.Instance, i, suffixes, connected, full, seen)
		})
	}
	group.Wait()
	for _, repeated := range seen.repeated {
		t.Error(repeated)
	}
	if got := w.secrets.all(); len(got) != count {
		t.Errorf("%d channel secrets of %d copies", len(got), count)
	}
	for _, secret := range w.secrets.all() {
		if seen.add("channel secret", secret, "a copy") {
			t.Error("two copies have one channel secret")
		}
	}
}

// sibling looks at one copy.
func (w *world) sibling(x *faas.Instance, i int, suffixes []string, connected, full bool, seen *values) {
	if !full { // nothing runs in it yet
		w.begin(x.ID, suffixes)
	}
	before := time.Now()
	drawn := w.drawn(x.ID, suffixes)
	clock, err := strconv.ParseInt(drawn["clock"], 10, 64)
	// gVisor measures its clock against the host's, to within a fraction of a second.
	if told := time.UnixMilli(clock); err != nil || told.Before(before.Add(-time.Second)) || told.After(time.Now().Add(time.Second)) {
		w.t.Errorf("copy %d: its clock says %v between %v and %v", i, told, before, time.Now())
	}
	delete(drawn, "clock")
	for _, s := range suffixes {
		for _, source := range sources[s] {
			if drawn[source] == "" {
				w.t.Errorf("copy %d: nothing was drawn from %s", i, source)
			}
		}
	}
	if connected && (drawn["mac"] == "" || drawn["ip"] == "") {
		w.t.Errorf("copy %d: no address: %v", i, drawn)
	}
	seen.all(x.ID, drawn)
	w.identity(x, i, seen)
	w.hooked(x, i, full)
	if full {
		w.reseeded(x, i, suffixes)
	}
}

func (w *world) identity(x *faas.Instance, i int, seen *values) {
	told := strings.Fields(w.sh(x.ID, `hostname; cat /etc/machine-id; echo "$COPY"`))
	if len(told) != 3 || told[0] != x.ID || told[2] != strconv.Itoa(i) {
		w.t.Errorf("copy %d: host name, machine id and environment are %q", i, told)
		return
	}
	seen.all(x.ID, map[string]string{"host name": told[0], "machine id": told[1]})
	if identity := w.sh(x.ID, "cat /run/faas/instance.json"); !strings.Contains(identity, `"`+x.ID+`"`) {
		w.t.Errorf("copy %d takes itself for %s", i, identity)
	}
}

// hooked sees that the hook ran before anything else.
func (w *world) hooked(x *faas.Instance, i int, full bool) {
	if len(x.Hooks) != 1 || x.Hooks[0].ExitCode != 0 {
		w.t.Errorf("copy %d: the hooks ended with %+v", i, x.Hooks)
		return
	}
	told := strings.Fields(w.sh(x.ID, "cat /gen/hook.first /gen/hook.second; grep -c "+x.ID+" /gen/hook.instance"))
	if !full {
		told = append([]string{"", ""}, told...) // nothing counted
	}
	if len(told) != 3 || told[0] != told[1] || told[2] == "0" {
		w.t.Errorf("copy %d: while its hook ran a process counted, or it ran for another: %q", i, told)
	}
}

// reseeded sees that the answer names the programs whose generators were
// renewed.
func (w *world) reseeded(x *faas.Instance, i int, suffixes []string) {
	for suffix, command := range map[string]string{"py": "python3", "js": "node"} {
		found := false
		for _, r := range x.Reseeded {
			found = found || r.Done && r.Method == "RAND_poll" && strings.HasPrefix(r.Command, command)
		}
		for _, s := range suffixes {
			if s == suffix && !found {
				w.t.Errorf("copy %d: the answer names no renewed %s: %+v", i, command, x.Reseeded)
			}
		}
	}
}

// values remembers what was seen where.
type values struct {
	mu       sync.Mutex
	by       map[string]string
	repeated []string
}

// add remembers one and says whether it was there before.
func (v *values) add(source, value, who string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	key := source + "\x00" + value
	other, repeated := v.by[key]
	if repeated {
		v.repeated = append(v.repeated, fmt.Sprintf("%s %s of %s is that of %s too", source, value, who, other))
	}
	v.by[key] = who
	return repeated
}

func (v *values) all(who string, found map[string]string) {
	for source, value := range found {
		v.add(source, value, who)
	}
}
