package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/oci"
	"github.com/faas-platform/faas/image"
)

const (
	snapshotRounds = 12
	snapshotBudget = 50 * time.Second
	forkCount      = 10
	forkRounds     = 5
)

// workload is what runs in a sandbox while it is saved.
type workload struct {
	id, name          string
	script            string  // says ready in /tmp/ready and stays
	touches           bool    // uses every object when /tmp/touch appears, and says so in /tmp/touched
	pause, later, run float64 // targets in ms: pause, pause of a fork's snapshot, restore to first exec
}

func workloads() []workload {
	const python = `exec /usr/bin/python3 -c '
import os, time
table = {i: str(i) * 8 for i in range(500000)}
open("/tmp/ready", "w").close()
while not os.path.exists("/tmp/touch"): time.sleep(0.1)
assert sum(map(len, table.values())) > 0
open("/tmp/touched", "w").close()
while True: time.sleep(1)'`
	return []workload{
		{"tiny", "a sleeping shell", "touch /tmp/ready; while :; do sleep 1; done", false, 80, 100, 50},
		{"python", "Python with a heap of some 100 MB", python, true, 220, 100, 60},
	}
}

// kind is one runtime whose snapshots are measured, beside the bare program
// that it stands on.
type kind struct {
	saver
	prefix     string // of the figures' ids
	peer       func(ctx context.Context, dir, rootfs, script string) (*barePeer, error)
	peerName   string
	peerNote   string
	hasTargets bool
}

// snapshots takes T7 and T8: full snapshots of a running sandbox, restores and
// forks of it, natively beside runc driving CRIU, and on gVisor beside runsc.
func snapshots(ctx context.Context, b *bench) (figures []Figure, err error) {
	n, err := b.openNative(ctx, "t7", oci.LauncherBuiltin)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.driver.Close()) }()
	g, err := b.openGVisor(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	missing := errUnavailable
	for _, k := range []kind{
		{saver: n.driver, prefix: "", peer: newRuncPeer, peerName: "runc", peerNote: "whose container has runc's default mounts and no user namespace", hasTargets: true},
		{saver: g, prefix: "gvisor.", peer: newRunscPeer, peerName: "runsc", peerNote: "whose container has the default mounts"},
	} {
		if full := k.Probe(ctx).Feature(faas.FeatureSnapshotFull); !full.Available {
			missing = fmt.Errorf("%w; full snapshots of %s sandboxes: %s", missing, k.Name(), full.Reason)
			continue
		}
		for _, w := range workloads() {
			if _, err := os.Stat("/usr/bin/python3"); err != nil && w.id == "python" {
				continue
			}
			more, err := b.snapshotsOf(ctx, k, w)
			if err != nil {
				return figures, fmt.Errorf("%s %s: %w", k.Name(), w.id, err)
			}
			figures = append(figures, more...)
		}
	}
	if len(figures) == 0 {
		return nil, missing
	}
	return figures, nil
}

// openGVisor opens a driver of gVisor on a directory of its own.
func (b *bench) openGVisor(ctx context.Context) (*oci.GVisor, error) {
	dir := filepath.Join(b.dir, "t7g")
	shift, err := oci.IDShift()
	if err != nil {
		return nil, err
	}
	store, err := image.Open(filepath.Join(dir, "images"), image.Options{UIDShift: shift, GIDShift: shift})
	if err != nil {
		return nil, err
	}
	return oci.NewGVisor(oci.GVisorOptions{Dir: filepath.Join(dir, "g"), Images: store})
}

func (b *bench) snapshotsOf(ctx context.Context, k kind, w workload) (figures []Figure, err error) {
	name := string(k.Name()) + "-" + w.id
	s, err := newSubject(ctx, k.saver, filepath.Join(b.dir, name), w.script)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.made.Destroy(ctx)) }()
	firstPause, err := s.save(ctx)
	if err != nil {
		return nil, err
	}
	first := s.last
	fork, err := s.fork(ctx, first)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fork.made.Destroy(ctx)) }()
	peer, err := k.peer(ctx, filepath.Join(b.dir, k.peerName+"-"+w.id), b.rootfs, w.script)
	if err != nil {
		return nil, err
	}
	defer peer.close(ctx)
	const pause, later, restore, ahead = "pause of the source", "pause of a fork", "restore to first exec", "restore ahead to first exec"
	peerSave, peerRestore := k.peerName+" checkpoint", k.peerName+" restore"
	contenders := []contender{
		{name: pause, once: s.save}, {name: later, once: fork.save},
		{name: restore, once: func(ctx context.Context) (time.Duration, error) { return s.restore(ctx, first) }},
		{name: peerSave, once: peer.checkpoint}, {name: peerRestore, once: peer.restore},
	}
	if _, ok := k.saver.(driver.AheadRestorer); ok {
		contenders = append(contenders, contender{name: ahead, once: func(ctx context.Context) (time.Duration, error) { return s.restoreAhead(ctx, first) }})
	}
	all, err := interleave(ctx, snapshotRounds, snapshotBudget, contenders)
	if err != nil {
		return nil, err
	}
	row := func(suffix, what, name, peer, clock string, limit *float64) Figure {
		d := all[name]
		f := Figure{ID: "T7." + k.prefix + w.id + suffix, Name: what + ": " + w.name, Unit: "ms", Better: LowerIsBetter, Target: limit,
			Value: d.P50, P50: d.P50, P99: d.P99, Runs: d.Runs, Concurrency: 1, State: "warm", Clock: clock}
		if p, ok := all[peer]; ok {
			f.Peers, f.PeerStats = map[string]float64{peer: p.P50}, map[string]Distribution{peer: p}
			f.Notes = []string{fmt.Sprintf("%.2f of bare `%s`, %s", d.P50/p.P50, peer, k.peerNote)}
		}
		return f
	}
	const pauseClock = "from before the first process is stopped to the end of the dump, files copied; peer: the whole command"
	const restoreClock = "from before Restore to the exit of `true`; peer: the whole command, without an exec"
	limits := []*float64{target(w.pause), target(w.later), target(w.run)}
	if !k.hasTargets {
		limits = []*float64{nil, nil, target(0.6 * all[peerRestore].P50)}
	}
	figures = []Figure{
		row(".pause", "full snapshot, source paused", pause, peerSave, pauseClock, limits[0]),
		row(".pause-of-fork", "full snapshot of a fork, paused", later, "", pauseClock, limits[1]),
		row(".restore", "restore to the end of the first exec", restore, peerRestore, restoreClock, limits[2]),
	}
	figures[0].Notes = append(figures[0].Notes, fmt.Sprintf("the very first snapshot paused it for %.0f ms", milliseconds(firstPause)))
	if _, ok := all[ahead]; ok {
		figures = append(figures, row(".restore-ahead", "the same into a kernel that was started before it was asked for", ahead, peerRestore, restoreClock, nil))
	}
	forks, err := s.forks(ctx, k, w, first, all[restore])
	return append(figures, forks...), err
}

// forks takes T8: ten copies at once, and what they take of memory together.
func (s *subject) forks(ctx context.Context, k kind, w workload, from driver.State, one Distribution) ([]Figure, error) {
	var walls []time.Duration
	var fresh, touched float64
	for range forkRounds {
		took, err := s.forkMany(ctx, w, from)
		if err != nil {
			return nil, err
		}
		walls, fresh, touched = append(walls, took.wall), max(fresh, took.fresh), max(touched, took.touched)
	}
	d := summarise(walls)
	id := "T8." + k.prefix + w.id
	wallTarget, freshTarget, touchedTarget := target(min(250, 6*one.P50)), target(3), target(8)
	clock := "none: PSS of all their processes, the largest of the runs, by that of the source's"
	if !k.hasTargets {
		wallTarget, freshTarget, touchedTarget = nil, nil, nil
		clock = "none: the memory of all their control groups, the largest of the runs, by that of the source's"
	}
	memory := func(suffix, when string, value float64, limit *float64) Figure {
		return Figure{ID: id + suffix, Name: fmt.Sprintf("memory of %d forks together, %s: %s", forkCount, when, w.name), Unit: "of the source's",
			Better: LowerIsBetter, Target: limit, Value: value, Runs: d.Runs, Concurrency: forkCount, State: "warm", Clock: clock}
	}
	figures := []Figure{
		{ID: id + ".wall", Name: fmt.Sprintf("%d forks at once, until the first exec in each has ended: %s", forkCount, w.name), Unit: "ms",
			Better: LowerIsBetter, Target: wallTarget, Value: d.P50, P50: d.P50, P99: d.P99, Runs: d.Runs,
			Concurrency: forkCount, State: "warm", Clock: "from before the first Restore to the exit of the last `true`",
			Notes: []string{fmt.Sprintf("%.1f times one restore", d.P50/one.P50)}},
		memory(".memory", "after the first exec in each", fresh, freshTarget),
	}
	if w.touches {
		figures = append(figures, memory(".memory-touched", "after each used every object", touched, touchedTarget))
	}
	return figures, nil
}

// forked is what ten copies took.
type forked struct {
	wall           time.Duration
	fresh, touched float64 // memory, by that of the source's
}

func (s *subject) forkMany(ctx context.Context, w workload, from driver.State) (took forked, err error) {
	forks := make([]*subject, forkCount)
	errs := make([]error, forkCount)
	var group sync.WaitGroup
	start := time.Now()
	for i := range forks {
		group.Go(func() { forks[i], errs[i] = s.fork(ctx, from) })
	}
	group.Wait()
	took.wall = time.Since(start)
	err = errors.Join(errs...)
	all := func() (sum float64) {
		for _, f := range forks {
			if f == nil {
				continue
			}
			mib, memoryErr := f.memory(ctx)
			sum, err = sum+mib, errors.Join(err, memoryErr)
		}
		return sum
	}
	source, sourceErr := s.memory(ctx)
	took.fresh = all() / source
	if w.touches && err == nil {
		for _, f := range forks {
			err = errors.Join(err, f.touch(ctx))
		}
		took.touched = all() / source
	}
	for _, f := range forks {
		if f != nil {
			err = errors.Join(err, f.made.Destroy(ctx))
		}
	}
	return took, errors.Join(err, sourceErr)
}
