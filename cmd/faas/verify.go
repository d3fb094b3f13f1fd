package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/conformance"
	"github.com/faas-platform/faas/internal/config"
)

// verify runs the user-facing part of the conformance suite on each runtime,
// in a directory of its own, beside whatever runs on the machine.
func verify(ctx context.Context, cfg *config.Loaded, asJSON bool) error {
	if err := makeDataDir(cfg); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(cfg.Data.Dir, "verify-")
	if err != nil {
		return faas.Errorf(faas.KindFailedPrecondition, "verify: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, dataDirMode); err != nil {
		return faas.Errorf(faas.KindFailedPrecondition, "verify: %w", err)
	}
	own := *cfg
	own.Data.Dir = dir
	opened := drivers(&own, slog.New(slog.DiscardHandler), faas.RuntimeAuto)
	results := []conformance.Result{}
	for _, d := range opened {
		here := d.Probe(ctx)
		if !here.Available && !asJSON { // one line says it for all checks
			printCheck(conformance.Result{Runtime: d.Name(), Check: "all", Outcome: conformance.Skipped, Reason: here.Reason})
		}
		found := conformance.Verify(ctx, &conformance.Env{Driver: d, Open: reopen(&own, d.Name())}, func(r conformance.Result) {
			if !asJSON && here.Available {
				printCheck(r)
			}
		})
		results = append(results, found...)
	}
	if err := closeDrivers(opened); err != nil {
		return err
	}
	if asJSON {
		if err := printJSON(map[string]any{"checks": results}); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return verdict(results, asJSON)
}

// reopen opens a runtime's driver a second time, as a restart would.
func reopen(cfg *config.Loaded, runtime faas.Runtime) func(context.Context) (driver.Driver, error) {
	return func(context.Context) (driver.Driver, error) {
		return drivers(cfg, slog.New(slog.DiscardHandler), runtime)[0], nil
	}
}

func printCheck(r conformance.Result) {
	fmt.Printf("%-8s %-10s %-40s %6.0f ms", r.Outcome, r.Runtime, r.Check, r.DurationMS)
	if r.Reason != "" {
		fmt.Print("  ", r.Reason)
	}
	fmt.Println()
}

// verdict counts, and fails when a check did.
func verdict(results []conformance.Result, quiet bool) error {
	count := map[conformance.Outcome]int{}
	for _, r := range results {
		count[r.Outcome]++
	}
	if !quiet {
		fmt.Printf("%d passed, %d failed, %d skipped\n", count[conformance.Passed], count[conformance.Failed], count[conformance.Skipped])
	}
	if count[conformance.Failed] > 0 {
		return exitError(exitFailure)
	}
	return nil
}
