// Command prediction shows what the pools' forecasts are worth: it replays
// arrivals of several kinds against a fixed pool, keep-alive and the forecast
// that faas uses (package pool), and writes a table and a plot.
//
//	go run ./demos/prediction
//
// The traces are made from a seed, in the shapes that are published of real
// ones: see traces.go. Nothing runs but the arithmetic, so a day takes a moment.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	out := flag.String("out", "demos/prediction/results", "directory for table.md and prediction.svg")
	seed := flag.Uint64("seed", 1, "seed of the traces")
	flag.Parse()
	if err := run(*out, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "prediction:", err)
		os.Exit(1)
	}
}

func run(out string, seed uint64) error {
	var results []result
	for _, t := range traces(seed) {
		for _, p := range policies() {
			results = append(results, simulate(t, p))
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	table := table(results, seed)
	fmt.Print(table)
	if err := os.WriteFile(filepath.Join(out, "table.md"), []byte(table), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "prediction.svg"), []byte(plot(results)), 0o644)
}
