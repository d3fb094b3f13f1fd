package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/guest"
)

const (
	// probeTimeout bounds one probe.
	probeTimeout = 15 * time.Second
	// probeLasts is how long an answer is given again: long enough for callers
	// that ask at the same time, short enough for a user who repaired
	// something and asks again.
	probeLasts = 5 * time.Second
)

// prober keeps the last answer.
type prober struct {
	probing sync.Mutex
	last    faas.Capabilities
	at      time.Time
}

// Probe makes a sandbox of the host image, runs a command in it and looks at
// what it got.
func (n *Native) Probe(ctx context.Context) faas.Capabilities {
	n.probing.Lock()
	defer n.probing.Unlock()
	if time.Since(n.at) < probeLasts && n.last.Available {
		return n.last
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	started := time.Now()
	c := n.try(ctx)
	c.Runtime, c.ProbedAt = faas.RuntimeNative, started.UTC()
	c.ProbeMS = float64(time.Since(started).Microseconds()) / 1000
	n.last, n.at = c, time.Now()
	return c
}

// probeSpec is the sandbox that a probe makes.
func probeSpec() faas.Spec {
	return faas.Spec{
		ID: faas.NewID("probe"), Project: faas.DefaultProject, Image: faas.HostImage,
		Resources: faas.Resources{CPUCores: 1, MemoryMB: 64, DiskMB: 8, PIDs: 64},
		Network:   faas.NetworkPolicy{Mode: faas.NetworkNone},
	}
}

func (n *Native) try(ctx context.Context) faas.Capabilities {
	spec := probeSpec()
	made, err := n.Create(ctx, spec)
	if err != nil && ctx.Err() == nil && n.forgetLauncher() {
		made, err = n.Create(ctx, probeSpec()) // what worked once may not any more
	}
	if err != nil {
		reason, remedy := diagnose(err)
		return unavailable(reason, remedy)
	}
	s := made.(*sandbox)
	features, err := n.features(ctx, s)
	destroy, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := errors.Join(err, s.Destroy(destroy)); err != nil {
		reason, remedy := diagnose(err)
		return unavailable(reason, remedy)
	}
	return faas.Capabilities{
		Available: true, Version: kernelRelease(), Features: features,
		Detail: fmt.Sprintf("Linux namespaces, %s, %s", n.choice.describe(), who()),
	}
}

func who() string {
	if os.Geteuid() == 0 {
		return "as root"
	}
	return "as a plain user"
}

func unavailable(reason, remedy string) faas.Capabilities {
	c := faas.Capabilities{Reason: reason, Remedy: remedy, Version: kernelRelease()}
	for _, f := range faas.Features() {
		c.Features = append(c.Features, faas.Capability{Feature: f, Reason: reason, Remedy: remedy})
	}
	return c
}

// features looks at a running sandbox.
func (n *Native) features(ctx context.Context, s *sandbox) ([]faas.Capability, error) {
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.secret})
	defer client.Close() //nolint:errcheck // connections only
	status := &strings.Builder{}
	exit, err := client.Run(ctx, guest.Command{Args: []string{"cat", "/proc/self/status"}}, nil, status, io.Discard)
	if err != nil {
		return nil, fmt.Errorf("run a command in a sandbox: %w", err)
	}
	if exit.Code != 0 {
		return nil, fmt.Errorf("run a command in a sandbox: it ended with %d", exit.Code)
	}
	yes := func(f faas.Feature, detail string) faas.Capability {
		return faas.Capability{Feature: f, Available: true, Detail: detail}
	}
	if err := client.Quiesce(ctx); err != nil { // no checkpoint may find a connection
		return nil, err
	}
	snapshots := n.snapshotCapabilities(ctx, s)
	return append([]faas.Capability{
		yes(faas.FeatureExec, ""), yes(faas.FeaturePTY, ""), yes(faas.FeatureFiles, ""), yes(faas.FeaturePorts, "through the agent"),
		yes(faas.FeatureHostImage, ""), yes(faas.FeatureOCIImage, ""),
		n.userNamespaceCapability(ctx),
		seccompCapability(status.String()),
		n.cgroupCapability(faas.FeatureLimitCPU, cgroup.CPU),
		n.cgroupCapability(faas.FeatureLimitMemory, cgroup.Memory),
		n.pidsCapability(),
		diskCapability(s),
		yes(faas.FeatureNetworkNone, "a network namespace with a loopback interface"),
		n.egress().capability(ctx),
		n.pauseCapability(ctx, s),
		yes(faas.FeatureRecover, ""),
	}, snapshots...), nil
}

func (n *Native) userNamespaceCapability(ctx context.Context) faas.Capability {
	c := faas.Capability{Feature: faas.FeatureUserNamespace}
	ids, err := n.idMapping(ctx)
	if err != nil {
		c.Reason = err.Error()
		return c
	}
	c.Available = true
	switch {
	case ids.single():
		c.Detail = "root inside is the calling user, and there is no other user: " + ids.limited +
			"; for more: " + subordinateIDs
	case ids.programs:
		c.Detail = "root inside is the calling user, other users are from /etc/subuid"
	default:
		c.Detail = fmt.Sprintf("ids 0 to %d inside are %d and up on the host, which belong to nobody", idCount-1, n.shift)
	}
	return c
}

// seccompCapability reads what the kernel says of a process inside.
func seccompCapability(status string) faas.Capability {
	c := faas.Capability{Feature: faas.FeatureSeccomp}
	filtered, privileged := false, true
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch value = strings.TrimSpace(value); key {
		case "Seccomp":
			filtered = value == "2"
		case "NoNewPrivs":
			privileged = value != "1"
		}
	}
	if !filtered || privileged {
		c.Reason = "the kernel does not report a filter and no_new_privs for a process inside"
		c.Remedy = "use a kernel that is built with CONFIG_SECCOMP_FILTER"
		return c
	}
	c.Available, c.Detail = true, "the Moby project's default profile, no_new_privs"
	return c
}

// cgroupCapability says whether a resource can be limited.
func (n *Native) cgroupCapability(f faas.Feature, controller cgroup.Controller) faas.Capability {
	c := faas.Capability{Feature: f}
	if n.tree == nil {
		c.Reason, c.Remedy = n.treeErr.Error(), delegation()
		return c
	}
	ok, why := n.tree.Has(controller)
	if !ok {
		c.Reason, c.Remedy = why, delegation()
		return c
	}
	c.Available, c.Detail = true, n.tree.Describe()
	return c
}

// delegation is how control groups are had.
func delegation() string {
	if os.Geteuid() == 0 {
		return delegationRoot
	}
	return delegationUser
}

// pidsCapability needs control groups: a limit by RLIMIT_NPROC holds as well,
// but nothing tells that it was hit.
func (n *Native) pidsCapability() faas.Capability {
	c := n.cgroupCapability(faas.FeatureLimitPIDs, cgroup.PIDs)
	if !c.Available && n.limitsPIDsByRlimit() {
		c.Reason += "; processes are limited by RLIMIT_NPROC all the same, but refused forks cannot be told"
	}
	return c
}

// diskCapability compares the size of the root file system with the limit.
func diskCapability(s *sandbox) faas.Capability {
	c := faas.Capability{Feature: faas.FeatureLimitDisk}
	var disk unix.Statfs_t
	err := unix.Statfs(fmt.Sprintf("/proc/%d/root", s.process.ID.PID), &disk)
	limit := s.spec().Resources.DiskMB << 20
	size := int64(disk.Blocks) * disk.Bsize
	if err != nil || size > limit {
		c.Reason = fmt.Sprintf("a root file system limited to %d bytes has %d", limit, size)
		return c
	}
	c.Available = true
	c.Detail = "small layers are a tmpfs, charged to the sandbox's memory"
	if os.Geteuid() != 0 {
		c.Detail = "a tmpfs of the asked size, charged to the sandbox's memory"
	} else if how, err := formatter(smallestXFS); err == nil {
		c.Detail += "; larger ones a disk image with " + how.fstype
	} else {
		c.Detail += "; larger ones too, since " + err.Error()
	}
	return c
}

// pauseCapability stops and continues the sandbox.
func (n *Native) pauseCapability(ctx context.Context, s *sandbox) faas.Capability {
	c := n.cgroupCapability(faas.FeaturePause, cgroup.Freezer)
	if !c.Available {
		return c
	}
	if err := errors.Join(s.Pause(ctx), s.Resume(ctx)); err != nil {
		return faas.Capability{Feature: faas.FeaturePause, Reason: err.Error()}
	}
	return c
}

func kernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return "Linux " + unix.ByteSliceToString(name.Release[:])
}

// diagnosis explains a failure that is recognised by its words or its number.
type diagnosis struct {
	holds          func(message string, err error) bool
	reason, remedy string
}

// diagnoses are tried in order.
var diagnoses = []diagnosis{
	{
		func(string, error) bool { return !isRoot() && sysctl("kernel/unprivileged_userns_clone") == "0" },
		"user namespaces are switched off for plain users (kernel.unprivileged_userns_clone is 0)",
		"sudo sysctl -w kernel.unprivileged_userns_clone=1, or run as root",
	},
	{
		func(string, error) bool { return sysctl("user/max_user_namespaces") == "0" },
		"user namespaces are switched off (user.max_user_namespaces is 0)",
		"sudo sysctl -w user.max_user_namespaces=16384",
	},
	{
		func(m string, _ error) bool {
			return !isRoot() && sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1" && strings.Contains(m, "permi")
		},
		"AppArmor keeps plain users from using user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)",
		"sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give faas and its agent an AppArmor profile with `userns,`, or run as root",
	},
	{
		func(m string, err error) bool {
			return strings.Contains(m, "clone into new namespaces") && errors.Is(err, unix.EINVAL)
		},
		"this kernel lacks namespaces that sandboxes are made of",
		"use a kernel with CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS, CONFIG_IPC_NS and CONFIG_UTS_NS",
	},
	{
		func(m string, err error) bool {
			return strings.Contains(m, "clone into new namespaces") && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES))
		},
		"this process may not make user namespaces",
		"inside a container: allow the system calls clone and unshare with CLONE_NEWUSER (a seccomp profile forbids them), and mount; or run outside it",
	},
	{
		func(m string, _ error) bool { return strings.Contains(m, "mount the overlay") },
		"overlayfs cannot be mounted in a user namespace here",
		"use Linux 5.11 or newer with overlayfs, and a data directory that is not itself on overlayfs",
	},
	{
		func(m string, _ error) bool { return strings.Contains(m, "mount proc") },
		"proc cannot be mounted in a user namespace here: the machine's own /proc is partly covered, as in most containers",
		"run outside a container, or in one whose /proc is not masked (docker: --security-opt systempaths=unconfined)",
	},
}

// diagnose turns a failure into what the user can do about it.
func diagnose(err error) (reason, remedy string) {
	message := err.Error()
	for _, d := range diagnoses {
		if d.holds(message, err) {
			return d.reason + " (" + message + ")", d.remedy
		}
	}
	var known *faas.Error
	if errors.As(err, &known) {
		remedy = known.Remedy
	}
	return message, remedy
}

func isRoot() bool { return os.Geteuid() == 0 }

// sysctl reads a setting; empty when this kernel does not have it.
func sysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
