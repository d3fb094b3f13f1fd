package snapshot

import (
	"crypto/ed25519"
	"log/slog"
	"time"

	"github.com/faas-platform/faas"
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
	Tier       string `json:"tier"`           // TierHot or TierCold
	Path       string `json:"path,omitempty"` // of the file that is concerned
	Detail     string `json:"detail"`
}

// The tiers, as a Problem names them.
const (
	TierHot  = "hot"
	TierCold = "cold"
)

// Placement says where a snapshot's own bytes are.
type Placement struct {
	Hot  bool // where a restore takes them from
	Cold bool // there is a cold copy
	// Archived is true when its digests are known: beside the cold copy, or
	// written down where there is no cold tier.
	Archived bool
	// StoredBytes is what the cold copy took that no earlier one had stored.
	StoredBytes int64
	Move        *Move // under way between the tiers, by this process
}

// Phases of a Move.
const (
	PhaseArchive = "archive"
	PhaseFetch   = "fetch"
)

// Move is bytes on their way between the tiers.
type Move struct {
	Phase string `json:"phase"` // PhaseArchive or PhaseFetch
	Done  int64  `json:"done_bytes"`
	Total int64  `json:"total_bytes"`
}

// ExportOptions says what of a snapshot is exported.
type ExportOptions struct {
	Kind  faas.SnapshotKind // fs: without memory
	Owner uint32            // the host's id of root in the sandboxes of its runtime
	// Done is told of bytes that were read; nil: nobody is.
	Done func(bytes int64, over bool)
}

// ImportOptions says what an imported snapshot may be and becomes.
type ImportOptions struct {
	Project string
	// Kind is fs (its files), full (refused unless memory is allowed), or auto:
	// with memory where that is allowed, else its files.
	Kind faas.SnapshotKind
	// Memory allows it for streams signed by one of Trusted.
	Memory  bool
	Trusted []ed25519.PublicKey
	// Owner returns the host's id of root in the sandboxes of a runtime.
	Owner func(faas.Runtime) uint32
	// Accept refuses a snapshot for what its manifest says, which it may
	// change in what anybody may say of it; nil: none is refused.
	Accept func(*Manifest) error
	// MaxBytes bounds the stream and what it unpacks to, each.
	MaxBytes int64
	Done     func(bytes int64, over bool)
}

// Holding is a snapshot with what it takes of the disk.
type Holding struct {
	Manifest *Manifest
	Placement
	Leased bool
	Used   time.Time // when it was last leased, or made
	// Removed ones are kept for those that lie on them.
	Removed bool
}

// Options configures a Store.
type Options struct {
	Logger *slog.Logger // nil: discard
	Cold   *chunk.Store // nil: snapshots are only hot
	// Forget is told, outside every lock, of each snapshot whose files are
	// gone for good; nil: nobody is.
	Forget func(*Manifest)
}
