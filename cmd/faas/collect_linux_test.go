package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/faas-platform/faas/internal/config"
)

// What a daemon finds in the image store and nothing needs is gone after a
// round; what is needed stays.
func TestCollectFreesWhatNothingNeeds(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	cfg := &config.Loaded{}
	cfg.Data.Dir = t.TempDir()
	store, err := openImages(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	root, err := store.Acquire(t.Context(), "host")
	if err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join(store.Dir(), "layers", "0.0", "0123456789abcdef")
	if err := os.MkdirAll(filepath.Join(orphan, "fs"), 0o700); err != nil {
		t.Fatal(err)
	}
	collect(t.Context(), store, log)
	if _, err := os.Stat(orphan); !os.IsNotExist(err) {
		t.Errorf("a layer that nothing needs is still there: %v", err)
	}
	for _, layer := range root.Layers {
		if _, err := os.Stat(layer); err != nil {
			t.Errorf("a layer in use is gone: %v", err)
		}
	}
	if err := root.Release(); err != nil {
		t.Error(err)
	}
}

// The collector ends when it is told to, in the middle of a round too.
func TestCollectorEnds(t *testing.T) {
	cfg := &config.Loaded{}
	cfg.Data.Dir = t.TempDir()
	collectImages(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))()
}
