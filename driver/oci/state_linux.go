package oci

import (
	"errors"
	"io/fs"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/driver/workspace"
	"github.com/faas-platform/faas/network"
)

// Names below Options.Dir, besides those of the workspace.
const (
	agentsDir = "agents"
	emptyDir  = "empty" // what a sandbox that was not restored has for shared memory
)

// record is what is known of a sandbox on disk. It is written before anything
// is made, and again when the process is known.
type record struct {
	ID        string    `json:"id"`
	Owner     string    `json:"owner"`
	Launcher  string    `json:"launcher"`
	CreatedAt time.Time `json:"created_at"`
	Spec      faas.Spec `json:"spec"`
	Secret    []byte    `json:"secret"`
	Process   pidfd.ID  `json:"process"`
	Layer     string    `json:"layer"` // kind of the writable layer
	// Mounts are those of the configuration below the root; Agent is the
	// digest of the agent that runs.
	Mounts []specs.Mount `json:"mounts"`
	Agent  string        `json:"agent"`
	Ready  bool          `json:"ready"` // Create has returned it
	// Network is the sandbox's connection; nil: none was made.
	Network *network.Attachment `json:"network,omitempty"`
	// Of gVisor's sandboxes. Proof is what a restored agent shows at the door,
	// which it made of its source's first secret; nil: of Secret. Layers are
	// those of the state that it was restored from, topmost first; the first
	// Held of them are in the memory of gVisor's kernel too. Still says that
	// its processes may have been stopped for a snapshot.
	Proof  []byte   `json:"proof,omitempty"`
	Layers []string `json:"layers,omitempty"`
	Held   int      `json:"held,omitempty"`
	Still  bool     `json:"still,omitempty"`
}

// SandboxID returns the id.
func (r *record) SandboxID() string { return r.ID }

// OwnerID returns whose the sandbox is.
func (r *record) OwnerID() string { return r.Owner }

// SetOwner makes the sandbox somebody's.
func (r *record) SetOwner(owner string) { r.Owner = owner }

// sandboxes is where the records of a driver are kept.
type sandboxes = workspace.Workspace[record, *record]

func openWorkspace(dir string) (*sandboxes, error) {
	return workspace.Open[record](dir, agentsDir, emptyDir)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
