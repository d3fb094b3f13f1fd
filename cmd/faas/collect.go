package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/internal/config"
)

const (
	// collectEvery is how often a server frees what no image and no sandbox
	// needs any more: broken off downloads, old states of the host image.
	collectEvery = time.Hour
	// collectTimeout bounds one round.
	collectTimeout = 10 * time.Minute
)

// collectImages frees space in the image store now and then every hour. The
// function that it returns ends that and waits until it has. Without a store
// there is nothing to do: the runtimes that need one tell why it is missing.
func collectImages(cfg *config.Loaded, log *slog.Logger) (stop func()) {
	store, err := openImages(cfg, log)
	if err != nil {
		log.Warn("the image store cannot be opened; nothing in it is freed", "error", err)
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var collecting sync.WaitGroup
	collecting.Go(func() {
		ticks := time.NewTicker(collectEvery)
		defer ticks.Stop()
		for {
			collect(ctx, store, log)
			select {
			case <-ticks.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); collecting.Wait() }
}

func collect(ctx context.Context, store *image.Store, log *slog.Logger) {
	round, cancel := context.WithTimeout(ctx, collectTimeout)
	defer cancel()
	freed, err := store.GC(round)
	if err != nil && ctx.Err() == nil {
		log.Warn("freeing space in the image store failed; the next round tries again", "error", err)
	}
	if freed > 0 {
		log.Info("freed space in the image store", "bytes", freed)
	}
}
