package main

import (
	"context"
	goflag "flag"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/internal/config"
)

var update = goflag.Bool("update", false, "write the tables of docs/platforms.md")

const (
	matrixBegin = "<!-- what follows to the next mark is printed by: faas doctor --matrix -->\n"
	matrixEnd   = "<!-- end -->\n"
)

func TestPlatformTables(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "platforms.md")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(content), matrixBegin)
	have, after, ok2 := strings.Cut(rest, matrixEnd)
	if !ok1 || !ok2 {
		t.Fatal("docs/platforms.md has lost its marks")
	}
	want := "\n" + matrix() + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(before+matrixBegin+want+matrixEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != want {
		t.Error("docs/platforms.md is not what faas doctor --matrix prints: go test ./cmd/faas -run TestPlatformTables -update")
	}
}

// The documentation and the probes agree: what a probe finds, the tables
// offer, and what they do not offer, the probe refuses in the same words.
func TestPlatformTablesAgreeWithProbes(t *testing.T) {
	platform := map[string]driver.Platform{"darwin": driver.MacOS, "windows": driver.Windows}[runtime.GOOS]
	if runtime.GOOS == "linux" {
		platform = driver.LinuxUser
		if os.Geteuid() == 0 {
			platform = driver.LinuxRoot
		}
	}
	dir, err := os.MkdirTemp("", "fm-") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Loaded{}
	cfg.Data.Dir = filepath.Join(dir, "d")
	opened := drivers(cfg, slog.New(slog.DiscardHandler), faas.RuntimeAuto)
	defer func() {
		if err := closeDrivers(opened); err != nil {
			t.Error(err)
		}
	}()
	for _, d := range opened {
		found := d.Probe(context.Background())
		for _, row := range supports(d.Name(), platform) {
			c := found.Feature(row.Feature)
			switch {
			case c.Available && found.Available && !row.Offered:
				t.Errorf("%s %s: found, and the tables say %q", d.Name(), row.Feature, row.Reason)
			case found.Available && !row.Offered && (!strings.Contains(c.Reason, row.Reason) || c.Remedy != row.Remedy):
				t.Errorf("%s %s: the probe says %q (%q), the tables %q (%q)", d.Name(), row.Feature, c.Reason, c.Remedy, row.Reason, row.Remedy)
			case found.Available && row.Offered && !c.Available && row.Needs == "":
				t.Errorf("%s %s: the tables offer it without a condition, the probe says %q", d.Name(), row.Feature, c.Reason)
			}
		}
	}
}
