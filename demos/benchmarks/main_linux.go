// Command benchmarks measures the platform beside what else runs a command in
// isolation: in one run, on one machine, from one root file system, with one
// OCI spec. It writes a report for programs and prints it as a table.
//
// A measurement is one file with one function; measurements lists them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// measurement is one group of figures that are taken together.
type measurement struct {
	id string
	// take returns the figures; errUnavailable (wrapped) when this machine
	// cannot show them.
	take func(ctx context.Context, b *bench) ([]Figure, error)
}

// measurements lists all, in the order in which they run.
func measurements() []measurement {
	return []measurement{
		{"T1", warmExecute},
		{"T2", sustained},
		{"T3", execResident},
		{"T4", cachedHit},
		{"T5", coldCreate},
		{"T6", warmDocker},
		{"runtimes", everyRuntime},
		{"T7", snapshots},
		{"T9", fileSnapshots},
		{"T10", idleMemory},
		{"T12", streamOutput},
	}
}

var errUnavailable = errors.New("not available here")

// bench is what measurements share.
type bench struct {
	program   string // the faas binary
	dir       string // scratch, removed at the end
	rootfs    string // the busybox root file system, unpacked
	rootfsTar string
	docker    error // nil: an engine answers and has the image
}

func main() {
	out := flag.String("out", "demos/benchmarks/results/latest.json", "report to write")
	only := flag.String("only", "", "measure only ids that match this regular expression; the report is not written")
	program := flag.String("faas", "bin/faas", "the faas binary")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *program, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program, only, out string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	b, cleanup, err := newBench(ctx, program)
	if err != nil {
		return err
	}
	defer cleanup()
	started := time.Now()
	report := &Report{Commit: commit(ctx), Date: started.UTC().Truncate(time.Second), Machine: describe(b.dir)}
	var failed error
	for _, m := range measurements() {
		if !wanted.MatchString(m.id) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", m.id)
		figures, err := m.take(ctx, b)
		if err != nil {
			report.Skipped = append(report.Skipped, Skipped{m.id, err.Error()})
			if !errors.Is(err, errUnavailable) {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", m.id, err))
			}
		}
		report.Figures = append(report.Figures, figures...)
	}
	report.Took = time.Since(started).Seconds()
	report.markdown(os.Stdout)
	if only == "" && ctx.Err() == nil {
		failed = errors.Join(failed, report.write(out), report.chart(strings.TrimSuffix(out, ".json")+".svg"))
	}
	return failed
}

// newBench prepares the scratch directory and the common root file system.
func newBench(ctx context.Context, program string) (*bench, func(), error) {
	program, err := filepath.Abs(program)
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "faas-bench-")
	if err != nil {
		return nil, nil, err
	}
	b := &bench{program: program, dir: dir, rootfs: filepath.Join(dir, "rootfs"), rootfsTar: filepath.Join(dir, "rootfs.tar")}
	cleanup := func() { os.RemoveAll(dir) }
	if err := errors.Join(os.Chmod(dir, 0o755), buildRootfs(ctx, b.rootfs), writeTar(b.rootfs, b.rootfsTar)); err != nil {
		cleanup()
		return nil, nil, err
	}
	removeImage, err := dockerReady(ctx, b.rootfsTar)
	b.docker = err
	if err == nil {
		removeDir := cleanup
		cleanup = func() {
			removeImage()
			removeDir()
		}
	}
	return b, cleanup, nil
}
