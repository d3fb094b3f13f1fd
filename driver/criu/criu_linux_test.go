package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"
)

func tool(t *testing.T) *Tool {
	t.Helper()
	path, err := exec.LookPath("criu")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("SKIP criu: needs root and the program criu")
	}
	return &Tool{Path: path}
}

func pointer[T any](v T) *T { return &v }

// A process tree is dumped while it runs on, and its copy runs in namespaces
// of its own.
func TestDumpAndRestore(t *testing.T) {
	c := tool(t)
	version, err := c.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if version < 40201 {
		t.Skipf("SKIP criu: needs CRIU 4.2.1 or newer, found %d", version)
	}
	source := exec.Command("sleep", "1000")
	source.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := source.Start(); err != nil {
		t.Fatal(err)
	}
	defer source.Wait()         //nolint:errcheck // killed
	defer source.Process.Kill() //nolint:errcheck // running
	images := t.TempDir()
	var stopped bool
	err = c.Dump(t.Context(), images, &rpc.CriuOpts{
		Pid: pointer(int32(source.Process.Pid)), LeaveRunning: pointer(true), LogLevel: pointer(int32(4)),
	}, Hooks{"post-dump": func(int) error { stopped = true; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if !stopped {
		t.Error("the hook was not called")
	}
	if err := source.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("the source is gone: %v", err)
	}
	source.Process.Kill() //nolint:errcheck // its id must be free for the copy
	source.Wait()         //nolint:errcheck // killed
	pid, err := c.Restore(t.Context(), images, t.TempDir(), &rpc.CriuOpts{
		RstSibling: pointer(true), LogLevel: pointer(int32(4)),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		unix.Kill(pid, unix.SIGKILL) //nolint:errcheck // running
		unix.Wait4(pid, nil, 0, nil) //nolint:errcheck // a child, by RstSibling
	}()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.HasPrefix(string(line), "sleep") {
		t.Errorf("restored %q, %v", line, err)
	}
}

func TestFailedDumpTellsWhy(t *testing.T) {
	c := tool(t)
	err := c.Dump(t.Context(), t.TempDir(), &rpc.CriuOpts{Pid: pointer(int32(1 << 22))}, nil)
	if err == nil || !strings.Contains(err.Error(), "dump failed") {
		t.Errorf("%v", err)
	}
}

func TestContextEndsAnOperation(t *testing.T) {
	c := tool(t)
	sleeper, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	c.Command = func(string, ...string) (*exec.Cmd, func() error, error) {
		return exec.Command(sleeper, "1000"), func() error { return nil }, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Version(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the deadline", err)
	}
}
