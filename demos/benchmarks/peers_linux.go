package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// command returns a contender that starts a program and waits for its end:
// the clock is around both.
func command(name string, args ...string) contender {
	return contender{name: name, once: timed(func(ctx context.Context) error { return runProgram(ctx, args) })}
}

// runProgram runs one program, quietly, for at most 30 seconds.
func runProgram(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// bundle writes an OCI bundle and returns its directory.
func bundle(dir string, spec *specs.Spec) (string, error) {
	b, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "config.json"), b, 0o644)
}

// ociRun is `runc run` or `crun run` of a bundle: create, start, end, delete.
func ociRun(runtimeName, path, bundleDir, stateDir string) contender {
	var count atomic.Int64
	return contender{name: runtimeName + " run", once: timed(func(ctx context.Context) error {
		id := fmt.Sprintf("bench-%s-%d-%d", runtimeName, os.Getpid(), count.Add(1))
		return runProgram(ctx, []string{path, "--root", stateDir, "run", "--bundle", bundleDir, id})
	})}
}

// bwrapRun is bubblewrap over the same root file system, with every namespace.
func bwrapRun(rootfs string, argv ...string) contender {
	args := []string{
		"bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", rootfs, "/",
		"--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
	}
	return command("bwrap", append(args, argv...)...)
}

// dockerImage names the imported root file system: another for each run, since
// runs beside each other share an engine.
var dockerImage = fmt.Sprintf("faas-bench-busybox:%d", os.Getpid())

// dockerReady imports the image into the engine that answers, if one does.
func dockerReady(ctx context.Context, rootfsTar string) (cleanup func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, errors.New("no docker program")
	}
	if err := runProgram(ctx, []string{"docker", "version"}); err != nil {
		return nil, errors.New("no Docker Engine answers")
	}
	if err := runProgram(ctx, []string{"docker", "import", rootfsTar, dockerImage}); err != nil {
		return nil, err
	}
	return func() {
		//nolint:errcheck // an image left behind in a test engine harms nobody
		runProgram(context.WithoutCancel(ctx), []string{"docker", "image", "rm", "-f", dockerImage})
	}, nil
}

// dockerRun is `docker run --rm` without a network, as ours has none.
func dockerRun(argv ...string) contender {
	return command("docker run --rm", append([]string{"docker", "run", "--rm", "--network", "none", dockerImage}, argv...)...)
}

// mountNamespaces are threads with mounts of their own, from which programs
// are started: crun refuses a machine that has version 1 and version 2 cgroup
// hierarchies side by side, and works where the latter are unmounted. Setting
// them up once keeps that off the clock.
type mountNamespaces struct {
	work    chan func()
	threads sync.WaitGroup
}

// newMountNamespaces starts so many threads, without the cgroup2 mounts.
func newMountNamespaces(threads int) (*mountNamespaces, error) {
	ns := &mountNamespaces{work: make(chan func())}
	ready := make(chan error, threads)
	for range threads {
		ns.threads.Go(func() {
			// Never unlocked: the thread ends with the goroutine.
			runtime.LockOSThread()
			ready <- leaveCgroup2()
			for f := range ns.work {
				f()
			}
		})
	}
	var errs []error
	for range threads {
		errs = append(errs, <-ready)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, ns.close())
	}
	return ns, nil
}

func leaveCgroup2() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	for _, m := range mounts() {
		if m.kind != "cgroup2" {
			continue
		}
		if err := unix.Unmount(m.at, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", m.at, err)
		}
	}
	return nil
}

// close ends the threads and with them the mounts.
func (ns *mountNamespaces) close() error {
	close(ns.work)
	ns.threads.Wait()
	return nil
}

// wrap makes a contender run on one of the threads; the way there and back is not on
// its clock, which the contender starts itself.
func (ns *mountNamespaces) wrap(c contender) contender {
	once := c.once
	c.once = func(ctx context.Context) (took time.Duration, err error) {
		done := make(chan struct{})
		ns.work <- func() {
			took, err = once(ctx)
			close(done)
		}
		<-done
		return took, err
	}
	return c
}
