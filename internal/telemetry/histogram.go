// Package telemetry counts: histograms whose percentiles the API answers, and
// the text format in which Prometheus reads them.
package telemetry

import (
	"math"
	"sort"
)

// bounds are the upper bounds of a histogram's buckets in milliseconds: from 50
// µs to 20 minutes, each a quarter above the one before, so that a percentile
// is at most that wrong.
var bounds = func() (all []float64) {
	for b := 0.05; b < 20*60*1000; b *= 1.25 {
		all = append(all, b)
	}
	return all
}()

// Histogram counts durations. It is not safe for concurrent use.
type Histogram struct {
	counts []int64 // by bucket; the last is for what exceeds every bound
	count  int64
	sum    float64
	max    float64
}

// Observe counts a duration in milliseconds. What is no number is not counted.
func (h *Histogram) Observe(ms float64) {
	if math.IsNaN(ms) || ms < 0 {
		return
	}
	if h.counts == nil {
		h.counts = make([]int64, len(bounds)+1)
	}
	h.counts[sort.SearchFloat64s(bounds, ms)]++
	h.count++
	h.sum += ms
	h.max = max(h.max, ms)
}

// Add counts what another histogram has counted.
func (h *Histogram) Add(other *Histogram) {
	if other.counts == nil {
		return
	}
	if h.counts == nil {
		h.counts = make([]int64, len(bounds)+1)
	}
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.count += other.count
	h.sum += other.sum
	h.max = max(h.max, other.max)
}

// Count returns how many durations were counted.
func (h *Histogram) Count() int64 { return h.count }

// Max returns the longest duration, in milliseconds.
func (h *Histogram) Max() float64 { return h.max }

// Mean returns the average, in milliseconds; 0 when nothing was counted.
func (h *Histogram) Mean() float64 {
	if h.count == 0 {
		return 0
	}
	return h.sum / float64(h.count)
}

// Quantile returns the duration that a share of all (0 to 1) does not exceed,
// in milliseconds: the bound of its bucket, at most a quarter above.
func (h *Histogram) Quantile(q float64) float64 {
	rank := int64(math.Ceil(q * float64(h.count)))
	if h.count == 0 {
		return 0
	}
	var seen int64
	for i, n := range h.counts {
		if seen += n; seen >= rank && n > 0 {
			if i == len(bounds) {
				return h.max
			}
			return min(bounds[i], h.max)
		}
	}
	return h.max
}
