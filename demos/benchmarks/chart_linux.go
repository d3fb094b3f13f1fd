package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"slices"
	"strings"
)

// Sizes of the chart, in pixels.
const (
	chartWidth = 920
	chartLeft  = 330 // where bars begin
	chartBar   = 16
	chartGap   = 6
	chartHead  = 64
)

// chart draws every figure that was measured beside others: ours and theirs as
// bars on one logarithmic scale for each figure.
func (r *Report) chart(path string) error {
	var body strings.Builder
	y := chartHead
	for _, f := range r.Figures {
		if len(f.Peers) > 0 {
			y = drawFigure(&body, f, y)
		}
	}
	m := r.Machine
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", chartWidth, y+10)
	fmt.Fprintf(&svg, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	text(&svg, 16, 24, `font-size="16" font-weight="bold"`, "faas beside other ways to run a command, one run of make bench")
	text(&svg, 16, 44, `fill="#555"`, fmt.Sprintf("%s, %d cores, %d MiB, Linux %s; commit %.12s, %s; medians, logarithmic scales",
		m.CPU, m.Cores, m.MemoryMB, m.Kernel, r.Commit, r.Date.Format("2006-01-02")))
	svg.WriteString(body.String())
	svg.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(svg.String()), 0o644)
}

type bar struct {
	name  string
	value float64
	ours  bool
}

// drawFigure draws one figure from y on and returns where the next one begins.
func drawFigure(w *strings.Builder, f Figure, y int) int {
	unit := f.Unit
	bars := []bar{{"faas", f.Value, true}}
	for name, value := range f.Peers {
		bars = append(bars, bar{name, value, false})
	}
	slices.SortFunc(bars, func(a, b bar) int {
		if a.value < b.value {
			return -1
		}
		return 1
	})
	if f.Better == HigherIsBetter {
		slices.Reverse(bars)
	}
	low, high := math.Inf(1), 0.0
	for _, b := range bars {
		low, high = min(low, b.value), max(high, b.value)
	}
	floor, ceiling := math.Log10(low/2), math.Log10(high)
	y += 22
	text(w, 16, y, `font-weight="bold"`, fmt.Sprintf("%s: %s (%s, %s is better)", f.ID, f.Name, unit, f.Better))
	y += chartGap
	for _, b := range bars {
		colour := "#b8c4d0"
		if b.ours {
			colour = "#1f6fb2"
		}
		width := 1 + int((chartWidth-chartLeft-90)*(math.Log10(b.value)-floor)/max(ceiling-floor, 0.01))
		text(w, chartLeft-8, y+chartBar-4, `text-anchor="end"`, b.name)
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", chartLeft, y, width, chartBar, colour)
		text(w, chartLeft+width+6, y+chartBar-4, "", number(b.value))
		y += chartBar + chartGap
	}
	return y
}

func text(w *strings.Builder, x, y int, attributes, content string) {
	fmt.Fprintf(w, `<text x="%d" y="%d" %s>%s</text>`+"\n", x, y, attributes, html.EscapeString(content))
}
