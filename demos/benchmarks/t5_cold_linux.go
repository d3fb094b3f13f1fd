package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/driver/oci"
)

const coldRounds = 60

// The contenders of ours in T5.
const (
	coldExec  = "native: create, exec"
	coldWhole = "native: create, exec, destroy"
	coldHTTP  = "POST /execute, no pool"
)

// coldCreate takes T5: a sandbox made while one waits, the image unpacked.
func coldCreate(ctx context.Context, b *bench) (figures []Figure, err error) {
	n, err := b.openNative(ctx, "t5", oci.LauncherBuiltin)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.driver.Close()) }()
	d, err := b.gateway(ctx, "t5-http", 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	peers, notes, closePeers, err := b.peers(ctx, filepath.Join(b.dir, "t5-peers"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closePeers()) }()
	all, err := interleave(ctx, coldRounds, time.Minute, append([]contender{
		{name: coldExec, once: n.untilExec}, {name: coldWhole, once: timed(n.whole)},
		{name: coldHTTP, once: timed(func(ctx context.Context) error {
			_, err := d.execute(ctx, &api.ExecuteRequest{Command: api.Command{Args: []string{"true"}}, Runtime: faas.RuntimeNative})
			return err
		})},
	}, peers...))
	if err != nil {
		return nil, err
	}
	return coldFigures(all, notes), nil
}

// untilExec clocks a sandbox until its first command has ended.
func (n *native) untilExec(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	made, err := n.create(ctx)
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	return took, made.Destroy(ctx)
}

// whole makes a sandbox, runs a command and destroys it.
func (n *native) whole(ctx context.Context) error {
	made, err := n.create(ctx)
	if err != nil {
		return err
	}
	return made.Destroy(ctx)
}

func coldFigures(all map[string]Distribution, notes []string) []Figure {
	row := func(id, name, ours, clock string) Figure {
		f := Figure{
			ID: id, Name: name, Unit: "ms", Better: LowerIsBetter, State: "cold", Concurrency: 1, Clock: clock,
			Value: all[ours].P50, P50: all[ours].P50, P99: all[ours].P99, Runs: all[ours].Runs,
		}
		f.withPeers(all, ours)
		return f
	}
	const peersClock = "; peers: from before the program is started to its end, their root already mounted"
	rows := []Figure{
		row("T5.ms", "native: cold create to the end of the first exec", coldExec, "from before Create to the exit of `true`, driver and guest client in this process"+peersClock),
		row("T5.destroy", "native: the same and destroyed", coldWhole, "from before Create to the return of Destroy"+peersClock),
		row("T5.http", "POST /execute of `true`, ephemeral, native, without a pool", coldHTTP, "from before the request is written to after the whole answer is read"+peersClock),
	}
	rows[0].Notes = notes
	if runc := all["runc run"]; runc.Runs > 0 {
		rows = append([]Figure{{
			ID: "T5", Name: "native: cold create to the end of the first exec, as a part of `runc run`", Unit: "of runc run", Better: LowerIsBetter, Target: target(1),
			Value: all[coldExec].P50 / runc.P50, Runs: all[coldExec].Runs, Concurrency: 1, State: "cold", Clock: rows[0].Clock,
			Peers: rows[0].Peers, PeerStats: rows[0].PeerStats,
		}}, rows...)
	}
	return rows
}
