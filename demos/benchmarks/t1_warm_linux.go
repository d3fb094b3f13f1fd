package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// warmRounds is how often every contender of T1 has its turn; ours has ten in
// a row each time, so that the pool is refilled while requests arrive.
const (
	warmRounds   = 60
	warmPerRound = 10
	warmPool     = 16
)

// warmExecute takes T1: one request after the other against a warm pool.
func warmExecute(ctx context.Context, b *bench) ([]Figure, error) {
	d, err := b.gateway(ctx, "t1", warmPool)
	if err != nil {
		return nil, err
	}
	figures, err := measureWarm(ctx, b, d)
	if stopped := d.stop(); err == nil {
		err = stopped
	}
	return figures, err
}

func measureWarm(ctx context.Context, b *bench, d *daemon) (figures []Figure, err error) {
	if _, err := d.idle(ctx, warmPool); err != nil {
		return nil, err
	}
	request := &api.ExecuteRequest{Command: api.Command{Args: []string{"true"}}, Runtime: faas.RuntimeNative}
	ours := contender{name: "faas", perRound: warmPerRound, once: timed(func(ctx context.Context) error {
		_, err := d.execute(ctx, request)
		return err
	})}
	peers, missing, closePeers, err := b.peers(ctx, filepath.Join(b.dir, "t1-peers"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closePeers()) }()
	all, err := interleave(ctx, warmRounds, time.Minute, append([]contender{ours}, peers...))
	if err != nil {
		return nil, err
	}
	f := Figure{
		ID: "T1", Name: "POST /execute of `true`, ephemeral, native, warm pool", Unit: "ms", Better: LowerIsBetter,
		Value: all["faas"].P50, P50: all["faas"].P50, P99: all["faas"].P99, Runs: all["faas"].Runs, Target: target(10),
		Concurrency: 1, State: "warm",
		Clock: "from before the request is written to after the whole answer is read, keep-alive connection, by the client; peers: from before the program is started to its end",
		Notes: missing,
	}
	f.withPeers(all, "faas")
	_, share, err := coldShare(ctx, d, warmPool)
	if err != nil {
		return nil, err
	}
	f.Notes = append(f.Notes, share)
	tail := f
	tail.ID, tail.Name, tail.Value, tail.Target, tail.Notes = "T1.p99", "the same, 99th percentile", f.P99, target(30), nil
	tail.Peers, tail.PeerStats = nil, nil
	return append([]Figure{f, tail}, ratios(f, all, map[string]float64{"docker run --rm": 25, "runc run": 4})...), nil
}

// ratios are rows of their own: how many times faster ours is than a peer.
func ratios(of Figure, all map[string]Distribution, targets map[string]float64) []Figure {
	var rows []Figure
	for _, peer := range []string{"docker run --rm", "runc run"} {
		if all[peer].Runs == 0 {
			continue
		}
		rows = append(rows, Figure{
			ID: of.ID + " vs " + peer, Name: "times faster than `" + peer + "`, medians of the same run",
			Unit: "times", Better: HigherIsBetter, Target: target(targets[peer]),
			Value: ratio(all[peer], all["faas"]), Runs: all[peer].Runs, Concurrency: of.Concurrency, State: of.State, Clock: of.Clock,
		})
	}
	return rows
}

// coldShare is the part of the requests that found no warm sandbox, as a share
// and in words.
func coldShare(ctx context.Context, d *daemon, pool int) (float64, string, error) {
	var m api.Metrics
	if err := d.get(ctx, api.PathMetrics, &m); err != nil {
		return 0, "", err
	}
	if m.Executor == nil {
		return 0, "", fmt.Errorf("the gateway does not tell how its pool was used")
	}
	total := m.Executor.PoolHits + m.Executor.ColdStarts
	share := float64(m.Executor.ColdStarts) / float64(max(1, total))
	return share, fmt.Sprintf("cold fallbacks: %d of %d requests (%.1f %%), pool of %d", m.Executor.ColdStarts, total, 100*share, pool), nil
}

// gateway starts a gateway whose default image is the common root file system.
func (b *bench) gateway(ctx context.Context, name string, pool int) (*daemon, error) {
	return b.gatewayWith(ctx, daemonOptions{dir: name, pool: pool})
}

func (b *bench) gatewayWith(ctx context.Context, o daemonOptions) (*daemon, error) {
	o.program, o.dir, o.image = b.program, filepath.Join(b.dir, o.dir), imageName
	d, err := prepareDaemon(o)
	if err != nil {
		return nil, err
	}
	if err := d.faas(ctx, "image", "import", b.rootfsTar, imageName); err != nil {
		return nil, err
	}
	return d, d.start(ctx)
}

// peers are the programs that run `true` in the same root file system, and
// notes on those that this machine has not.
func (b *bench) peers(ctx context.Context, dir string) (all []contender, missing []string, closeAll func() error, err error) {
	all = []contender{command("spawn of /bin/true", filepath.Join(b.rootfs, "bin/busybox"), "true")}
	if _, err := exec.LookPath("bwrap"); err == nil {
		all = append(all, bwrapRun(b.rootfs, "/bin/true"))
	} else {
		missing = append(missing, "no bwrap on this machine")
	}
	oci, notes, closeAll, err := b.ociPeers(ctx, dir)
	if err != nil {
		return nil, nil, nil, err
	}
	all, missing = append(all, oci...), append(missing, notes...)
	if b.docker == nil {
		c := dockerRun("true")
		c.everyRounds = 3
		all = append(all, c)
	} else {
		missing = append(missing, "docker run: "+b.docker.Error())
	}
	return all, missing, closeAll, nil
}
