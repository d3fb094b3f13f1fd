package snapshot

import (
	"log/slog"

	"github.com/faas-platform/faas/snapshot/chunk"
)

// Change is one path that differs between two trees.
type Change struct {
	Path   string     `json:"path"` // absolute, as seen inside
	Change ChangeKind `json:"change"`
	// Sizes in bytes before and after; 0 for what is no regular file.
	OldSize int64 `json:"old_size_bytes"`
	NewSize int64 `json:"new_size_bytes"`
}

// ChangeKind says how a path differs.
type ChangeKind string

// The kinds of change.
const (
	Added   ChangeKind = "added"
	Changed ChangeKind = "changed"
	Removed ChangeKind = "removed"
)

// Strategy says what a merge does with changes that branches do not share.
type Strategy string

// The strategies.
const (
	// Union takes every branch's changes and refuses when two changed one
	// path differently.
	Union Strategy = "union"
	// Intersection keeps the changes that all branches made alike.
	Intersection Strategy = "intersection"
	// Latest takes every branch's changes; where two differ the newer branch
	// wins.
	Latest Strategy = "latest"
)

// Conflict is a path that branches changed differently.
type Conflict struct {
	Path string `json:"path"`
	// Branches are the indices of the branches that changed it, in the order
	// in which Merge was given them.
	Branches []int `json:"branches"`
}

// Problem is something wrong with a snapshot's bytes.
type Problem struct {
	SnapshotID string `json:"snapshot_id"`
	Tier       string `json:"tier"`           // hot or cold
	Path       string `json:"path,omitempty"` // of the file that is concerned
	Detail     string `json:"detail"`
}

// Options configures a Store.
type Options struct {
	Logger *slog.Logger // nil: discard
	Cold   *chunk.Store // nil: snapshots are only hot
}
