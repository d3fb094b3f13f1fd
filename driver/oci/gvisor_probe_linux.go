package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/guest"
)

const (
	// statsTimeout bounds what gVisor's kernel may take to count its processes.
	statsTimeout = 2 * time.Second
	// kvmTimeout bounds a probe of the platform kvm, which on some nested
	// hypervisors starts and never gets anywhere.
	kvmTimeout = 10 * time.Second
)

// Probe makes a sandbox of the host image, runs a command in it and looks at
// what it got.
func (g *GVisor) Probe(ctx context.Context) faas.Capabilities {
	g.probing.Lock()
	defer g.probing.Unlock()
	if time.Since(g.at) < probeLasts && g.last.Available {
		return g.last
	}
	limit := probeTimeout
	if g.opts.Platform == PlatformKVM {
		limit = kvmTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	started := time.Now()
	c := g.try(ctx)
	c.Runtime, c.ProbedAt = faas.RuntimeGVisor, started.UTC()
	c.ProbeMS = float64(time.Since(started).Microseconds()) / 1000
	g.last, g.at = c, time.Now()
	return c
}

func (g *GVisor) try(ctx context.Context) faas.Capabilities {
	if err := g.usable(); err != nil {
		return unavailable(err.Detail, err.Remedy)
	}
	version, err := g.version(ctx)
	if err != nil {
		return unavailable("the program "+g.program+" does not run: "+err.Error(), "install gVisor's runsc again")
	}
	made, err := g.Create(ctx, probeSpec())
	if err != nil {
		reason, remedy := g.diagnose(err)
		return unavailable(reason, remedy)
	}
	s := made.(*gvisorSandbox)
	features, err := g.features(ctx, s)
	destroy, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := errors.Join(err, s.Destroy(destroy)); err != nil {
		reason, remedy := g.diagnose(err)
		return unavailable(reason, remedy)
	}
	return faas.Capabilities{
		Available: true, Version: version, Features: features,
		Detail: "gVisor on the platform " + g.opts.Platform + ", as root",
	}
}

// version asks the program, once as long as it stays the same file: starting it
// takes as long as a good part of a restore.
func (g *GVisor) version(ctx context.Context) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(g.program, &st); err != nil {
		return "", err
	}
	file := programFile{st.Dev, st.Ino, st.Size, st.Ctim}
	g.mu.Lock()
	known, version := g.versionOf, g.versionText
	g.mu.Unlock()
	if file == known {
		return version, nil
	}
	out, err := exec.CommandContext(ctx, g.program, "--version").Output() //nolint:gosec // found by prepare
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(out), "\n")
	version = strings.TrimSpace(first)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.versionOf, g.versionText = file, version
	return version, nil
}

// programFile tells one state of a program's file from another.
type programFile struct {
	device, inode uint64
	size          int64
	changed       unix.Timespec
}

// diagnose explains what is recognised of a failure.
func (g *GVisor) diagnose(err error) (reason, remedy string) {
	message := err.Error()
	switch {
	case g.opts.Platform == PlatformKVM:
		if faas.KindOf(err) == faas.KindDeadlineExceeded {
			message = fmt.Sprintf("it did not start within %v", kvmTimeout)
		}
		return "gVisor does not run on the platform kvm here: " + message,
			"set gvisor.platform to systrap, which needs no virtualisation"
	case strings.Contains(message, "ptrace") || strings.Contains(message, "seccomp"):
		return "gVisor does not start on the platform systrap: " + message,
			"allow ptrace and seccomp to processes of root here (inside a container: --cap-add SYS_PTRACE --security-opt seccomp=unconfined)"
	}
	return diagnose(err)
}

// features looks at a running sandbox.
func (g *GVisor) features(ctx context.Context, s *gvisorSandbox) ([]faas.Capability, error) {
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.channelSecret(), Multiplex: true})
	defer client.Close() //nolint:errcheck // connections only
	exit, err := client.Run(ctx, guest.Command{Args: []string{"true"}}, nil, io.Discard, io.Discard)
	if err != nil {
		return nil, fmt.Errorf("run a command in a sandbox: %w", err)
	}
	if exit.Code != 0 {
		return nil, fmt.Errorf("run a command in a sandbox: it ended with %d", exit.Code)
	}
	yes := func(f faas.Feature, detail string) faas.Capability {
		return faas.Capability{Feature: f, Available: true, Detail: detail}
	}
	memory := g.cgroupCapability(faas.FeatureLimitMemory, cgroup.Memory)
	if memory.Available {
		memory.Detail += fmt.Sprintf(", with %d MiB more for gVisor's kernel; a sandbox that exceeds it ends as a whole", kernelMemoryMB)
	}
	return append([]faas.Capability{
		yes(faas.FeatureExec, ""), yes(faas.FeaturePTY, ""), yes(faas.FeatureFiles, ""), yes(faas.FeaturePorts, "through the agent"),
		yes(faas.FeatureHostImage, ""), yes(faas.FeatureOCIImage, ""),
		yes(faas.FeatureUserNamespace, fmt.Sprintf("gVisor's processes are %d and up on the host, which belong to nobody", g.shift)),
		s.seccompCapability(),
		g.cgroupCapability(faas.FeatureLimitCPU, cgroup.CPU),
		memory,
		yes(faas.FeatureLimitPIDs, "by gVisor's kernel"),
		yes(faas.FeatureLimitDisk, "the writable layer is a file of that size at most"),
		yes(faas.FeatureNetworkNone, "gVisor's own network stack with a loopback interface"),
		g.egress().capability(ctx),
		g.pauseCapability(ctx, s),
		yes(faas.FeatureRecover, ""),
	}, g.snapshotCapabilities(ctx, s)...), nil
}

// seccompCapability looks at gVisor's kernel from the host.
func (s *gvisorSandbox) seccompCapability() faas.Capability {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(s.process.ID.PID) + "/status")
	if err != nil {
		return faas.Capability{Feature: faas.FeatureSeccomp, Reason: "gVisor's process cannot be looked at: " + err.Error()}
	}
	c := seccompCapability(string(status))
	if c.Available {
		c.Detail = "gVisor's kernel, which commands' calls reach, is under a filter of the host's kernel"
	} else {
		c.Reason = "the host's kernel does not report a filter and no_new_privs for gVisor's process"
	}
	return c
}

// cgroupCapability says whether a resource can be limited.
func (g *GVisor) cgroupCapability(f faas.Feature, controller cgroup.Controller) faas.Capability {
	if ok, why := g.tree.Has(controller); !ok {
		return faas.Capability{Feature: f, Reason: why, Remedy: delegation()}
	}
	return faas.Capability{Feature: f, Available: true, Detail: g.tree.Describe()}
}

// pauseCapability stops and continues the sandbox.
func (g *GVisor) pauseCapability(ctx context.Context, s *gvisorSandbox) faas.Capability {
	c := g.cgroupCapability(faas.FeaturePause, cgroup.Freezer)
	if !c.Available {
		return c
	}
	if err := errors.Join(s.Pause(ctx), s.Resume(ctx)); err != nil {
		return faas.Capability{Feature: faas.FeaturePause, Reason: err.Error()}
	}
	return c
}
