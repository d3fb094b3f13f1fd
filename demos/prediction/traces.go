package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// trace is when sandboxes of one class are asked for.
type trace struct {
	name     string
	arrivals []time.Time // in order
}

// begin is when every trace does; days is how long they last, of which the
// first ones teach and the last is counted.
var begin = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

const days = 4

// traces makes one of each kind. The last three have the shapes that were
// published of the functions of Azure ("Serverless in the Wild", 2020): timers,
// a rate that follows the hours of work with a heavy tail of bursts, and rare
// calls whose idle times are spread over minutes to hours.
func traces(seed uint64) []trace {
	source := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	return []trace{
		{"steady, 2 a second", poisson(source(1), func(time.Time) float64 { return 2 })},
		{"bursts of 20, hourly", bursts(source(2), time.Hour, 20)},
		{"diurnal, up to 3 a second", poisson(source(3), func(t time.Time) float64 { return 3 * daylight(t) })},
		{"Azure: timer, every 15 min", timer(source(4), 15*time.Minute)},
		{"Azure: working hours, heavy tail", heavy(source(5))},
		{"Azure: rare, lognormal gaps", rare(source(6))},
	}
}

// daylight is 0 at night and 1 at two in the afternoon.
func daylight(t time.Time) float64 {
	hour := float64(t.Hour()) + float64(t.Minute())/60
	return max(0, math.Cos((hour-14)/24*2*math.Pi))
}

// poisson makes arrivals whose rate per second changes with the time.
func poisson(r *rand.Rand, rate func(time.Time) float64) []time.Time {
	const most = 8.0
	var list []time.Time
	end := begin.AddDate(0, 0, days)
	for t := begin; t.Before(end); {
		t = t.Add(time.Duration(r.ExpFloat64() / most * float64(time.Second)))
		if r.Float64() < rate(t)/most { // thinning
			list = append(list, t)
		}
	}
	return list
}

// bursts makes crowds that come within two seconds, at about a given interval.
func bursts(r *rand.Rand, every time.Duration, size int) []time.Time {
	var list []time.Time
	end := begin.AddDate(0, 0, days)
	for t := begin; t.Before(end); {
		t = t.Add(time.Duration((0.7 + 0.6*r.Float64()) * float64(every)))
		for range size/2 + r.IntN(size) {
			list = append(list, t.Add(time.Duration(r.Float64()*2*float64(time.Second))))
		}
	}
	slices.SortFunc(list, time.Time.Compare)
	return list
}

func timer(r *rand.Rand, every time.Duration) []time.Time {
	var list []time.Time
	for t := begin; t.Before(begin.AddDate(0, 0, days)); t = t.Add(every) {
		list = append(list, t.Add(time.Duration(r.Float64()*2*float64(time.Second))))
	}
	return list
}

// heavy is a rate of working hours, each minute of which is multiplied by a
// Pareto variable.
func heavy(r *rand.Rand) []time.Time {
	factors := map[int64]float64{}
	return poisson(r, func(t time.Time) float64 {
		minute := t.Unix() / 60
		if factors[minute] == 0 {
			factors[minute] = min(math.Pow(1-r.Float64(), -1/1.5), 20)
		}
		return min(0.3*daylight(t)*factors[minute], 8)
	})
}

func rare(r *rand.Rand) []time.Time {
	var list []time.Time
	for t := begin; ; {
		gap := math.Exp(math.Log(8*60) + 0.8*r.NormFloat64())
		if t = t.Add(time.Duration(gap * float64(time.Second))); t.After(begin.AddDate(0, 0, days)) {
			return list
		}
		list = append(list, t)
	}
}
