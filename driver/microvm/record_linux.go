package microvm

import (
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/driver/workspace"
)

// record is what is known of a machine on disk. It is written before anything
// is made, and again when the process is known.
type record struct {
	ID        string    `json:"id"`
	Owner     string    `json:"owner"`
	CreatedAt time.Time `json:"created_at"`
	Spec      faas.Spec `json:"spec"`
	Secret    []byte    `json:"secret"`
	Process   pidfd.ID  `json:"process"`
	Machine   hardware  `json:"machine"`
	Ready     bool      `json:"ready"` // Create has returned it
	// Still says that the machine, or the processes in it, may have been
	// stopped for a snapshot.
	Still bool `json:"still,omitempty"`
}

// hardware is what a state of a machine fits to.
type hardware struct {
	Accel    string `json:"accel"`
	Cores    int    `json:"cores"`
	MemoryMB int64  `json:"memory_mb"`
	Kernel   string `json:"kernel"`  // path
	Initial  string `json:"initial"` // path
	// Lower are the files of the read-only layers, topmost first.
	Lower    []string `json:"lower"`
	Writable bool     `json:"writable"`
}

// SandboxID returns the id.
func (r *record) SandboxID() string { return r.ID }

// OwnerID returns whose the sandbox is.
func (r *record) OwnerID() string { return r.Owner }

// SetOwner makes the sandbox somebody's.
func (r *record) SetOwner(owner string) { r.Owner = owner }

type sandboxes = workspace.Workspace[record, *record]

// Names below Options.Dir, besides those of the workspace.
const (
	kernelsDir = "kernels" // as kernels are installed
	initialDir = "initial" // initial file systems, by kernel and agent
	basesDir   = "bases"   // layers as squashfs, by content
	disksDir   = "disks"   // empty disks, by size
)

// Names in a machine's directory.
const (
	configFile = "config"
	diskFile   = "disk"
	outputFile = "output" // of QEMU
)

func openWorkspace(dir string) (*sandboxes, error) {
	return workspace.Open[record](dir, kernelsDir, initialDir, basesDir, disksDir)
}
