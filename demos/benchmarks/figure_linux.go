package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Direction says which way a figure improves.
type Direction string

// The two directions.
const (
	LowerIsBetter  Direction = "lower"
	HigherIsBetter Direction = "higher"
)

// Figure is one row: something measured, and what others took in the same run.
// Whether Target is met is not stored; whoever reads a figure computes it.
type Figure struct {
	ID     string    `json:"id"` // T1 …, or a name
	Name   string    `json:"name"`
	Value  float64   `json:"value"`
	Unit   string    `json:"unit"` // ms, ratio, MiB, …
	Better Direction `json:"better"`
	Target *float64  `json:"target"` // in Unit; null where none is set

	// P50 and P99 are of the samples behind Value, in ms; 0 where there are none.
	P50         float64 `json:"p50,omitempty"`
	P99         float64 `json:"p99,omitempty"`
	Runs        int     `json:"runs"`
	Concurrency int     `json:"concurrency"`
	State       string  `json:"state"` // warm, cold, or none where it does not apply
	Clock       string  `json:"clock"` // where it starts and stops

	Peers     map[string]float64      `json:"peers,omitempty"`     // medians in PeerUnit, measured between ours
	PeerUnit  string                  `json:"peer_unit,omitempty"` // ms when empty
	PeerStats map[string]Distribution `json:"peer_stats,omitempty"`
	Notes     []string                `json:"notes,omitempty"` // what a reader must know to judge the figure
}

// Report is what latest.json holds.
type Report struct {
	Commit  string    `json:"commit"` // with -dirty when the tree had changes
	Date    time.Time `json:"date"`
	Took    float64   `json:"took_s"`
	Machine Machine   `json:"machine"`
	Figures []Figure  `json:"figures"`
	Skipped []Skipped `json:"skipped,omitempty"`
}

// Skipped is what could not be measured on this machine.
type Skipped struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// write replaces the report at path as a whole.
func (r *Report) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// markdown prints the report as a table.
func (r *Report) markdown(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "Commit %s, %s, %d cores, %d MiB, Linux %s, cgroup %s, as %s, load %.1f at the start\n\n", r.Commit, m.CPU, m.Cores, m.MemoryMB, m.Kernel, m.Cgroup, m.User, m.Load)
	fmt.Fprintln(w, "| id | what | value | target | p50 / p99 ms (runs) | beside it (median ms unless said) |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|")
	for _, f := range r.Figures {
		fmt.Fprintf(w, "| %s | %s | %s %s | %s | %s | %s |\n",
			f.ID, f.Name, number(f.Value), f.Unit, f.target(), f.samples(), f.peers())
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(w, "\nnot measured: %s: %s\n", s.ID, s.Reason)
	}
	for _, f := range r.Figures {
		for _, note := range f.Notes {
			fmt.Fprintf(w, "\n%s: %s\n", f.ID, note)
		}
	}
}

func (f Figure) target() string {
	switch {
	case f.Target == nil:
		return ""
	case f.Better == LowerIsBetter:
		return "at most " + number(*f.Target)
	}
	return "at least " + number(*f.Target)
}

func (f Figure) samples() string {
	if f.P50 == 0 {
		return fmt.Sprintf("(%d)", f.Runs)
	}
	return fmt.Sprintf("%s / %s (%d)", number(f.P50), number(f.P99), f.Runs)
}

func (f Figure) peers() string {
	names := make([]string, 0, len(f.Peers))
	for name := range f.Peers {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if f.Peers[a] < f.Peers[b] {
			return -1
		}
		return 1
	})
	for i, name := range names {
		names[i] = strings.TrimSpace(name + " " + number(f.Peers[name]) + " " + f.PeerUnit)
	}
	return strings.Join(names, ", ")
}

// number prints three significant digits.
func number(v float64) string {
	switch {
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
