package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/executor"
	"github.com/faas-platform/faas/internal/config"
)

// closeTimeout bounds how long a command waits for its own sandboxes to go.
const closeTimeout = 30 * time.Second

// library opens the executor inside this process, with the drivers that a
// request for a runtime can use ("none": no driver at all). The function that
// it returns closes it and says what that left behind.
func library(ctx context.Context, cfg *config.Loaded, wanted faas.Runtime) (*executor.Executor, func(), error) {
	// A library speaks through its errors; its log is for those who ask.
	log := slog.New(slog.DiscardHandler)
	if cfg.Log.Level == "debug" {
		log = logger(cfg)
	}
	opts := executorOptions(cfg)
	opts.Logger, opts.Pools = log, nil // warm sandboxes are for those who stay
	var err error
	if opts.Tiers, err = tiers(cfg, log); err != nil {
		return nil, nil, err
	}
	opts.Drivers = drivers(cfg, log, wanted)
	engine, err := executor.New(ctx, opts)
	if err != nil {
		return nil, nil, errors.Join(err, closeDrivers(opts.Drivers))
	}
	return engine, func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if err := engine.Close(closing); err != nil {
			fmt.Fprintln(os.Stderr, "faas: cleaning up:", err)
		}
	}, nil
}
