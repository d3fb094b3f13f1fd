package cgroup

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeUnified makes the files of a version 2 hierarchy: the kernel would not
// give this package's rules another shape than a directory of text files.
func fakeUnified(t *testing.T, controllers string) hierarchy {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Join(dir, subtree)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, d, "cgroup.controllers", controllers)
		put(t, d, "cgroup.subtree_control", "")
		put(t, d, "cgroup.procs", "")
	}
	return hierarchy{mountPoint: dir, unified: true}
}

func put(t *testing.T, dir, name, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestUnifiedWritesLimitsAndReadsStats(t *testing.T) {
	h := fakeUnified(t, "cpu memory pids")
	tree, err := open([]hierarchy{h}, map[string]string{"": "/"}, true)
	if err != nil {
		t.Fatal(err)
	}
	g := tree.Group("sbx-1")
	if err := g.Create(Limits{CPUCores: 0.5, MemoryBytes: 64 << 20, PIDs: 10}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(h.mountPoint, subtree, "sbx-1")
	for name, want := range map[string]string{"cpu.max": "50000 100000", "memory.max": "67108864", "memory.swap.max": "0", "pids.max": "10"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v, want %q", name, b, err, want)
		}
	}
	put(t, dir, "cpu.stat", "usage_usec 1500000\nuser_usec 1\n")
	put(t, dir, "memory.current", "100\n")
	put(t, dir, "memory.events", "low 0\noom 3\noom_kill 2\n")
	put(t, dir, "pids.current", "4\n")
	put(t, dir, "pids.events", "max 7\n")
	want := Stats{CPUMS: 1500, MemoryBytes: 100, OOMKills: 2, PIDs: 4, PIDsRefused: 7} // memory.peak is newer than some kernels
	if got, err := g.Stats(); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

func TestUnifiedSaysWhatIsMissing(t *testing.T) {
	tree, err := open([]hierarchy{fakeUnified(t, "pids")}, map[string]string{"": "/"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if ok, why := tree.Has(Memory); ok || !strings.Contains(why, "memory") {
		t.Errorf("memory: %v %q", ok, why)
	}
	if ok, why := tree.Has(PIDs); !ok {
		t.Error(why)
	}
}

func TestNothingMounted(t *testing.T) {
	if _, err := open(nil, nil, true); err == nil {
		t.Error("a machine without control groups has some")
	}
	_, err := open([]hierarchy{{mountPoint: t.TempDir(), controllers: []Controller{Memory}}}, nil, false)
	if err == nil || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("a plain user with version 1: %v", err)
	}
}

// The real thing: a process tree is limited, counted, frozen and removed.
func TestGroupOnThisMachine(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP native cgroup: making control groups here needs root")
	}
	tree, err := Open()
	if err != nil {
		t.Skip("SKIP native cgroup: " + err.Error())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	g := tree.Group("test-" + filepath.Base(filepath.Dir(t.TempDir())))
	t.Cleanup(func() {
		if err := g.Remove(context.Background()); err != nil {
			t.Error(err)
		}
		if g.Exists() {
			t.Error("the group is still there")
		}
	})
	if err := g.Create(Limits{CPUCores: 1, MemoryBytes: 64 << 20, PIDs: 5}); err != nil {
		t.Fatal(err)
	}
	if err := g.SetLimits(Limits{CPUCores: 0.5, MemoryBytes: 32 << 20, PIDs: 5}); err != nil {
		t.Errorf("lower the limits: %v", err)
	}
	cmd := exec.Command("sh", "-c", "read go; for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if ok, _ := tree.Has(PIDs); ok {
		err := untilDone(ctx, func() (bool, error) { s, err := g.Stats(); return s.PIDsRefused > 0, err })
		if err != nil {
			t.Errorf("no fork was refused: %v", err)
		}
	}
	if ok, _ := tree.Has(Freezer); ok {
		if err := g.Freeze(ctx); err != nil {
			t.Error(err)
		}
	}
	if err := g.Remove(ctx); err != nil { // frozen processes end too
		t.Error(err)
	}
	cmd.Wait() //nolint:errcheck // killed
}
