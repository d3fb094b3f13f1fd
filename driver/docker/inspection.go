package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/system"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

// inspection tries out one sandbox that a probe made.
type inspection struct {
	s      *sandbox
	client *guest.Client
	a      answers
	spec   faas.Spec
}

// judge answers for one feature by whether trying it failed.
func (in *inspection) judge(f faas.Feature, err error, format string, args ...any) {
	if err != nil {
		reason, remedy := reasonOf(err)
		in.a.no(f, reason, remedy)
		return
	}
	in.a.yes(f, format, args...)
}

// execution runs the one program that the base image has, the agent, asks for
// a file back and looks for a port that nobody serves.
func (in *inspection) execution(ctx context.Context) {
	run := func(tty *guest.WindowSize) error {
		var out bytes.Buffer
		exit, err := in.client.Run(ctx, guest.Command{Args: []string{agentPath, "version"}, TTY: tty}, nil, &out, &out)
		if err == nil && (exit.Code != 0 || out.Len() == 0) {
			err = fmt.Errorf("a command in the probe's sandbox ended with exit code %d: %.200s", exit.Code, out.String())
		}
		return err
	}
	in.judge(faas.FeatureExec, run(nil), "by the guest agent")
	in.judge(faas.FeaturePTY, run(&guest.WindowSize{Cols: 80, Rows: 24}), "by the guest agent")
	in.judge(faas.FeatureFiles, in.files(ctx), "by the guest agent")
	in.judge(faas.FeaturePorts, in.ports(ctx), "through the agent's connection, without a network")
}

func (in *inspection) files(ctx context.Context) error {
	const path, content = "/tmp/probe", "written by the probe"
	if _, err := in.client.WriteFile(ctx, path, strings.NewReader(content), guest.WriteOptions{}); err != nil {
		return err
	}
	got, err := in.read(ctx, path)
	if err == nil && got != content {
		err = fmt.Errorf("a file in the probe's sandbox came back as %.100q", got)
	}
	return err
}

// ports has the agent dial a port that nobody serves: the sandbox's kernel
// must be the one that refuses.
func (in *inspection) ports(ctx context.Context) error {
	conn, err := in.client.DialPort(ctx, "tcp", "127.0.0.1:9")
	if err == nil {
		_ = conn.Close()
		return errors.New("the probe's sandbox has something on port 9")
	}
	if strings.Contains(err.Error(), "nothing listens") { // the answer of the sandbox
		return nil
	}
	return err
}

// read returns the beginning of a file inside.
func (in *inspection) read(ctx context.Context, path string) (string, error) {
	r, _, err := in.client.ReadFile(ctx, path, 0, -1)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, 16<<10))
	return string(b), err
}

// isolation reads from inside what separates the sandbox from its host.
func (in *inspection) isolation(ctx context.Context, info system.Info) {
	status, err := in.read(ctx, "/proc/1/status")
	switch {
	case err != nil:
		in.judge(faas.FeatureSeccomp, err, "")
	case statusField(status, "Seccomp") == "2":
		in.a.yes(faas.FeatureSeccomp, "the engine's profile, with no new privileges")
	default:
		in.a.no(faas.FeatureSeccomp, "the engine runs containers without a seccomp profile",
			"remove seccomp-profile=unconfined from the engine's configuration, or install an engine built with seccomp")
	}
	ids, err := in.read(ctx, "/proc/1/uid_map")
	fields := strings.Fields(ids)
	switch {
	case err != nil || len(fields) < 3:
		in.judge(faas.FeatureUserNamespace, errors.Join(err, errors.New("the map of user ids cannot be read inside")), "")
	case fields[1] != "0" || hasSecurity(info, "rootless") || hasSecurity(info, "userns"):
		in.a.yes(faas.FeatureUserNamespace, "root inside is uid %s of the engine's machine", fields[1])
	default:
		in.a.no(faas.FeatureUserNamespace, userNamespace, usernsRemedy)
	}
}

func statusField(status, name string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// limits compares what was asked for with the control groups inside.
func (in *inspection) limits(ctx context.Context, info system.Info, shared sharing) {
	const remedy = "see the warnings of `docker info`; rootless engines need cgroup v2 and systemd with delegation"
	r := in.spec.Resources
	check := func(f faas.Feature, want int64, detail string, files ...string) {
		var found []string
		for _, file := range files {
			text, err := in.read(ctx, cgroupRoot+file)
			if err != nil {
				continue
			}
			text = strings.TrimSpace(text)
			if first, _, _ := strings.Cut(text, " "); first == strconv.FormatInt(want, 10) {
				in.a.yes(f, "%s", detail)
				return
			}
			found = append(found, text)
		}
		in.a.no(f, fmt.Sprintf("the engine did not apply the limit: the control group says %q", found), remedy)
	}
	memory := "control group, without swap"
	if !info.SwapLimit {
		memory = "control group; the kernel does not account for swap, which comes on top"
	}
	check(faas.FeatureLimitMemory, r.MemoryMB<<20, memory, "memory.max", "memory/memory.limit_in_bytes")
	check(faas.FeatureLimitPIDs, r.PIDs, "control group", "pids.max", "pids/pids.max")
	// The engine's period is 100 ms.
	check(faas.FeatureLimitCPU, int64(r.CPUCores*100_000), "control group", "cpu.max", "cpu/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_quota_us")
	in.disk(ctx, shared)
}

// disk writes more than the limit allows. The sizes that a file system tells
// are no test: btrfs enforces quotas that it does not show.
func (in *inspection) disk(ctx context.Context, shared sharing) {
	const remedy = diskRemedy
	if !shared.diskLimit {
		in.a.no(faas.FeatureLimitDisk, shared.diskReason, remedy)
		return
	}
	_, err := in.client.WriteFile(ctx, "/var/probe", io.LimitReader(zeros{}, (in.spec.Resources.DiskMB+16)<<20), guest.WriteOptions{})
	switch {
	case err == nil:
		in.a.no(faas.FeatureLimitDisk, fmt.Sprintf("the engine took a limit of %d MiB and let more be written", in.spec.Resources.DiskMB), remedy)
	case errors.Is(err, faas.ErrResourceExhausted):
		in.a.yes(faas.FeatureLimitDisk, "by the engine's storage driver; volumes that an image declares are not counted")
	default:
		in.judge(faas.FeatureLimitDisk, err, "")
	}
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// lifecycle pauses, resumes and recovers the sandbox.
func (in *inspection) lifecycle(ctx context.Context) {
	in.judge(faas.FeaturePause, errors.Join(in.s.Pause(ctx), in.s.Resume(ctx)), "by the engine's freezer")
	_, err := in.s.d.Recover(ctx, in.s.Handle())
	in.judge(faas.FeatureRecover, err, "by the container's id; over a restart of the engine only with its live-restore setting")
}

// networks looks at the interfaces inside, and has package network try itself.
func (in *inspection) networks(ctx context.Context) {
	text, err := in.read(ctx, "/proc/net/dev")
	var others []string
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name != "lo" && !strings.Contains(name, "tunl") && !strings.Contains(name, "sit") {
			others = append(others, name)
		}
	}
	if err == nil && len(others) > 0 {
		err = fmt.Errorf("a sandbox without a network has the interfaces %q", others)
	}
	in.judge(faas.FeatureNetworkNone, err, "a namespace with a loopback interface")
	if in.s.Channel().Multiplex {
		in.a.no(faas.FeatureNetworkEgress, egressNeedsLocal, egressRemedy)
		return
	}
	n, err := in.s.d.networks()
	if err == nil {
		err = n.Probe(ctx)
	}
	in.judge(faas.FeatureNetworkEgress, err, "connected by this process, with rules that the sandbox cannot reach")
}
