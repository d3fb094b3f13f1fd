package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Sizes of the plot, in pixels: a panel for each trace, in which every policy
// is a point: what it costs in memory, and how often it serves.
const (
	panelWidth  = 300
	panelHeight = 210
	margin      = 56
	columns     = 3
)

var colours = map[string]string{
	"none": "#999", "fixed, 2": "#c98a1b", "fixed, 16": "#b3541e", "keep-alive, 10 min": "#5a8f3c", "forecast": "#1f6fb2",
}

// plot draws hit rate over warm memory.
func plot(results []result) string {
	var names []string
	byTrace := map[string][]result{}
	for _, r := range results {
		if byTrace[r.trace] == nil {
			names = append(names, r.trace)
		}
		byTrace[r.trace] = append(byTrace[r.trace], r)
	}
	rows := (len(names) + columns - 1) / columns
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", columns*panelWidth+margin, rows*panelHeight+90)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	label(&b, 16, 24, `font-size="15" font-weight="bold"`, "Warm sandboxes by policy: share of requests that found one, over the memory that waits")
	x := 16
	for _, p := range policies() {
		fmt.Fprintf(&b, `<circle cx="%d" cy="44" r="5" fill="%s"/>`+"\n", x+6, colours[p.name])
		label(&b, x+16, 48, "", p.name)
		x += 40 + 7*len(p.name)
	}
	for i, name := range names {
		panel(&b, name, byTrace[name], i%columns*panelWidth+margin, i/columns*panelHeight+70)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func panel(b *strings.Builder, name string, results []result, x, y int) {
	width, height := panelWidth-margin, panelHeight-70
	most := 1.0
	for _, r := range results {
		most = max(most, r.memory/24)
	}
	top := math.Log10(1 + most)
	label(b, x, y+8, `font-weight="bold"`, name)
	y += 16
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#ccc"/>`+"\n", x, y, width, height)
	for _, share := range []int{0, 50, 100} {
		at := y + height - share*height/100
		label(b, x-6, at+4, `text-anchor="end" fill="#555"`, fmt.Sprintf("%d %%", share))
		fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#eee"/>`+"\n", x, at, x+width, at)
	}
	label(b, x, y+height+14, `fill="#555"`, "0 MiB")
	label(b, x+width, y+height+14, `text-anchor="end" fill="#555"`, fmt.Sprintf("%.0f MiB (logarithmic)", most))
	for _, r := range results {
		px := x + int(float64(width)*math.Log10(1+r.memory/24)/top)
		py := y + height - int(float64(height)*r.hitRate())
		fmt.Fprintf(b, `<circle cx="%d" cy="%d" r="6" fill="%s" fill-opacity="0.85"><title>%s</title></circle>`+"\n", px, py, colours[r.policy],
			html.EscapeString(fmt.Sprintf("%s: %.1f %% of %d warm, %.1f MiB", r.policy, 100*r.hitRate(), r.asked, r.memory/24)))
	}
}

func label(b *strings.Builder, x, y int, attributes, text string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" %s>%s</text>`+"\n", x, y, attributes, html.EscapeString(text))
}
