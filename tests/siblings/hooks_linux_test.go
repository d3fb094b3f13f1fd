package siblings

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/faas-platform/faas"
)

// block returns the one fenced block of a language in docs/randomness.md, so
// that what users read is what runs here.
func block(t *testing.T, language string) []byte {
	t.Helper()
	found := regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllSubmatch(read(t, "../../docs/randomness.md"), -1)
	if len(found) != 1 {
		t.Fatalf("docs/randomness.md has %d blocks of %s", len(found), language)
	}
	return found[0][1]
}

// mark is a hook that notes how much had been drawn when the snapshot was taken.
const mark = `#!/bin/sh
for f in /tmp/numbers.*; do wc -l <"$f" >"/tmp/mark.${f##*.}"; done
`

// TestHooksRenewGenerators runs the programs and the hook of
// docs/randomness.md: with it copies draw what nobody else does; without it
// they repeat each other.
func TestHooksRenewGenerators(t *testing.T) {
	w := open(t, faas.RuntimeNative)
	if full := w.caps.Feature(faas.FeatureSnapshotFull); !full.Available {
		t.Skipf("SKIP native hooks: %s", full.Reason)
	}
	source := w.create(faas.InstanceRequest{Resources: faas.Resources{CPUCores: 1, MemoryMB: 512, DiskMB: 128, PIDs: 128}})
	w.sh(source.ID, "mkdir -p /run/renew")
	program := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(program, block(t, "go"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", program+".exe", program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the page's program: %v\n%s", err, out)
	}
	w.put(source.ID, "/app/go", read(t, program+".exe"), 0o755)
	languages, script := []string{"go"}, "setsid /app/go </dev/null >/dev/null 2>&1 &\n"
	for language, interpreter := range map[string]string{"python": "/usr/bin/python3", "node": "/usr/bin/node"} {
		if _, err := os.Stat(interpreter); err != nil {
			t.Logf("no %s here: its hook is not run", interpreter)
			continue
		}
		w.put(source.ID, "/app/"+language, block(t, map[string]string{"python": "python", "node": "js"}[language]), 0o644)
		languages = append(languages, language)
		script += "setsid " + interpreter + " /app/" + language + " </dev/null >/tmp/log." + language + " 2>&1 &\n"
	}
	for _, language := range languages {
		script += "while [ ! -s /tmp/numbers." + language + " ]; do sleep 0.05; done\n"
	}
	w.sh(source.ID, script)
	w.put(source.ID, "/etc/faas/on-restore.d/10-mark", []byte(mark), 0o755)
	without := w.copies(source.ID, languages)
	w.put(source.ID, "/etc/faas/on-restore.d/50-renew", block(t, "sh"), 0o755)
	with := w.copies(source.ID, languages)
	for _, language := range languages {
		if ahead, err := strconv.Atoi(without[0]["mark."+language][0]); err != nil || language == "node" && (ahead+1)%128+26 >= 128 {
			t.Logf("%s: what it had drawn ahead was used up: %v", language, err)
		} else if !slices.Equal(without[0][language], without[1][language]) {
			t.Errorf("%s: without a hook two copies drew %v: the page says that they repeat", language, without)
		}
		for i, number := range with[0][language] {
			if slices.Contains(with[1][language], number) {
				t.Errorf("%s: with the hook both copies drew %s as their number %d", language, number, i)
			}
		}
	}
}

// copies makes two copies and returns what each program drew in them after the
// restore, by language.
func (w *world) copies(from string, languages []string) [2]map[string][]string {
	w.t.Helper()
	snap, err := w.Snapshot(w.t.Context(), "", from, faas.SnapshotRequest{Kind: faas.SnapshotFull})
	if err != nil {
		w.t.Fatal(err)
	}
	var out [2]map[string][]string
	for i, f := range w.fork(snap.ID, make([]faas.InstanceRequest, len(out))...) {
		if f.Err != nil {
			w.t.Fatal(f.Err)
		}
		for _, h := range f.Instance.Hooks {
			if h.ExitCode != 0 {
				w.t.Errorf("hook: %+v", h)
			}
		}
		out[i] = map[string][]string{}
		for _, language := range languages {
			out[i]["mark."+language] = strings.Fields(w.sh(f.Instance.ID, "cat /tmp/mark."+language))
			// The first may be on their way when the hook's signal comes, on a busy
			// machine for a while.
			script := "n=$(cat /tmp/mark.LANG); while [ $(wc -l < /tmp/numbers.LANG) -lt $((n+26)) ]; do sleep 0.05; done; " +
				"sed -n $((n+21)),$((n+26))p /tmp/numbers.LANG"
			out[i][language] = strings.Fields(w.sh(f.Instance.ID, strings.ReplaceAll(script, "LANG", language)))
			if len(out[i][language]) != 6 {
				w.t.Fatalf("%s drew %v", language, out[i][language])
			}
		}
	}
	return out
}
