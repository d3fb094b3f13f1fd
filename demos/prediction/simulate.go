package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/faas-platform/faas/pool"
)

// What the simulation takes a sandbox to cost, as the benchmarks measure it.
const (
	makeTime = 60 * time.Millisecond // to make one, of which atOnce are made together
	atOnce   = 2
	ready    = 12.0 // MiB that a warm one holds
)

// policy says how many sandboxes should be warm. Each trace gets a new one.
type policy struct {
	name string
	new  func() (arrive func(time.Time), want func(time.Time) int)
}

func policies() []policy {
	fixed := func(n int) func() (func(time.Time), func(time.Time) int) {
		return func() (func(time.Time), func(time.Time) int) {
			return func(time.Time) {}, func(time.Time) int { return n }
		}
	}
	return []policy{
		{"none", fixed(0)},
		{"fixed, 2", fixed(2)},
		{"fixed, 16", fixed(16)},
		{"keep-alive, 10 min", keepAlive},
		{"forecast", forecast},
	}
}

// keepAlive has as many as were asked for in the busiest second of the last ten
// minutes: what a platform holds that keeps each sandbox for that long.
func keepAlive() (arrive func(time.Time), want func(time.Time) int) {
	perSecond := map[int64]int{}
	return func(t time.Time) { perSecond[t.Unix()]++ }, func(t time.Time) int {
		most := 0
		for second, n := range perSecond {
			if second < t.Unix()-600 {
				delete(perSecond, second)
				continue
			}
			most = max(most, n)
		}
		return most
	}
}

// forecast is what faas does.
func forecast() (arrive func(time.Time), want func(time.Time) int) {
	f := &pool.Forecast{}
	return f.Arrive, func(t time.Time) int {
		n, _ := f.Want(t, makeTime)
		return min(n, 64)
	}
}

// result is what a policy did on the last day of a trace.
type result struct {
	trace, policy string
	asked, warm   int
	lost          time.Duration // in which those that found none were made
	memory        float64       // MiB hours of warm sandboxes
	perHour       [24]float64   // share of hits
}

func (r result) hitRate() float64 { return float64(r.warm) / float64(max(1, r.asked)) }

// simulate replays a trace in steps of 10 ms.
func simulate(t trace, p policy) result {
	const step = 10 * time.Millisecond
	arrive, want := p.new()
	r := result{trace: t.name, policy: p.name}
	counted := begin.AddDate(0, 0, days-1)
	var hits, asks [24]float64
	idle, next, target := 0, 0, 0
	var making []time.Time // when those under way are ready
	planned := begin.Add(-time.Second)
	for now := begin; now.Before(begin.AddDate(0, 0, days)); {
		for ; next < len(t.arrivals) && !t.arrivals[next].After(now); next++ {
			arrive(t.arrivals[next])
			hit := idle > 0
			if hit {
				idle--
			}
			if now.Before(counted) {
				continue
			}
			r.asked++
			asks[now.Hour()]++
			if hit {
				r.warm++
				hits[now.Hour()]++
			} else {
				r.lost += makeTime
			}
		}
		for len(making) > 0 && !making[0].After(now) {
			making = making[1:]
			idle++
		}
		if now.Sub(planned) >= time.Second { // as the pool does
			target, planned = want(now), now
			idle = min(idle, target)
		}
		for len(making) < atOnce && idle+len(making) < target {
			making = append(making, now.Add(makeTime))
		}
		advance := step
		if len(making) == 0 && (next == len(t.arrivals) || t.arrivals[next].Sub(now) > time.Second) {
			advance = time.Second // nothing happens before
		}
		if !now.Before(counted) {
			r.memory += float64(idle) * ready * advance.Hours()
		}
		now = now.Add(advance)
	}
	for hour := range asks {
		r.perHour[hour] = -1
		if asks[hour] > 0 {
			r.perHour[hour] = hits[hour] / asks[hour]
		}
	}
	return r
}

func table(results []result, seed uint64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Day %d of traces made from seed %d; a sandbox takes %v to make and %g MiB while it is warm.\n\n", days, seed, makeTime, ready)
	b.WriteString("| arrivals | policy | asked for | found warm | lost to misses | warm memory, MiB on average |\n|---|---|---|---|---|---|\n")
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %s | %d | %.1f %% | %v | %.1f |\n", r.trace, r.policy, r.asked, 100*r.hitRate(), r.lost.Round(time.Millisecond), r.memory/24)
	}
	return b.String()
}
