package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// idleSandboxes is how many are measured together.
const idleSandboxes = 30

// idleSettle is how long they have been idle then.
const idleSettle = 4 * time.Second

// idleMemory takes T10: what a warm sandbox costs that nobody uses.
func idleMemory(ctx context.Context, b *bench) ([]Figure, error) {
	d, err := b.gateway(ctx, "t10", idleSandboxes)
	if err != nil {
		return nil, err
	}
	figures, err := measureIdle(ctx, d)
	if stopped := d.stop(); err == nil {
		err = stopped
	}
	return figures, err
}

func measureIdle(ctx context.Context, d *daemon) ([]Figure, error) {
	inits, err := d.idle(ctx, idleSandboxes)
	if err != nil {
		return nil, err
	}
	// A warm sandbox's agent gives memory back after two seconds without work.
	select {
	case <-time.After(idleSettle):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	each, err := sandboxPSS(inits)
	if err != nil {
		return nil, err
	}
	slices.Sort(each)
	resident, err := residentMiB(d.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	return []Figure{{
		ID: "T10", Name: "memory of an idle native sandbox", Unit: "MiB", Better: LowerIsBetter, Target: target(6),
		Value: each[len(each)/2], Runs: len(each), Concurrency: idleSandboxes, State: "warm",
		Clock: "none: PSS of all processes of the sandbox, its agent included; median of the sandboxes of one full pool",
		Notes: []string{fmt.Sprintf("largest %s MiB; peak resident memory of the gateway with %d idle sandboxes %.0f MiB", number(each[len(each)-1]), len(each), resident)},
	}}, nil
}

// idle waits until the gateway has so many sandboxes ready, and returns the
// process of each that is PID 1 inside.
func (d *daemon) idle(ctx context.Context, count int) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		inits, err := d.records(count)
		if err != nil || len(inits) >= count {
			return inits, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d sandboxes were ready: %s", len(inits), count, d.log())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// records reads the driver's records of the sandboxes that are ready.
func (d *daemon) records(count int) ([]int, error) {
	inits := make([]int, 0, count)
	err := filepath.WalkDir(d.dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it went while we looked
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "layers" || entry.Name() == "rootfs"):
			return fs.SkipDir
		case entry.Name() != "state.json":
			return nil
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		var record struct {
			Ready   bool `json:"ready"`
			Process struct {
				PID int `json:"pid"`
			} `json:"process"`
		}
		if err = errors.Join(err, json.Unmarshal(content, &record)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if record.Ready && record.Process.PID > 0 {
			inits = append(inits, record.Process.PID)
		}
		return nil
	})
	return inits, err
}

// sandboxPSS adds up the memory of each init and all below it, in MiB.
func sandboxPSS(inits []int) ([]float64, error) {
	parents, err := processes()
	if err != nil {
		return nil, err
	}
	sums := make([]float64, len(inits))
	for pid := range parents {
		i := slices.Index(inits, ancestorAmong(parents, pid, inits))
		if i < 0 {
			continue
		}
		pss, err := pssMiB(pid)
		if err != nil {
			return nil, err
		}
		sums[i] += pss
	}
	return sums, nil
}

// ancestorAmong returns the process itself or the nearest above it that is one
// of the given, 0 when there is none.
func ancestorAmong(parents map[int]int, pid int, given []int) int {
	for pid > 0 && !slices.Contains(given, pid) {
		pid = parents[pid]
	}
	return pid
}

// processes lists every process with its parent.
func processes() (map[int]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// One that ended meanwhile has no status to read.
		if parent, err := strconv.Atoi(field(filepath.Join("/proc", entry.Name(), "status"), "PPid")); err == nil {
			parents[pid] = parent
		}
	}
	return parents, nil
}
