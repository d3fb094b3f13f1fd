package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/faas-platform/faas"
)

// environment is one that a test made for the program: a user, a PATH, a home.
type environment struct {
	dir        string
	program    string
	variables  []string
	credential *syscall.Credential // nil: this user
}

// newEnvironment gives a user an installation of its own. Root's is this
// process's user.
func newEnvironment(t *testing.T, name string) *environment {
	t.Helper()
	dir, err := os.MkdirTemp("", "fd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &environment{dir: dir, program: filepath.Join(dir, "faas")}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Link(binary, e.program)); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "h") // short: sockets lie below it
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	e.variables = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "FAAS_CONFIG=" + os.DevNull, "FAAS_DATA_DIR=" + filepath.Join(home, "d")}
	if name == "root" {
		return e
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIP doctor: becoming another user needs root")
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Skipf("SKIP doctor: there is no user %s", name)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2, os.Chown(home, uid, gid)); err != nil {
		t.Fatal(err)
	}
	e.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return e
}

// doctor returns what `faas doctor` finds there.
func (e *environment) doctor(t *testing.T, variables ...string) map[faas.Runtime]faas.Capabilities {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.program, "doctor", "--json")
	cmd.Env, cmd.Dir = append(e.variables, variables...), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: e.credential}
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Runtimes []faas.Capabilities }
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	found := map[faas.Runtime]faas.Capabilities{}
	for _, c := range answer.Runtimes {
		found[c.Runtime] = c
	}
	return found
}

// says looks for parts of the reason and the remedy of what is not available.
func says(t *testing.T, c faas.Capability, reason, remedy string) {
	t.Helper()
	if c.Available || !strings.Contains(c.Reason, reason) || !strings.Contains(c.Remedy, remedy) {
		t.Errorf("%s: available %v, %q (%q); want unavailable, %q (%q)", c.Feature, c.Available, c.Reason, c.Remedy, reason, remedy)
	}
}

// A CRIU that is installed and does not work costs its own feature and nothing
// else, whatever is wrong with it.
func TestDoctorBrokenCRIU(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP native doctor: CRIU is not looked for without root")
	}
	for name, test := range map[string]struct{ script, reason string }{
		"fails":      {"echo 'vdso: bounds' >&2; exit 1", "the installed CRIU does not answer"},
		"never ends": {"exec sleep 1000", "the installed CRIU does not answer"},
		"garbage":    {"echo garbage >&3 2>/dev/null; echo garbage", "the installed CRIU does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnvironment(t, "root")
			if err := os.WriteFile(filepath.Join(e.dir, "criu"), []byte("#!/bin/sh\n"+test.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			native := e.doctor(t, "PATH="+e.dir+":"+os.Getenv("PATH"))[faas.RuntimeNative]
			if !native.Has(faas.FeatureExec) || !native.Has(faas.FeatureSnapshotFS) {
				t.Fatalf("the runtime suffers: %s", native.Reason)
			}
			says(t, native.Feature(faas.FeatureSnapshotFull), test.reason, "CRIU 4.2.1")
		})
	}
	t.Run("missing", func(t *testing.T) {
		e := newEnvironment(t, "root")
		native := e.doctor(t, "PATH="+withoutProgram(t, e.dir, "criu"))[faas.RuntimeNative]
		says(t, native.Feature(faas.FeatureSnapshotFull), "CRIU, which is not installed", "CRIU 4.2.1")
	})
}

// withoutProgram is the PATH less the directories that hold a program.
func withoutProgram(t *testing.T, dir, program string) string {
	t.Helper()
	keep := []string{dir}
	for _, d := range filepath.SplitList(os.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(d, program)); err != nil {
			keep = append(keep, d)
		}
	}
	return strings.Join(keep, string(os.PathListSeparator))
}

// A socket of an engine that this user may not use is told from one that is
// not there.
func TestDoctorDockerSocket(t *testing.T) {
	e := newEnvironment(t, "nobody")
	path := filepath.Join(e.dir, "docker.sock")
	docker := e.doctor(t, "DOCKER_HOST=unix://"+path)[faas.RuntimeDocker]
	says(t, docker.Feature(faas.FeatureExec), "no docker engine at unix://"+path, "start Docker")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	docker = e.doctor(t, "DOCKER_HOST=unix://"+path)[faas.RuntimeDocker]
	says(t, docker.Feature(faas.FeatureExec), "no permission to use the docker engine's socket unix://"+path, "docker")
}

// A user without a control group and without subordinate ids gets sandboxes
// all the same, and is told what they lack.
func TestDoctorPlainUser(t *testing.T) {
	e := newEnvironment(t, "nobody")
	found := e.doctor(t, "DOCKER_HOST=unix:///nonexistent")
	native := found[faas.RuntimeNative]
	if !native.Available {
		t.Skipf("SKIP native doctor: plain users have no sandboxes here: %s", native.Reason)
	}
	for _, f := range []faas.Feature{faas.FeatureLimitCPU, faas.FeatureLimitMemory, faas.FeatureLimitPIDs, faas.FeaturePause} {
		says(t, native.Feature(f), "delegated", "systemd-run --user --scope -p Delegate=yes")
	}
	ids := native.Feature(faas.FeatureUserNamespace)
	if !ids.Available || !strings.Contains(ids.Detail, "no range for user nobody") || !strings.Contains(ids.Detail, "usermod --add-subuids") {
		t.Errorf("%+v", ids)
	}
	says(t, native.Feature(faas.FeatureNetworkEgress), "CAP_NET_ADMIN", "root")
	says(t, native.Feature(faas.FeatureSnapshotFull), "root", "run the gateway as root")
	says(t, found[faas.RuntimeGVisor].Feature(faas.FeatureExec), "needs root", "native")
}

// What this build has no driver for is told, with what the machine offers for
// it and no more.
func TestDoctorRuntimesWithoutDriver(t *testing.T) {
	e := newEnvironment(t, "root")
	found := e.doctor(t)
	firecracker := found[faas.RuntimeFirecracker]
	says(t, firecracker.Feature(faas.FeatureExec), "no driver for it in this build", "another runtime")
	if !strings.Contains(firecracker.Reason, "/dev/kvm") || len(firecracker.Features) != len(faas.Features()) {
		t.Errorf("%+v", firecracker)
	}
	if len(found) != len(faas.Runtimes()) {
		t.Errorf("%d runtimes, want %d", len(found), len(faas.Runtimes()))
	}
}

// A microVM needs a kernel, and nobody has named one here.
func TestDoctorMicroVMWithoutAKernel(t *testing.T) {
	e := newEnvironment(t, "root")
	qemu := e.doctor(t, "FAAS_MICROVM_KERNEL=/nowhere/boot/vmlinuz-1")[faas.RuntimeQEMU]
	if qemu.Available || qemu.Reason == "" || qemu.Remedy == "" || len(qemu.Features) != len(faas.Features()) {
		t.Errorf("%+v", qemu)
	}
}
