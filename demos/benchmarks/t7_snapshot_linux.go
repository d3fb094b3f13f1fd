package main

import (
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

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/oci"
	"github.com/faas-platform/faas/guest"
)

const (
	snapshotRounds = 12
	snapshotBudget = 50 * time.Second
	forkCount      = 10
)

// workload is what runs in a sandbox while it is saved.
type workload struct {
	id, name          string
	script            string  // says ready in /tmp/ready and stays
	pause, later, run float64 // targets in ms: pause, pause of a fork's snapshot, restore to first exec
}

func workloads() []workload {
	const python = `exec /usr/bin/python3 -c '
import time
table = {i: str(i) * 8 for i in range(500000)}
open("/tmp/ready", "w").close()
while True: time.sleep(0.1)'`
	return []workload{
		{"T7.tiny", "a sleeping shell", "touch /tmp/ready; while :; do sleep 1; done", 80, 100, 50},
		{"T7.python", "Python with a heap of some 100 MB", python, 220, 100, 60},
	}
}

// snapshots takes T7 and T8: full snapshots of a running native sandbox,
// restores and forks of them, beside runc driving CRIU.
func snapshots(ctx context.Context, b *bench) (figures []Figure, err error) {
	n, err := b.openNative(ctx, "t7", oci.LauncherBuiltin)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.driver.Close()) }()
	if full := n.driver.Probe(ctx).Feature(faas.FeatureSnapshotFull); !full.Available {
		return nil, fmt.Errorf("%w: full snapshots of native sandboxes: %s", errUnavailable, full.Reason)
	}
	for _, w := range workloads() {
		if _, err := os.Stat("/usr/bin/python3"); err != nil && w.id == "T7.python" {
			continue
		}
		more, err := b.snapshotsOf(ctx, n, w)
		if err != nil {
			return figures, fmt.Errorf("%s: %w", w.id, err)
		}
		figures = append(figures, more...)
	}
	return figures, nil
}

// subject is a running sandbox that is saved again and again.
type subject struct {
	n      *native
	dir    string
	made   driver.Sandbox
	client *guest.Client
	layers []string // that it was restored from
	count  int
	last   driver.State
}

func (b *bench) snapshotsOf(ctx context.Context, n *native, w workload) (figures []Figure, err error) {
	s, err := n.subject(ctx, filepath.Join(b.dir, strings.ToLower(w.id)), w.script)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.made.Destroy(ctx)) }()
	if _, err := s.save(ctx); err != nil {
		return nil, err
	}
	first := s.last
	fork, err := s.fork(ctx, first)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fork.made.Destroy(ctx)) }()
	peer, err := newRuncPeer(ctx, filepath.Join(b.dir, "runc-"+strings.ToLower(w.id)), b.rootfs, w.script)
	if err != nil {
		return nil, err
	}
	defer peer.close(ctx)
	const pause, later, restore = "pause of the source", "pause of a fork", "restore to first exec"
	all, err := interleave(ctx, snapshotRounds, snapshotBudget, []contender{
		{name: pause, once: s.save}, {name: later, once: fork.save},
		{name: restore, once: func(ctx context.Context) (time.Duration, error) { return s.restore(ctx, first) }},
		{name: "runc checkpoint", once: peer.checkpoint}, {name: "runc restore", once: peer.restore},
	})
	if err != nil {
		return nil, err
	}
	row := func(suffix, what, name, peer, clock string, limit float64) Figure {
		d := all[name]
		f := Figure{ID: w.id + suffix, Name: what + ": " + w.name, Unit: "ms", Better: LowerIsBetter, Target: target(limit),
			Value: d.P50, P50: d.P50, P99: d.P99, Runs: d.Runs, Concurrency: 1, State: "warm", Clock: clock}
		if p, ok := all[peer]; ok {
			f.Peers, f.PeerStats = map[string]float64{peer: p.P50}, map[string]Distribution{peer: p}
			f.Notes = []string{fmt.Sprintf("%.2f of bare `%s`, whose container has runc's default mounts and no user namespace", d.P50/p.P50, peer)}
		}
		return f
	}
	const pauseClock = "from before CRIU stops the first process to its end, files copied; peer: the whole command"
	figures = []Figure{
		row(".pause", "full snapshot, source paused", pause, "runc checkpoint", pauseClock, w.pause),
		row(".pause-of-fork", "full snapshot of a fork, paused", later, "", pauseClock, w.later),
		row(".restore", "restore to the end of the first exec", restore, "runc restore", "from before Restore to the exit of `true`; peer: the whole command, without an exec", w.run),
	}
	forks, err := s.forks(ctx, w, first, all[restore])
	return append(figures, forks...), err
}

// forks takes T8: ten copies at once, and what they take of memory together.
func (s *subject) forks(ctx context.Context, w workload, from driver.State, one Distribution) ([]Figure, error) {
	var walls []time.Duration
	var share float64
	for range 5 {
		wall, part, err := s.forkMany(ctx, from)
		if err != nil {
			return nil, err
		}
		walls, share = append(walls, wall), max(share, part)
	}
	d := summarise(walls)
	id := strings.Replace(w.id, "T7", "T8", 1)
	return []Figure{
		{ID: id + ".wall", Name: fmt.Sprintf("%d forks at once, until the first exec in each has ended: %s", forkCount, w.name), Unit: "ms",
			Better: LowerIsBetter, Target: target(min(250, 6*one.P50)), Value: d.P50, P50: d.P50, P99: d.P99, Runs: d.Runs,
			Concurrency: forkCount, State: "warm", Clock: "from before the first Restore to the exit of the last `true`"},
		{ID: id + ".memory", Name: fmt.Sprintf("memory of %d forks together, after the first exec in each: %s", forkCount, w.name), Unit: "of the source's",
			Better: LowerIsBetter, Target: target(3), Value: share, Runs: d.Runs, Concurrency: forkCount, State: "warm",
			Clock: "none: PSS of all their processes, the largest of the runs, by that of the source's"},
	}, nil
}

func (s *subject) forkMany(ctx context.Context, from driver.State) (time.Duration, float64, error) {
	forks := make([]*subject, forkCount)
	errs := make([]error, forkCount)
	var group sync.WaitGroup
	start := time.Now()
	for i := range forks {
		group.Go(func() { forks[i], errs[i] = s.fork(ctx, from) })
	}
	group.Wait()
	wall := time.Since(start)
	err := errors.Join(errs...)
	var all float64
	for _, f := range forks {
		if f == nil {
			continue
		}
		mib, pssErr := treePSS(f.made)
		all += mib
		err = errors.Join(err, pssErr, f.made.Destroy(ctx))
	}
	source, pssErr := treePSS(s.made)
	if err = errors.Join(err, pssErr); err != nil {
		return 0, 0, err
	}
	return wall, all / source, nil
}

// treePSS sums what a sandbox's processes take, in MiB.
func treePSS(made driver.Sandbox) (float64, error) {
	var handle struct {
		Process struct {
			PID int `json:"pid"`
		} `json:"process"`
	}
	if err := json.Unmarshal(made.Handle().Data, &handle); err != nil {
		return 0, err
	}
	each, err := sandboxPSS([]int{handle.Process.PID})
	if err != nil {
		return 0, err
	}
	return each[0], nil
}

// subject starts a workload in a new sandbox of the machine's own /usr.
func (n *native) subject(ctx context.Context, dir, script string) (*subject, error) {
	wanted := spec()
	wanted.Image = faas.HostImage
	made, err := n.driver.Create(ctx, wanted)
	if err != nil {
		return nil, err
	}
	s := &subject{n: n, dir: dir, made: made, client: connect(made)}
	const start = `setsid sh -c "$0" </dev/null >/dev/null 2>&1 & while [ ! -e /tmp/ready ]; do sleep 0.02; done`
	exit, err := s.client.Run(ctx, guest.Command{Args: []string{"sh", "-c", start, script}}, nil, io.Discard, io.Discard)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("the workload's start ended with %d", exit.Code)
	}
	if err != nil {
		return nil, errors.Join(err, made.Destroy(ctx))
	}
	return s, nil
}

func connect(made driver.Sandbox) *guest.Client {
	channel := made.Channel()
	return guest.NewClient(made.Dial, guest.Options{Secret: channel.Secret, Multiplex: channel.Multiplex})
}

// save takes a full snapshot and returns how long the sandbox stood still. The
// one before is removed.
func (s *subject) save(ctx context.Context) (time.Duration, error) {
	s.count++
	dir := filepath.Join(s.dir, s.made.ID(), fmt.Sprint(s.count))
	files, memory := filepath.Join(dir, "files"), filepath.Join(dir, "memory")
	if err := errors.Join(os.MkdirAll(files, 0o755), os.Mkdir(memory, 0o755)); err != nil {
		return 0, err
	}
	if err := s.client.Quiesce(ctx); err != nil {
		return 0, err
	}
	saved, err := s.made.(driver.Snapshotter).Snapshot(ctx, faas.SnapshotFull, files, memory)
	if err := errors.Join(err, s.client.Resume(ctx)); err != nil {
		return 0, err
	}
	s.last = driver.State{Kind: faas.SnapshotFull, Layers: append([]string{files}, s.layers...), Memory: memory,
		Requires: saved.Requires, Data: saved.Data}
	if s.count > 2 { // the first is what restores are of
		err = os.RemoveAll(filepath.Join(s.dir, s.made.ID(), fmt.Sprint(s.count-1)))
	}
	return saved.Pause, err
}

// fork restores a copy and runs `true` in it.
func (s *subject) fork(ctx context.Context, from driver.State) (*subject, error) {
	wanted := spec()
	wanted.Image = faas.HostImage
	made, err := s.n.driver.Restore(ctx, from, wanted, func(context.Context, driver.Sandbox) error { return nil })
	if err != nil {
		return nil, err
	}
	f := &subject{n: s.n, dir: s.dir, made: made, client: connect(made), layers: from.Layers}
	exit, err := f.client.Run(ctx, guest.Command{Args: []string{"true"}}, nil, io.Discard, io.Discard)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("true ended with %d", exit.Code)
	}
	if err != nil {
		return nil, errors.Join(err, made.Destroy(ctx))
	}
	return f, nil
}

func (s *subject) restore(ctx context.Context, from driver.State) (time.Duration, error) {
	start := time.Now()
	f, err := s.fork(ctx, from)
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	return took, f.made.Destroy(ctx)
}

// runcPeer is a container of runc's with the same workload.
type runcPeer struct {
	dir, id string
}

func newRuncPeer(ctx context.Context, dir, rootfs, script string) (*runcPeer, error) {
	if _, err := exec.LookPath("runc"); err != nil {
		return nil, fmt.Errorf("%w: no runc to compare with", errUnavailable)
	}
	p := &runcPeer{dir: dir, id: "bench-" + filepath.Base(dir)}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root := filepath.Join(dir, "rootfs")
	if err := errors.Join(os.MkdirAll(root, 0o755), runProgram(ctx, []string{"cp", "-a", rootfs + "/.", root}),
		runProgram(ctx, []string{"runc", "spec", "--bundle", dir})); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, err
	}
	peer := new(specs.Spec)
	if err := json.Unmarshal(b, peer); err != nil {
		return nil, err
	}
	peer.Process.Terminal, peer.Process.Args, peer.Root.Readonly = false, []string{"/bin/sh", "-c", script}, false
	// The machine's own programs and libraries, as in the host image.
	for _, bound := range []string{"/usr", "/lib", "/lib64"} {
		if source, err := filepath.EvalSymlinks(bound); err == nil {
			peer.Mounts = append(peer.Mounts, specs.Mount{Destination: bound, Type: "bind", Source: source, Options: []string{"rbind", "ro"}})
		}
	}
	if _, err := bundle(dir, peer); err != nil {
		return nil, err
	}
	err = runDetached(ctx, p.runc("run", "--detach", "--bundle", dir, p.id))
	for deadline := time.Now().Add(20 * time.Second); err == nil; time.Sleep(20 * time.Millisecond) {
		if _, statErr := os.Stat(filepath.Join(root, "tmp", "ready")); statErr == nil {
			return p, nil
		}
		if time.Now().After(deadline) {
			err = errors.New("runc's container does not become ready")
		}
	}
	p.close(ctx)
	return nil, err
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

func (p *runcPeer) runc(args ...string) []string {
	return append([]string{"runc", "--root", filepath.Join(p.dir, "state")}, args...)
}

func (p *runcPeer) images() string { return filepath.Join(p.dir, "images") }

func (p *runcPeer) checkpoint(ctx context.Context) (time.Duration, error) {
	if err := os.RemoveAll(p.images()); err != nil {
		return 0, err
	}
	start := time.Now()
	err := runDetached(ctx, p.runc("checkpoint", "--leave-running", "--image-path", p.images(), p.id))
	return time.Since(start), err
}

// restore replaces the container: runc's process ids are the machine's.
func (p *runcPeer) restore(ctx context.Context) (time.Duration, error) {
	if _, err := os.Stat(p.images()); err != nil {
		if _, err := p.checkpoint(ctx); err != nil {
			return 0, err
		}
	}
	if err := runDetached(ctx, p.runc("delete", "--force", p.id)); err != nil {
		return 0, err
	}
	start := time.Now()
	err := runDetached(ctx, p.runc("restore", "--detach", "--image-path", p.images(), "--bundle", p.dir, p.id))
	return time.Since(start), err
}

func (p *runcPeer) close(ctx context.Context) {
	//nolint:errcheck // a container left behind ends with the machine
	runProgram(context.WithoutCancel(ctx), p.runc("delete", "--force", p.id))
}
