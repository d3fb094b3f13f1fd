package telemetry

import (
	"strings"
	"testing"
)

func TestQuantiles(t *testing.T) {
	var h Histogram
	if h.Quantile(.5) != 0 || h.Mean() != 0 {
		t.Error("an empty histogram knows durations")
	}
	for i := 1; i <= 1000; i++ {
		h.Observe(float64(i))
	}
	h.Observe(-1)
	for q, want := range map[float64]float64{.5: 500, .9: 900, .99: 990} {
		if got := h.Quantile(q); got < want || got > want*1.25 {
			t.Errorf("quantile %v is %v, want %v and at most a quarter more", q, got, want)
		}
	}
	if h.Quantile(1) != 1000 || h.Max() != 1000 || h.Count() != 1000 || h.Mean() != 500.5 {
		t.Errorf("%v %v %v %v", h.Quantile(1), h.Max(), h.Count(), h.Mean())
	}
	var long Histogram
	long.Observe(1e9)
	long.Add(&h)
	if long.Quantile(1) != 1e9 || long.Count() != 1001 || long.Quantile(.5) > 625 {
		t.Errorf("%v %v", long.Quantile(1), long.Count())
	}
}

func TestText(t *testing.T) {
	var text Text
	text.Counter("a_total", "Things.", Labels{"kind", "x\"y\n"}, 3)
	text.Counter("a_total", "Things.", Labels{"kind", "z"}, 4)
	text.Gauge("b", "Now.", nil, 1.5)
	var h Histogram
	h.Observe(2)
	text.Histogram("c_seconds", "Time.", Labels{"stage", "run"}, &h)
	got := string(text.Bytes())
	for _, want := range []string{
		"# HELP a_total Things.\n# TYPE a_total counter\na_total{kind=\"x\\\"y\\n\"} 3\na_total{kind=\"z\"} 4\n",
		"# TYPE b gauge\nb 1.5\n",
		"c_seconds_bucket{stage=\"run\",le=\"5e-05\"} 0\n", "c_seconds_bucket{stage=\"run\",le=\"+Inf\"} 1\n",
		"c_seconds_sum{stage=\"run\"} 0.002\nc_seconds_count{stage=\"run\"} 1\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}
