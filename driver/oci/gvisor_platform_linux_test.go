package oci

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
)

// TestGVisorKVM probes gVisor's platform kvm: where it does not run, the probe
// says so and leaves nothing; where it does, it is as good as any.
func TestGVisorKVM(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		t.Skip("SKIP gvisor kvm: this machine has no /dev/kvm")
	}
	probeKVM(t.Context(), t, gvisorHere(t).program)
}

// TestGVisorKVMHangs probes it with a runsc that starts and never gets
// anywhere, as on hypervisors that answer and run nothing.
func TestGVisorKVMHangs(t *testing.T) {
	program := filepath.Join(t.TempDir(), "runsc")
	script := "#!/bin/sh\n[ \"$1\" = --version ] && exec " + gvisorHere(t).program + " --version\nexec sleep 3600\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	caps := probeKVM(ctx, t, program)
	if caps.Available || !strings.Contains(caps.Reason, "did not start within") {
		t.Errorf("of a program that hangs the probe says %q", caps.Reason)
	}
}

func probeKVM(ctx context.Context, t *testing.T, program string) faas.Capabilities {
	t.Helper()
	opts := gvisorHere(t).opts
	opts.Dir, opts.Platform, opts.Program, opts.Network = filepath.Join(filepath.Dir(opts.Dir), "kvm"), PlatformKVM, program, nil
	kvm, err := NewGVisor(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer kvm.Close()
	caps := kvm.Probe(ctx)
	if !caps.Available && (!strings.Contains(caps.Reason, "platform kvm") || !strings.Contains(caps.Remedy, "gvisor.platform")) {
		t.Errorf("the probe says %q, to be mended by %q", caps.Reason, caps.Remedy)
	}
	if left, err := os.ReadDir(filepath.Join(opts.Dir, "sandboxes")); err != nil || len(left) > 0 {
		t.Errorf("the probe left %v, %v", left, err)
	}
	return caps
}
