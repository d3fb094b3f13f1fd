package oci

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// What does not fit this machine is refused before anything is started, and
// the error names it.
func TestRestoresThatCannotWorkAreRefused(t *testing.T) {
	n := newNative(t, LauncherBuiltin)
	if _, err := n.criuTool(t.Context()); err != nil {
		t.Skip("SKIP requirements: ", err)
	}
	features, err := cpuFeatures()
	if err != nil {
		t.Fatal(err)
	}
	mapped := filepath.Join(t.TempDir(), "lib.so")
	if err := os.WriteFile(mapped, []byte("one version"), 0o600); err != nil {
		t.Fatal(err)
	}
	program := "/proc/self/exe"
	if identity, err := fileIdentity("/bin/sh"); err == nil && strings.HasPrefix(identity, "build id") {
		program = "/bin/sh"
	}
	fits := func() driver.Requirements {
		own, err := fileIdentity(mapped)
		if err != nil {
			t.Fatal(err)
		}
		id, err := fileIdentity(program)
		if err != nil {
			t.Fatal(err)
		}
		return driver.Requirements{
			Architecture: runtime.GOARCH, Kernel: kernelRelease(), CPUFeatures: features, Tool: "criu " + n.criuVersion,
			Agent: n.agent.Digest, MappedFiles: map[string]string{mapped: own, program: id},
		}
	}
	check := func(r driver.Requirements) error {
		return n.CheckRestore(t.Context(), driver.State{Kind: faas.SnapshotFull, Requires: r, Data: []byte("{}")})
	}
	if err := check(fits()); err != nil {
		t.Fatalf("what fits: %v", err)
	}
	older := fits()
	older.Tool = "criu 4.0"
	if err := check(older); err != nil {
		t.Errorf("written by an older CRIU: %v", err)
	}
	for name, tc := range map[string]struct {
		change func(*driver.Requirements)
		names  string
	}{
		"kernel":         {func(r *driver.Requirements) { r.Kernel = "5.4.0-1-cloud" }, "5.4.0-1-cloud"},
		"architecture":   {func(r *driver.Requirements) { r.Architecture = "riscv64" }, "riscv64"},
		"CPU features":   {func(r *driver.Requirements) { r.CPUFeatures = append(r.CPUFeatures, "avx1024") }, "avx1024"},
		"newer CRIU":     {func(r *driver.Requirements) { r.Tool = "criu 99.1" }, "criu 99.1"},
		"agent":          {func(r *driver.Requirements) { r.Agent = strings.Repeat("ab", 32) }, "abababababab"},
		"build id":       {func(r *driver.Requirements) { r.MappedFiles[program] = "build id 00" }, program},
		"another file":   {func(r *driver.Requirements) { r.MappedFiles[mapped] = "1 bytes of 1" }, mapped},
		"a missing file": {func(r *driver.Requirements) { r.MappedFiles["/nowhere/libc.so.6"] = "build id 00" }, "/nowhere/libc.so.6"},
	} {
		t.Run(name, func(t *testing.T) {
			r := fits()
			tc.change(&r)
			err := check(r)
			if !errors.Is(err, faas.ErrFailedPrecondition) || !strings.Contains(err.Error(), tc.names) {
				t.Errorf("%v, want a refusal that names %s", err, tc.names)
			}
			files := driver.State{Kind: faas.SnapshotFS, Requires: r, Data: []byte("{}")}
			if err := n.CheckRestore(t.Context(), files); err != nil {
				t.Errorf("its files: %v", err)
			}
		})
	}
	saved := fits()
	if err := os.WriteFile(mapped, []byte("another version"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := check(saved); !errors.Is(err, faas.ErrFailedPrecondition) || !strings.Contains(err.Error(), mapped) {
		t.Errorf("after an update of the machine: %v", err)
	}
}
