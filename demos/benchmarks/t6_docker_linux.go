package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

const (
	dockerRounds = 20
	dockerPool   = 6
)

// warmDocker takes T6: the docker runtime with a pool beside docker run.
func warmDocker(ctx context.Context, b *bench) ([]Figure, error) {
	if b.docker != nil {
		return nil, fmt.Errorf("%w: %w", errUnavailable, b.docker)
	}
	d, err := prepareDaemon(daemonOptions{
		program: b.program, dir: filepath.Join(b.dir, "t6"), image: dockerImage, runtime: faas.RuntimeDocker, pool: dockerPool,
	})
	if err != nil {
		return nil, err
	}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	figures, err := measureDocker(ctx, d)
	return figures, errors.Join(err, d.stop())
}

func measureDocker(ctx context.Context, d *daemon) ([]Figure, error) {
	request := &api.ExecuteRequest{Command: api.Command{Args: []string{"true"}}, Runtime: faas.RuntimeDocker}
	if err := d.warm(ctx, dockerPool); err != nil {
		return nil, err
	}
	ours := contender{name: "faas", once: func(ctx context.Context) (time.Duration, error) {
		begun := time.Now()
		_, err := d.execute(ctx, request)
		took := time.Since(begun)
		return took, errors.Join(err, d.warm(ctx, 1)) // what is refilled is not on the clock
	}}
	all, err := interleave(ctx, dockerRounds, time.Minute, []contender{ours, dockerRun("true")})
	if err != nil {
		return nil, err
	}
	f := Figure{
		ID: "T6", Name: "POST /execute of `true`, ephemeral, docker, warm pool", Unit: "ms", Better: LowerIsBetter,
		Value: all["faas"].P50, P50: all["faas"].P50, P99: all["faas"].P99, Runs: all["faas"].Runs, Concurrency: 1, State: "warm",
		Clock: "from before the request is encoded to after the whole answer is decoded, keep-alive connection, by the client; docker run: from before the program is started to its end",
	}
	f.withPeers(all, "faas")
	_, share, err := coldShare(ctx, d, dockerPool)
	if err != nil {
		return nil, err
	}
	f.Notes = []string{share}
	return append([]Figure{f}, ratios(f, all, map[string]float64{"docker run --rm": 15})...), nil
}

// warm waits until the gateway's pools hold so many sandboxes.
func (d *daemon) warm(ctx context.Context, count int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		var list api.PoolList
		if err := d.get(ctx, api.PathPools, &list); err != nil {
			return err
		}
		idle := 0
		for _, p := range list.Pools {
			idle += p.Idle
		}
		if idle >= count {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d sandboxes were ready: %s", idle, count, d.log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
