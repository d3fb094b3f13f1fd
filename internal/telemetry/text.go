package telemetry

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// TextType is the media type of Prometheus' text format.
const TextType = "text/plain; version=0.0.4; charset=utf-8"

// Text writes metrics in Prometheus' text format. All of one name must follow
// each other.
type Text struct {
	buffer bytes.Buffer
	last   string // name of the last metric
}

// Labels are pairs of a name and a value.
type Labels []string

func (l Labels) String() string {
	if len(l) == 0 {
		return ""
	}
	var parts []string
	for i := 0; i+1 < len(l); i += 2 {
		parts = append(parts, l[i]+`="`+escape.Replace(l[i+1])+`"`)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (t *Text) head(name, help, kind string) {
	if t.last != name {
		fmt.Fprintf(&t.buffer, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		t.last = name
	}
}

func (t *Text) line(name string, labels Labels, value float64) {
	fmt.Fprintf(&t.buffer, "%s%s %s\n", name, labels, strconv.FormatFloat(value, 'g', -1, 64))
}

// Counter writes what only grows.
func (t *Text) Counter(name, help string, labels Labels, value float64) {
	t.head(name, help, "counter")
	t.line(name, labels, value)
}

// Gauge writes what goes up and down.
func (t *Text) Gauge(name, help string, labels Labels, value float64) {
	t.head(name, help, "gauge")
	t.line(name, labels, value)
}

// every is how many of a histogram's buckets make one of Prometheus'.
const every = 4

// Histogram writes a histogram, in seconds.
func (t *Text) Histogram(name, help string, labels Labels, h *Histogram) {
	t.head(name, help, "histogram")
	var seen int64
	for i, bound := range bounds {
		if h.counts != nil {
			seen += h.counts[i]
		}
		if i%every == 0 {
			t.line(name+"_bucket", append(labels[:len(labels):len(labels)], "le", strconv.FormatFloat(bound/1000, 'g', 6, 64)), float64(seen))
		}
	}
	t.line(name+"_bucket", append(labels[:len(labels):len(labels)], "le", "+Inf"), float64(h.count))
	t.line(name+"_sum", labels, h.sum/1000)
	t.line(name+"_count", labels, float64(h.count))
}

// Bytes returns what was written.
func (t *Text) Bytes() []byte { return t.buffer.Bytes() }
