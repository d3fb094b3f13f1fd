package microvm

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/binary"
)

const (
	// probeTimeout bounds a probe; kvmTimeout the trial of KVM in it.
	probeTimeout = 60 * time.Second
	kvmTimeout   = 10 * time.Second
	// probeLasts is how long an answer is given again.
	probeLasts = 5 * time.Second
	deviceKVM  = "/dev/kvm"
	accelFile  = "accel.json"
)

// prober keeps the last answers.
type prober struct {
	probing sync.Mutex
	last    faas.Capabilities
	at      time.Time

	choosing sync.Mutex
	chosen   *choice
	version  string
}

// choice is how QEMU executes machines here, and why.
type choice struct {
	Fingerprint string `json:"fingerprint"`
	Accel       string `json:"accel"`
	Why         string `json:"why"`
}

// Probe boots a machine, runs a command in it and looks at what it got.
func (q *QEMU) Probe(ctx context.Context) faas.Capabilities {
	q.probing.Lock()
	defer q.probing.Unlock()
	if time.Since(q.at) < probeLasts && q.last.Available {
		return q.last
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	started := time.Now()
	c := q.try(ctx)
	c.Runtime, c.ProbedAt = faas.RuntimeQEMU, started.UTC()
	c.ProbeMS = float64(time.Since(started).Microseconds()) / 1000
	q.last, q.at = c, time.Now()
	return c
}

func (q *QEMU) try(ctx context.Context) faas.Capabilities {
	if err := q.usable(); err != nil {
		var known *faas.Error
		if !errors.As(err, &known) {
			known = faas.Unavailable(err.Error(), "")
		}
		return unavailable(known.Detail, known.Remedy)
	}
	tool, err := q.tool(ctx)
	if err != nil {
		return unavailable(err.Error(), noProgramRemedy)
	}
	how := q.choose(ctx)
	if err := q.bootOnce(ctx, how.Accel); err != nil {
		return unavailable("a machine does not boot: "+err.Error(), kernelRemedy)
	}
	yes := func(f faas.Feature, detail string) faas.Capability {
		return faas.Capability{Feature: f, Available: true, Detail: detail}
	}
	no := func(f faas.Feature, reason, remedy string) faas.Capability {
		return faas.Capability{Feature: f, Reason: reason, Remedy: remedy}
	}
	return faas.Capabilities{Available: true, Version: tool, Detail: how.Why, Features: []faas.Capability{
		yes(faas.FeatureExec, how.Why), yes(faas.FeaturePTY, ""), yes(faas.FeatureFiles, ""), yes(faas.FeaturePorts, "through the agent"),
		no(faas.FeatureHostImage, hostImageReason, hostImageRemedy), yes(faas.FeatureOCIImage, "as a squashfs"),
		yes(faas.FeatureUserNamespace, "a machine of its own, whose process is nobody on the host"),
		no(faas.FeatureSeccomp, seccompReason, seccompRemedy),
		yes(faas.FeatureLimitCPU, "of the machine's process"), yes(faas.FeatureLimitMemory, "in the machine"),
		yes(faas.FeatureLimitPIDs, "in the machine"), yes(faas.FeatureLimitDisk, "a disk of that size"),
		yes(faas.FeatureNetworkNone, "a machine without an interface"), no(faas.FeatureNetworkEgress, egressReason, egressRemedy),
		yes(faas.FeaturePause, ""), yes(faas.FeatureRecover, ""),
		yes(faas.FeatureSnapshotFS, "as its agent sends it"), yes(faas.FeatureSnapshotFull, "the machine's whole memory"), yes(faas.FeatureFork, ""),
	}}
}

func unavailable(reason, remedy string) faas.Capabilities {
	c := faas.Capabilities{Reason: reason, Remedy: remedy}
	for _, f := range faas.Features() {
		c.Features = append(c.Features, faas.Capability{Feature: f, Reason: reason, Remedy: remedy})
	}
	return c
}

// usable says why no machine can be made at all, or is nil.
func (q *QEMU) usable() error {
	switch {
	case os.Geteuid() != 0:
		return faas.Unavailable(rootOnly, rootOnlyRemedy)
	case q.program == "":
		return faas.Unavailable(noProgram, noProgramRemedy)
	case q.tree == nil:
		return faas.Unavailable("control groups cannot be used: "+q.treeErr.Error(), "boot with control groups mounted writable at /sys/fs/cgroup")
	}
	for _, program := range []string{programSquash, programExt} {
		if _, err := exec.LookPath(program); err != nil {
			return faas.Unavailable(noTools+program, noToolsRemedy)
		}
	}
	_, err := q.kernel()
	return err
}

func (q *QEMU) kernel() (*kernel, error) {
	return findKernel(q.opts.Kernel, filepath.Join(q.opts.Dir, kernelsDir))
}

// tool names QEMU and its version: a state fits to no other.
func (q *QEMU) tool(ctx context.Context) (string, error) {
	q.choosing.Lock()
	defer q.choosing.Unlock()
	if q.version != "" {
		return q.version, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, q.program, "--version").Output() //nolint:gosec // the program that is configured
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", q.program, err)
	}
	_, version, _ := strings.Cut(strings.SplitN(string(out), "\n", 2)[0], "version ")
	if version, _, _ = strings.Cut(version, " "); version == "" {
		return "", fmt.Errorf("%s does not tell its version", q.program)
	}
	q.version = "qemu " + version
	return q.version, nil
}

// accel is how machines are executed here.
func (q *QEMU) accel() string {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	return q.choose(ctx).Accel
}

// choose finds out whether a kernel boots with KVM: the device can be there and
// answer where none does. The answer is kept until something that it depends on
// changes.
func (q *QEMU) choose(ctx context.Context) choice {
	q.choosing.Lock()
	defer q.choosing.Unlock()
	if q.chosen != nil {
		return *q.chosen
	}
	path := filepath.Join(q.opts.Dir, accelFile)
	want := q.Fingerprint()
	var known choice
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &known) == nil && known.Fingerprint == want {
		q.chosen = &known
		return known
	}
	made := q.decide(ctx)
	made.Fingerprint = want
	if ctx.Err() == nil {
		q.chosen = &made
		if b, err := json.Marshal(made); err == nil {
			os.WriteFile(path, b, 0o600) //nolint:errcheck // found out anew next time
		}
	}
	return made
}

func (q *QEMU) decide(ctx context.Context) choice {
	slow := func(why string) choice {
		return choice{Accel: AccelTCG, Why: "in software, some ten to thirty times slower than with KVM: " + why}
	}
	if q.opts.Accel == AccelKVM {
		return choice{Accel: AccelKVM, Why: "with KVM, as configured"}
	}
	if q.opts.Accel == AccelTCG {
		return slow("as configured")
	}
	f, err := os.OpenFile(deviceKVM, os.O_RDWR, 0)
	if err != nil {
		return slow(err.Error())
	}
	f.Close() //nolint:errcheck // nothing was written
	trial, cancel := context.WithTimeout(ctx, kvmTimeout)
	defer cancel()
	if err := q.bootOnce(trial, AccelKVM); err != nil {
		return slow(fmt.Sprintf("%s is there, and no kernel boots with it within %v", deviceKVM, kvmTimeout))
	}
	return choice{Accel: AccelKVM, Why: "with KVM"}
}

// Fingerprint names what the answer of Probe depends on.
func (q *QEMU) Fingerprint() string {
	digest, _ := binary.AgentDigest("") //nolint:errcheck // part of the answer
	parts := []string{q.opts.Accel, digest}
	files := []string{q.program, deviceKVM, "/proc/sys/kernel/random/boot_id"}
	if k, err := q.kernel(); err == nil {
		files = append(files, k.Image)
	}
	for _, path := range files {
		stamp := path + " missing"
		if info, err := os.Stat(path); err == nil {
			stamp = fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().Unix())
		}
		parts = append(parts, stamp)
	}
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		parts = append(parts, string(b))
	}
	return strings.Join(parts, "\n")
}

// bootOnce boots a machine that holds the agent and nothing else, runs it as a
// command, and removes the machine.
func (q *QEMU) bootOnce(ctx context.Context, accel string) error {
	base, err := q.probeBase(ctx)
	if err != nil {
		return err
	}
	spec := faas.Spec{ID: faas.NewID("probe"), Project: faas.DefaultProject, ReadOnly: true,
		Resources: faas.Resources{CPUCores: 1, MemoryMB: 64, PIDs: 64}, Network: faas.NetworkPolicy{Mode: faas.NetworkNone}}
	r := &record{ID: spec.ID, CreatedAt: time.Now().UTC(), Spec: spec, Secret: newSecret()}
	made, err := q.make(ctx, r, func(s *sandbox) error { return q.bootProbe(ctx, s, accel, base) })
	if err != nil {
		return err
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return made.Destroy(undo)
}

func (q *QEMU) bootProbe(ctx context.Context, s *sandbox, accel, base string) error {
	k, err := q.kernel()
	if err != nil {
		return err
	}
	agent, err := binary.Bytes("")
	if err != nil {
		return err
	}
	spec := s.recorded().Spec
	hw := hardware{Accel: accel, Kernel: k.Image, Cores: 1, MemoryMB: memoryMB(spec), Lower: []string{base}}
	if hw.Initial, err = q.initialFor(k, agent); err != nil {
		return err
	}
	if err := s.update(func(r *record) { r.Machine = hw }); err != nil {
		return err
	}
	if err := errors.Join(s.writeConfig(), q.start(s, &hw, nil)); err != nil {
		return err
	}
	if err := s.configure(ctx, nil); err != nil {
		return fmt.Errorf("%w: %s", err, q.complaint(s))
	}
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.recorded().Secret, Multiplex: true})
	defer client.Close() //nolint:errcheck // connections only
	exit, err := client.Run(ctx, guest.Command{Args: []string{"/agent", "version"}}, nil, io.Discard, io.Discard)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("a command in a machine ended with %d", exit.Code)
	}
	return err
}

// probeBase is the squashfs of the probe's machine.
func (q *QEMU) probeBase(ctx context.Context) (string, error) {
	agent, err := binary.Bytes("")
	if err != nil {
		return "", err
	}
	q.makes.Lock()
	defer q.makes.Unlock()
	path := filepath.Join(q.opts.Dir, basesDir, "probe-"+binary.Digest(agent)[:16]+".squashfs")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, q.squash(ctx, path, func(w io.Writer) error {
		out := tar.NewWriter(w)
		err := out.WriteHeader(&tar.Header{Name: "agent", Mode: 0o755, Size: int64(len(agent)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = out.Write(agent)
		}
		return errors.Join(err, out.Close())
	})
}

var _ driver.Fingerprinter = (*QEMU)(nil)
