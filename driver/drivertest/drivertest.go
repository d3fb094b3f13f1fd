// Package drivertest runs the conformance suite of package driver/conformance
// as subtests, and adds what only a driver's own tests can do: sandboxes that
// are made by a process which is then killed, and recovered by another.
//
// A driver's test is:
//
//	func TestConformance(t *testing.T) {
//		drivertest.Run(t, func(t *testing.T, dir string) driver.Driver {
//			d, err := native.New(native.Options{StateDir: dir})
//			if err != nil {
//				t.Fatal(err)
//			}
//			return d
//		})
//	}
//
// The test is skipped when the runtime is not available here, and fails
// instead when the environment variable FAAS_REQUIRE_RUNTIMES (a comma
// separated list) names it. Each subtest is skipped, with the line `SKIP
// RUNTIME CHECK: REASON`, only when the driver's Probe says that a feature
// which it declares is unavailable.
package drivertest

import (
	"context"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/conformance"
)

// Open opens the driver under test on a directory for its state. Drivers that
// one Run opens on one directory belong to one installation, as those of a
// daemon and of the next one do. Run closes them.
type Open func(t *testing.T, dir string) driver.Driver

// Option changes how the suite is run.
type Option func(*suite)

// WithImage names the image of the sandboxes: faas.HostImage unless given.
func WithImage(ref string) Option { return func(s *suite) { s.env.Image = ref } }

// WithoutIsolation skips, for the given reason, what checks isolation: for
// test doubles that isolate nothing.
func WithoutIsolation(reason string) Option { return func(s *suite) { s.env.Unsandboxed = reason } }

// WithoutProcesses skips, for the given reason, what needs several processes:
// for test doubles whose sandboxes live in the test's own.
func WithoutProcesses(reason string) Option { return func(s *suite) { s.oneProcess = reason } }

// WithLeftovers adds a search for what the technology still holds of a
// sandbox. Files below the state directory, mounts, cgroups and processes
// that carry the sandbox's id are searched anyway.
func WithLeftovers(find func(ctx context.Context, id string) ([]string, error)) Option {
	return func(s *suite) { s.env.Leftovers = find }
}

// WithoutCheck skips one check, for a reason that holds for how the driver is
// opened here and that no feature of the probe covers.
func WithoutCheck(name, reason string) Option {
	return func(s *suite) {
		if s.without == nil {
			s.without = map[string]string{}
		}
		s.without[name] = reason
	}
}

// Only runs the checks whose names match one of the patterns of path.Match; with
// none, all of them.
func Only(patterns ...string) Option { return func(s *suite) { s.only = patterns } }

// suite is one Run.
type suite struct {
	open       Open
	env        conformance.Env
	oneProcess string
	without    map[string]string // checks that do not apply, and why
	only       []string          // empty: all
}

// Run runs the suite against a driver.
func Run(t *testing.T, open Open, opts ...Option) {
	t.Helper()
	s := &suite{open: open}
	for _, o := range opts {
		o(s)
	}
	if s.actAsChild(t) {
		return
	}
	s.env.StateDir = stateDir(t)
	s.env.Driver = open(t, s.env.StateDir)
	t.Cleanup(func() { closeDriver(t, s.env.Driver) })
	caps := s.probe(t)
	s.env.Program = buildIntruder(t)
	s.env.World = testWorld()
	s.env.Open = func(context.Context) (driver.Driver, error) { return open(t, s.env.StateDir), nil }
	for _, c := range conformance.Checks() {
		s.run(t, c, caps)
	}
	for _, c := range s.processChecks(t.Name()) {
		s.run(t, c, caps)
	}
}

// probe skips the test, or fails it, when the runtime is not available.
func (s *suite) probe(t *testing.T) faas.Capabilities {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	caps := s.env.Driver.Probe(ctx)
	if !caps.Available {
		NotHere(t, caps)
	}
	return caps
}

// NotHere ends a test of a runtime that is not available: it is skipped, or
// fails when FAAS_REQUIRE_RUNTIMES names the runtime.
func NotHere(t testing.TB, caps faas.Capabilities) {
	t.Helper()
	required := strings.Split(os.Getenv("FAAS_REQUIRE_RUNTIMES"), ",")
	if slices.Contains(required, string(caps.Runtime)) {
		t.Fatalf("the required runtime %s is not available: %s (%s)", caps.Runtime, caps.Reason, caps.Remedy)
	}
	t.Skipf("SKIP %s all: %s (%s)", caps.Runtime, caps.Reason, caps.Remedy)
}

func (s *suite) run(t *testing.T, c conformance.Check, caps faas.Capabilities) {
	if len(s.only) > 0 && !slices.ContainsFunc(s.only, func(pattern string) bool {
		ok, _ := path.Match(pattern, c.Name) // a bad pattern matches nothing
		return ok
	}) {
		return
	}
	t.Run(c.Name, func(t *testing.T) {
		if reason := conformance.SkipReason(c, &s.env, caps); reason != "" {
			t.Skipf("SKIP %s %s: %s", caps.Runtime, c.Name, reason)
		}
		if reason := s.without[c.Name]; reason != "" {
			t.Skipf("SKIP %s %s: %s", caps.Runtime, c.Name, reason)
		}
		err := conformance.RunCheck(context.Background(), c, &s.env)
		if reason, skip := conformance.IsSkip(err); skip {
			t.Skipf("SKIP %s %s: %s", caps.Runtime, c.Name, reason)
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// stateDir makes a directory with a short path: sockets below it have to fit
// into the 107 bytes of a socket address. What a driver leaves in it after
// the suite is a failure.
func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "faas-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // a fake's commands may run as other users
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("the driver's directory cannot be removed: %v", err)
		}
	})
	return dir
}

func closeDriver(t *testing.T, d driver.Driver) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Errorf("close the driver: %v", err)
	}
}

// buildIntruder builds the program that some checks run inside. A test binary
// that runs as a user without a Go toolchain names one built before in
// FAAS_DRIVERTEST_INTRUDER.
func buildIntruder(t *testing.T) string {
	t.Helper()
	if built := os.Getenv("FAAS_DRIVERTEST_INTRUDER"); built != "" {
		return built
	}
	program := filepath.Join(t.TempDir(), "intruder")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "github.com/faas-platform/faas/driver/drivertest/intruder")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the intruder program: %v\n%s", err, out)
	}
	return program
}
