package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// barePeer is a container with the same workload, saved and restored by the
// bare runtime's own program.
type barePeer struct {
	dir, id string
	command []string // the program with its global options
}

// newRuncPeer starts it with runc: its default mounts, and no user namespace.
func newRuncPeer(ctx context.Context, dir, rootfs, script string) (*barePeer, error) {
	return newBarePeer(ctx, dir, rootfs, script, "runc", "--root", filepath.Join(dir, "state"))
}

// newRunscPeer starts it with gVisor, with the options of the gvisor driver.
func newRunscPeer(ctx context.Context, dir, rootfs, script string) (*barePeer, error) {
	return newBarePeer(ctx, dir, rootfs, script, "runsc", "--root", filepath.Join(dir, "state"),
		"--platform", "systrap", "--network", "none", "--ignore-cgroups", "--overlay2", "root:memory")
}

func newBarePeer(ctx context.Context, dir, rootfs, script string, command ...string) (*barePeer, error) {
	if _, err := exec.LookPath(command[0]); err != nil {
		return nil, fmt.Errorf("%w: no %s to compare with", errUnavailable, command[0])
	}
	p := &barePeer{dir: dir, id: "bench-" + filepath.Base(dir), command: command}
	if err := p.writeBundle(ctx, rootfs, script); err != nil {
		return nil, err
	}
	err := runDetached(ctx, p.args("run", "--detach", "--bundle", dir, p.id))
	for deadline := time.Now().Add(60 * time.Second); err == nil; time.Sleep(50 * time.Millisecond) {
		if runProgram(ctx, p.args("exec", p.id, "/bin/test", "-e", "/tmp/ready")) == nil {
			return p, nil
		}
		if time.Now().After(deadline) {
			err = fmt.Errorf("the container of %s does not become ready", command[0])
		}
	}
	p.close(ctx)
	return nil, err
}

func (p *barePeer) writeBundle(ctx context.Context, rootfs, script string) error {
	root := filepath.Join(p.dir, "rootfs")
	if err := errors.Join(os.MkdirAll(root, 0o755), runProgram(ctx, []string{"cp", "-a", rootfs + "/.", root}),
		runProgram(ctx, []string{p.command[0], "spec", "--bundle", p.dir})); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(p.dir, "config.json"))
	if err != nil {
		return err
	}
	peer := new(specs.Spec)
	if err := json.Unmarshal(b, peer); err != nil {
		return err
	}
	peer.Process.Terminal, peer.Process.Args = false, []string{"/bin/sh", "-c", script}
	peer.Root = &specs.Root{Path: "rootfs"}
	// The machine's own programs and libraries, as in the host image.
	for _, bound := range []string{"/usr", "/lib", "/lib64"} {
		if source, err := filepath.EvalSymlinks(bound); err == nil {
			peer.Mounts = append(peer.Mounts, specs.Mount{Destination: bound, Type: "bind", Source: source, Options: []string{"rbind", "ro"}})
		}
	}
	_, err = bundle(p.dir, peer)
	return err
}

// runDetached runs a program that leaves processes behind: they keep its
// standard streams, so it gets none that anybody waits for.
func runDetached(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := exec.CommandContext(ctx, args[0], args[1:]...).Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (p *barePeer) args(args ...string) []string {
	return append(append([]string{}, p.command...), args...)
}

func (p *barePeer) images() string { return filepath.Join(p.dir, "images") }

func (p *barePeer) checkpoint(ctx context.Context) (time.Duration, error) {
	if err := errors.Join(os.RemoveAll(p.images()), os.Mkdir(p.images(), 0o755)); err != nil {
		return 0, err
	}
	start := time.Now()
	err := runDetached(ctx, p.args("checkpoint", "--leave-running", "--image-path", p.images(), p.id))
	return time.Since(start), err
}

// restore replaces the container by what was last saved of it.
func (p *barePeer) restore(ctx context.Context) (time.Duration, error) {
	if _, err := os.Stat(p.images()); err != nil {
		if _, err := p.checkpoint(ctx); err != nil {
			return 0, err
		}
	}
	if err := runDetached(ctx, p.args("delete", "--force", p.id)); err != nil {
		return 0, err
	}
	start := time.Now()
	err := runDetached(ctx, p.args("restore", "--detach", "--image-path", p.images(), "--bundle", p.dir, p.id))
	return time.Since(start), err
}

func (p *barePeer) close(ctx context.Context) {
	//nolint:errcheck // a container left behind ends with the machine
	runProgram(context.WithoutCancel(ctx), p.args("delete", "--force", p.id))
	// runsc keeps an empty network namespace mounted here.
	unix.Unmount(filepath.Join(p.dir, "state", "null-netns"), unix.MNT_DETACH) //nolint:errcheck // runc has none
}
