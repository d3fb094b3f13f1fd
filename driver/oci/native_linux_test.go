package oci

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/image"
)

// newNative opens a driver on directories of its own.
func newNative(t testing.TB, launcher string) *Native {
	t.Helper()
	dir, err := os.MkdirTemp("", "faas-oci-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil { // OCI programs pass through as nobody
		t.Fatal(err)
	}
	shift, err := IDShift()
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.Open(filepath.Join(dir, "images"), image.Options{UIDShift: shift, GIDShift: shift})
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNative(Options{Dir: filepath.Join(dir, "native"), Images: images, Launcher: launcher,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range n.known() {
			t.Errorf("sandbox %s was left", s.ID())
			s.Destroy(context.Background()) //nolint:errcheck // the test has failed
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func testSpec() faas.Spec {
	return faas.Spec{
		ID: faas.NewID(faas.PrefixSandbox), Project: faas.DefaultProject, Image: faas.HostImage,
		Resources: faas.Resources{CPUCores: 1, MemoryMB: 128, DiskMB: 32, PIDs: 64},
		Env:       map[string]string{"GREETING": "hello"},
	}
}

func create(t testing.TB, n *Native, spec faas.Spec) *sandbox {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := n.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s.(*sandbox)
}

// run runs a shell command inside and returns its output and exit code.
func run(t testing.TB, s *sandbox, script string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret})
	defer client.Close()
	var out bytes.Buffer
	exit, err := client.Run(ctx, guest.Command{Args: []string{"sh", "-c", script}}, nil, &out, &out)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSpace(out.String()), exit.Code
}

func TestCreateRunsCommands(t *testing.T) {
	n := newNative(t, "")
	s := create(t, n, testSpec())
	out, code := run(t, s, "echo $GREETING; id -u; cat /proc/1/comm; uname -n; exit 3")
	if want := "hello\n0\nfaas-agent\n" + s.ID(); code != 3 || out != want {
		t.Errorf("exit code %d, output %s, want 3, %s", code, out, want)
	}
}

func BenchmarkCreateExecDestroy(b *testing.B) {
	for _, launcher := range []string{LauncherBuiltin, LauncherCrun, LauncherRunc} {
		b.Run(launcher, func(b *testing.B) {
			n := newNative(b, launcher)
			if c := n.Probe(b.Context()); !c.Available {
				b.Skip(c.Reason)
			}
			var created, executed, destroyed time.Duration
			for b.Loop() {
				start := time.Now()
				s, err := n.Create(b.Context(), testSpec())
				if err != nil {
					b.Fatal(err)
				}
				made := time.Now()
				client := guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret})
				_, err = client.Run(b.Context(), guest.Command{Args: []string{"/bin/true"}}, nil, nil, nil)
				if err != nil {
					b.Fatal(err)
				}
				client.Close()
				ran := time.Now()
				if err := s.Destroy(b.Context()); err != nil {
					b.Fatal(err)
				}
				created += made.Sub(start)
				executed += ran.Sub(made)
				destroyed += time.Since(ran)
			}
			for name, d := range map[string]time.Duration{"create": created, "exec": executed, "destroy": destroyed} {
				b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), name+"-ms")
			}
		})
	}
}
