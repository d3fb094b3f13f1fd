package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// Distribution summarises samples in ms.
type Distribution struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	Min  float64 `json:"min"`
	Max  float64 `json:"max"`
	Runs int     `json:"runs"`
}

// summarise sorts samples in place. A percentile is the smallest sample that
// at least that share of them does not exceed, so a p99 of few runs is their
// maximum.
func summarise(samples []time.Duration) Distribution {
	if len(samples) == 0 {
		return Distribution{}
	}
	slices.Sort(samples)
	at := func(share float64) float64 {
		return milliseconds(samples[max(0, int(math.Ceil(share*float64(len(samples))))-1)])
	}
	return Distribution{P50: at(0.5), P99: at(0.99), Min: at(0), Max: at(1), Runs: len(samples)}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// contender is one of those that are measured side by side.
type contender struct {
	name string
	// once does the work a single time and returns what its clock showed.
	once func(ctx context.Context) (time.Duration, error)
	// perRound is how often it runs in each round: 1 when 0.
	perRound int
	// everyRounds lets slow ones run in every n-th round only: 1 when 0.
	everyRounds int
}

// timed returns a clock around the whole of f.
func timed(f func(ctx context.Context) error) func(ctx context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		start := time.Now()
		err := f(ctx)
		return time.Since(start), err
	}
}

// interleave runs the contenders in rounds, so that whatever the machine does
// meanwhile it does to all. Each is run once before, uncounted. It ends after
// the given rounds, or when the budget is used up and every contender has run.
// A contender that fails ends the whole: a figure with failures is none.
func interleave(ctx context.Context, rounds int, budget time.Duration, contenders []contender) (map[string]Distribution, error) {
	for _, c := range contenders {
		if _, err := c.once(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	samples := map[string][]time.Duration{}
	deadline := time.Now().Add(budget)
	for round := range rounds {
		if round > 0 && time.Now().After(deadline) {
			break
		}
		for i := range contenders {
			// A different one begins each round.
			c := contenders[(i+round)%len(contenders)]
			if round%max(1, c.everyRounds) != 0 {
				continue
			}
			for range max(1, c.perRound) {
				took, err := c.once(ctx)
				if err != nil {
					return nil, fmt.Errorf("%s, round %d: %w", c.name, round+1, err)
				}
				samples[c.name] = append(samples[c.name], took)
			}
		}
	}
	result := map[string]Distribution{}
	for name, s := range samples {
		result[name] = summarise(s)
	}
	return result, nil
}

// withPeers moves everything but ours into the figure's peers.
func (f *Figure) withPeers(all map[string]Distribution, ours string) {
	f.Peers, f.PeerStats = map[string]float64{}, map[string]Distribution{}
	for name, d := range all {
		if name != ours {
			f.Peers[name] = d.P50
			f.PeerStats[name] = d
		}
	}
}

// ratio is how many times faster ours is than a peer, both medians.
func ratio(peer, ours Distribution) float64 { return peer.P50 / ours.P50 }

func target(v float64) *float64 { return &v }
