package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// T2 gives ours thirty seconds in all, in turns with its peers, so that what
// else the machine does concerns all of them.
const (
	sustainedConcurrency = 8
	sustainedRounds      = 3
	sustainedTurn        = 10 * time.Second
	sustainedPeerTurn    = 5 * time.Second
	sustainedPool        = 64
	// sustainedRefill is more than the default of one per CPU: with no pause
	// between requests, the refill must have its share of the CPUs for requests
	// to find something.
	sustainedRefill = 12
	// sustainedColdShare is the share of cold fallbacks above which the figure
	// does not count.
	sustainedColdShare = 0.05
)

// sustained takes T2: executions per second, one after the other on each of
// eight connections, while the pool refills.
func sustained(ctx context.Context, b *bench) ([]Figure, error) {
	d, err := b.gatewayWith(ctx, daemonOptions{dir: "t2", pool: sustainedPool, refill: sustainedRefill})
	if err != nil {
		return nil, err
	}
	figures, err := measureSustained(ctx, b, d)
	if stopped := d.stop(); err == nil {
		err = stopped
	}
	return figures, err
}

func measureSustained(ctx context.Context, b *bench, d *daemon) (figures []Figure, err error) {
	if _, err := d.idle(ctx, sustainedPool); err != nil {
		return nil, err
	}
	request := &api.ExecuteRequest{Command: api.Command{Args: []string{"true"}}, Runtime: faas.RuntimeNative}
	ours := &rate{contender: contender{name: "faas", once: timed(func(ctx context.Context) error {
		_, err := d.execute(ctx, request)
		return err
	})}, turn: sustainedTurn}
	peers, missing, closePeers, err := b.peers(ctx, filepath.Join(b.dir, "t2-peers"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closePeers()) }()
	all := []*rate{ours}
	for _, p := range peers {
		all = append(all, &rate{contender: p, turn: sustainedPeerTurn})
	}
	for round := range sustainedRounds {
		for i := range all {
			r := all[(i+round)%len(all)]
			if r.name == "docker run --rm" && round > 0 {
				continue // half a second each: one turn tells
			}
			if err := r.run(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", r.name, err)
			}
		}
	}
	return sustainedFigures(ctx, d, all, missing)
}

func sustainedFigures(ctx context.Context, d *daemon, all []*rate, notes []string) ([]Figure, error) {
	ours := all[0]
	share, text, err := coldShare(ctx, d, sustainedPool)
	if err != nil {
		return nil, err
	}
	notes = append(notes, text)
	if share > sustainedColdShare {
		notes = append(notes, "more than 5 % of cold fallbacks: the figure does not count")
	}
	samples := summarise(ours.samples)
	f := Figure{
		ID: "T2", Name: fmt.Sprintf("executions per second of `true`, ephemeral, native, c=%d, pool refilling", sustainedConcurrency),
		Value: ours.perSecond(), Unit: "per s", Better: HigherIsBetter, P50: samples.P50, P99: samples.P99, Runs: samples.Runs,
		Concurrency: sustainedConcurrency, State: "warm",
		Clock: fmt.Sprintf("executions that ended within %d turns of %v, none failed; peers beside it: executions per second of their turns", sustainedRounds, sustainedTurn),
		Peers: map[string]float64{}, PeerUnit: "per s", Notes: notes,
	}
	rows := []Figure{}
	for _, peer := range all[1:] {
		f.Peers[peer.name] = peer.perSecond()
		row := Figure{
			ID: "T2 vs " + peer.name, Name: "times as many as `" + peer.name + "`, same concurrency, same run", Unit: "times", Better: HigherIsBetter,
			Value: ours.perSecond() / peer.perSecond(), Runs: len(peer.samples), Concurrency: sustainedConcurrency, State: "warm", Clock: f.Clock,
		}
		if peer.name == "runc run" {
			row.Target = target(3)
		}
		if peer.name == "runc run" || peer.name == "docker run --rm" {
			rows = append(rows, row)
		}
	}
	return append([]Figure{f}, rows...), nil
}

// rate is a contender that runs many at once for a while.
type rate struct {
	contender
	turn time.Duration

	samples []time.Duration
	took    time.Duration
}

// run gives the contender one turn. What has begun in it ends in it.
func (r *rate) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu      sync.Mutex
		workers sync.WaitGroup
	)
	start := time.Now()
	for range sustainedConcurrency {
		workers.Go(func() {
			for time.Since(start) < r.turn && ctx.Err() == nil {
				took, err := r.once(ctx)
				if err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				r.samples = append(r.samples, took)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	r.took += time.Since(start)
	return context.Cause(ctx)
}

func (r *rate) perSecond() float64 { return float64(len(r.samples)) / r.took.Seconds() }
