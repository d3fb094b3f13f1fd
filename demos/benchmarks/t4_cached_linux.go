package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

const (
	hitRuns        = 3000
	hitConcurrency = 8
	hitTurn        = 10 * time.Second
)

// cachedHit takes T4: results that are known, one after the other and as many
// as come.
func cachedHit(ctx context.Context, b *bench) ([]Figure, error) {
	d, err := b.gateway(ctx, "t4", 0)
	if err != nil {
		return nil, err
	}
	figures, err := measureHits(ctx, d)
	return figures, errors.Join(err, d.stop())
}

func measureHits(ctx context.Context, d *daemon) ([]Figure, error) {
	request := &api.ExecuteRequest{
		Command: api.Command{Args: []string{"echo", "a result"}}, Runtime: faas.RuntimeNative, Mode: faas.ModeCached,
	}
	if _, err := d.execute(ctx, request); err != nil {
		return nil, err
	}
	hit := func(ctx context.Context) error {
		answer, err := d.execute(ctx, request)
		if err == nil && !answer.CacheHit {
			err = errors.New("not a hit")
		}
		return err
	}
	samples := make([]time.Duration, 0, hitRuns)
	for range hitRuns {
		begun := time.Now()
		if err := hit(ctx); err != nil {
			return nil, err
		}
		samples = append(samples, time.Since(begun))
	}
	one := summarise(samples)
	count, took, err := sustainedHits(ctx, hit)
	if err != nil {
		return nil, err
	}
	f := Figure{
		ID: "T4", Name: "cached mode, hit", Value: one.P50, Unit: "ms", Better: LowerIsBetter, Target: target(1),
		P50: one.P50, P99: one.P99, Runs: one.Runs, Concurrency: 1, State: "warm",
		Clock: "from before the request is encoded to after the whole answer is decoded, keep-alive connection, by the client",
	}
	tail := f
	tail.ID, tail.Name, tail.Value, tail.Target = "T4.p99", "the same, 99th percentile", f.P99, target(5)
	return []Figure{f, tail, {
		ID: "T4.rate", Name: fmt.Sprintf("hits per second, c=%d", hitConcurrency), Value: float64(count) / took.Seconds(), Unit: "per s",
		Better: HigherIsBetter, Target: target(3000), Runs: int(count), Concurrency: hitConcurrency, State: "warm",
		Clock: fmt.Sprintf("requests that were answered within %v, the client on the same machine", hitTurn),
	}}, nil
}

func sustainedHits(ctx context.Context, hit func(context.Context) error) (count int64, took time.Duration, err error) {
	var (
		hits    atomic.Int64
		workers sync.WaitGroup
		once    sync.Once
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := time.Now()
	for range hitConcurrency {
		workers.Go(func() {
			for time.Since(begun) < hitTurn && ctx.Err() == nil {
				if failed := hit(ctx); failed != nil {
					once.Do(func() { err = failed })
					cancel()
					return
				}
				hits.Add(1)
			}
		})
	}
	workers.Wait()
	return hits.Load(), time.Since(begun), err
}
