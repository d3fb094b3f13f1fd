// Package snapshot keeps saved states: their manifests, their lineage and
// their bytes.
//
// # What a snapshot is
//
// A snapshot is an immutable saved state of a sandbox. Its fs part is one
// overlay layer: what the sandbox changed on top of what it was started from.
// Together with the layers of the snapshots below it and the image at the
// bottom it is the whole file system. A full snapshot has a memory part
// besides: the files in which the runtime keeps memory and processes; the
// store carries them without looking inside.
//
// # Durability
//
// A snapshot is made in a Draft, a directory that no reader sees. Commit syncs
// it, writes the manifest, and renames it into place: a crash at any point
// leaves the whole snapshot or none of it. What a crash leaves aside is
// removed when the store is opened again, by whoever opens it: several
// processes may share one store, and each touches only the drafts of owners
// that are dead.
//
// # Lineage and deletion
//
// Every snapshot names its parent: the state that came before it. Remove
// refuses while others descend from a snapshot. What its layer lies on is
// another matter: a sandbox that was saved twice has both layers on what it
// was started from. The files of a removed snapshot stay for as long as
// another's layers name them, or someone who uses them holds a lease.
package snapshot

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// Manifest describes one snapshot. It is immutable once committed, but for the
// fields of Annotations.
type Manifest struct {
	Version     int               `json:"version"` // of this form; see formatVersion
	ID          string            `json:"id"`
	Project     string            `json:"project"`
	Kind        faas.SnapshotKind `json:"kind"`
	Runtime     faas.Runtime      `json:"runtime"`
	ParentID    string            `json:"parent_id,omitempty"`   // the snapshot that the sandbox was started from
	InstanceID  string            `json:"instance_id,omitempty"` // the sandbox that it was taken of
	Image       string            `json:"image"`
	ImageDigest string            `json:"image_digest"`
	CreatedAt   time.Time         `json:"created_at"`
	SizeBytes   int64             `json:"size_bytes"`             // of its own files, as a reader sees them
	MemoryBytes int64             `json:"memory_bytes,omitempty"` // of them, those of its memory part
	// Hidden ones are in nobody's list: states that instances were stopped in
	// or forked from. Whoever made one removes it with Drop.
	Hidden bool `json:"hidden,omitempty"`
	// Layers names the snapshots whose fs parts are stacked above the image,
	// topmost first, this one included.
	Layers []string `json:"layers"`
	// Spec is what the sandbox was made of; a restore starts from it.
	Spec faas.Spec `json:"spec"`
	// Requires is what a machine must have to restore the memory part.
	Requires driver.Requirements `json:"requires"`
	// Driver belongs to the runtime's driver.
	Driver json.RawMessage `json:"driver,omitempty"`

	Annotations
}

// Annotations are what may change on a committed snapshot.
type Annotations struct {
	Name        string            `json:"name,omitempty"`
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
}

// formatVersion is the newest manifest form that this code writes and the
// only one it reads so far.
const formatVersion = 1

// IdentityPath says whether a path holds who one sandbox is. Every sandbox
// differs in those and is given its own at a restore, so a merge keeps base's.
func IdentityPath(p string) bool {
	return p == "/etc/machine-id" || p == "/run/faas" || strings.HasPrefix(p, "/run/faas/")
}
