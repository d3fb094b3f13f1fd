package oci

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/network"
)

func TestConformance(t *testing.T) { conform(t, LauncherBuiltin) }

// The other launchers pass the same suite. It takes half a minute for each.
func TestConformanceCrun(t *testing.T) { conformWithProgram(t, LauncherCrun) }

func TestConformanceRunc(t *testing.T) { conformWithProgram(t, LauncherRunc) }

func conformWithProgram(t *testing.T, launcher string) {
	if testing.Short() {
		t.Skip("SKIP native all: the builtin launcher stands for the others in short runs")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIP native all: the launcher " + launcher + " needs root")
	}
	if _, err := exec.LookPath(launcher); err != nil {
		notHere(t, launcher+" is not installed")
	}
	conform(t, launcher)
}

func conform(t *testing.T, launcher string) {
	drivertest.Run(t, func(t *testing.T, dir string) driver.Driver {
		shift, err := IDShift()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o711); err != nil { // OCI programs pass through as nobody
			t.Fatal(err)
		}
		images, err := image.Open(filepath.Join(dir, "images"), image.Options{UIDShift: shift, GIDShift: shift})
		if err != nil {
			t.Fatal(err)
		}
		n, err := NewNative(withNetwork(Options{Dir: filepath.Join(dir, "native"), Images: images, Launcher: launcher}))
		if err != nil {
			t.Fatal(err)
		}
		return n
	})
}

// withNetwork connects sandboxes to this machine's network, where this user
// may.
func withNetwork(opts Options) Options {
	opts.Network, opts.NetworkError = network.New(network.Options{Installation: "test" + strings.ReplaceAll(opts.Dir, "/", "-")})
	return opts
}

// notHere skips a test for a declared reason, or fails it where the native
// runtime is required.
func notHere(t *testing.T, reason string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("FAAS_REQUIRE_RUNTIMES"), ","), "native") {
		t.Fatal(reason)
	}
	t.Skip("SKIP native all: " + reason)
}

// TestConformanceAsPlainUser runs this test binary again as a user with
// subordinate ids.
func TestConformanceAsPlainUser(t *testing.T) {
	asUser(t, "faas-test", "^TestConformance$")
}

// TestOneUserOnly runs what needs no second user as one who has no
// subordinate ids.
func TestOneUserOnly(t *testing.T) {
	asUser(t, "nobody", "^(TestCreateRunsCommands|TestIsolation.*|TestReadOnly|TestMountsAreFew)$")
}

func asUser(t *testing.T, name, tests string) {
	if testing.Short() && name != "nobody" {
		t.Skip("SKIP native all: runs without -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIP native all: becoming another user needs root; the other tests run as this one")
	}
	u, err := user.Lookup(name)
	if err != nil {
		notHere(t, "there is no user "+name+" (useradd -M "+name+")")
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "faas-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	home := filepath.Join(dir, "home")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(home, 0o700), os.Chown(home, uid, gid)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, intruder := filepath.Join(dir, "test"), filepath.Join(dir, "intruder")
	copyExecutable(t, self, binary)
	build := exec.Command("go", "build", "-o", intruder, "github.com/faas-platform/faas/driver/drivertest/intruder")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the intruder program: %v: %s", err, out)
	}
	cmd := exec.Command(binary, "-test.run", tests, "-test.v")
	cmd.Dir = home
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "USER=" + name,
		"FAAS_DRIVERTEST_INTRUDER=" + intruder, "FAAS_REQUIRE_RUNTIMES=" + os.Getenv("FAAS_REQUIRE_RUNTIMES")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("as %s: %v\n%s", name, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "SKIP ") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func copyExecutable(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
}
