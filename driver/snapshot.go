package driver

import (
	"context"
	"encoding/json"
	"time"

	"github.com/faas-platform/faas"
)

// Snapshotter is implemented by sandboxes whose state can be saved. Which
// kinds work on this machine Probe tells (FeatureSnapshotFS,
// FeatureSnapshotFull).
//
// The source goes on afterwards, whatever happened. Before a full snapshot the
// caller has made the agent end its host connections (guest.Client.Quiesce);
// the driver saves the sandbox with nothing of the host's open in it.
type Snapshotter interface {
	// Snapshot writes the sandbox's state below the two directories, which are
	// empty: the overlay layer of its changes into files, and for a full
	// snapshot what memory and processes need into memory. It does not sync;
	// who keeps the snapshot does. A runtime that keeps file states elsewhere
	// (an engine's own store) leaves files empty and says where in Saved.Data.
	Snapshot(ctx context.Context, kind faas.SnapshotKind, files, memory string) (Saved, error)
}

// Saved describes what Snapshot wrote.
type Saved struct {
	Pause    time.Duration   // how long the source's processes stood still
	Requires Requirements    // what a machine must have to restore it
	Data     json.RawMessage // the driver's own
	// Covers is how many of the layers that the sandbox was restored from,
	// from the top, the saved layer repeats: a restore is given it without them.
	Covers int
}

// Requirements are checked before a restore, so that what does not fit is
// refused with a reason and never fails half way.
type Requirements struct {
	Architecture string            `json:"architecture,omitempty"`
	Kernel       string            `json:"kernel,omitempty"`       // release at the time
	CPUFeatures  []string          `json:"cpu_features,omitempty"` // that programs may have found and use
	Tool         string            `json:"tool,omitempty"`         // what wrote the memory part: "criu 4.2.1"
	Agent        string            `json:"agent,omitempty"`        // digest of the agent's binary
	MappedFiles  map[string]string `json:"mapped_files,omitempty"` // the host's files that are mapped → build id or digest
}

// State is a saved state to restore from.
type State struct {
	Kind     faas.SnapshotKind
	Layers   []string // overlay layers above the image, topmost first
	Memory   string   // what Snapshot wrote there; empty for an fs state
	Requires Requirements
	Data     json.RawMessage // Saved.Data; nil for files that were merged or came from elsewhere
}

// Restorer is implemented by drivers that make sandboxes from saved states.
type Restorer interface {
	// CheckRestore says with KindFailedPrecondition why this machine cannot
	// restore a state, and nil when it can. It starts nothing.
	CheckRestore(ctx context.Context, from State) error
	// Restore makes a new sandbox from a state. The spec is whole: size,
	// environment, network and identity are its own, not the source's.
	//
	// A sandbox with memory is restored with every process stopped. The
	// driver lets the agent run, calls prepare, and lets the rest go on when
	// that has returned nil: prepare gives the sandbox its identity, secrets
	// and entropy through the agent. After an error nothing remains.
	Restore(ctx context.Context, from State, spec faas.Spec, prepare func(context.Context, Sandbox) error) (Sandbox, error)
}

// AheadRestorer is implemented by Restorers that can do the slower part of a
// restore before it is asked for.
type AheadRestorer interface {
	Restorer
	// RestoreAhead makes what restoring a state with memory to a sandbox of
	// this spec takes before its memory is read. Restore with the same state
	// and the spec's id uses it up, whatever else it then asks for; with a spec
	// that it does not fit it starts anew. It takes some memory, and lasts
	// until it is used, discarded, or the driver is closed. A runtime or spec
	// for which nothing can be done ahead gets KindCapabilityUnavailable.
	RestoreAhead(ctx context.Context, from State, spec faas.Spec) (discard func(context.Context) error, err error)
}

// Shifted is implemented by drivers whose layers hold files of owners that are
// not those inside: the host's id of root in them is FileOwner, and 65,536 ids
// follow from there.
type Shifted interface{ FileOwner() uint32 }

// Elsewhere is implemented by drivers that may keep files of a state outside
// its layers.
type Elsewhere interface {
	// InLayers says with KindCapabilityUnavailable why the layers of the state
	// with this data (Saved.Data) do not hold all of its files.
	InLayers(data json.RawMessage) error
}

// Layered is implemented by drivers whose images are directories, which
// comparing and merging file states needs: what a layer removes or changes of
// the image is known only beside it.
type Layered interface {
	// ImageLayers returns the image's directories, topmost first, which stay
	// until release is called or the process ends.
	ImageLayers(ctx context.Context, image string) (layers []string, release func(), err error)
}

// Forgetter is implemented by drivers that keep something of a saved state
// outside the directories that Snapshot wrote: an image of an engine, an agent
// that the state maps. Who keeps the snapshots tells them when one is gone.
type Forgetter interface {
	// Forget removes what is kept of the state with this data (Saved.Data),
	// which nobody will restore any more. What a sandbox still uses goes with
	// a later call. It may be called for any data, and more than once.
	Forget(ctx context.Context, data json.RawMessage) error
	// ForgetOthers removes what is kept of states whose data are not among
	// those named, which must be all that there are: after a restart, for
	// what a crash left between a state and its record. States that living
	// processes, this one included, have saved since they started stay.
	ForgetOthers(ctx context.Context, named []json.RawMessage) error
}
