package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestCompareRuntimes runs the demonstration that compares the runtimes of
// this machine, and wants of all of them what no runtime may do differently.
func TestCompareRuntimes(t *testing.T) {
	var available []string
	for _, runtime := range []string{"native", "docker", "gvisor"} {
		ok, err := condition(t, runtime)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			available = append(available, runtime)
		}
	}
	if len(available) == 0 {
		t.Skip("SKIP compare: no runtime is available")
	}
	dir, err := os.MkdirTemp("", "fc-") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // some sandboxes' processes pass through as nobody
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join("..", "..", "demos", "runtimes", "compare.sh"))
	cmd.Env = append(os.Environ(), "FAAS="+binary, "FAAS_CONFIG="+os.DevNull, "FAAS_API_URL=", "FAAS_DATA_DIR="+filepath.Join(dir, "d"))
	out, err := cmd.CombinedOutput()
	text := string(out)
	t.Log(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, runtime := range available {
		if !regexp.MustCompile(`(?m)^` + runtime + ` +0 `).MatchString(text) {
			t.Errorf("%s did not run the program", runtime)
		}
	}
	same, _, _ := strings.Cut(text, "\ndifferent:")
	_, same, _ = strings.Cut(same, "the same everywhere:")
	for name, value := range map[string]string{
		"arithmetic": "42", "input": "HELLO", "variable": "welcome", "user": "0", "process": "faas-agent",
		"no new privileges": "1", "writes to /tmp": "yes", "mounts a tmpfs": "no", "sets the clock": "no",
	} {
		if !regexp.MustCompile(`(?m)^ +` + regexp.QuoteMeta(name) + ` +` + value + `$`).MatchString(same) {
			t.Errorf("not the same everywhere: %s %s", name, value)
		}
	}
}
