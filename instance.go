package faas

import "time"

// InstanceStatus is where an instance stands.
//
//	creating ─→ running ─→ pausing ─→ paused ─→ resuming ─→ running
//	            running, paused ─→ stopping ─→ stopped ─→ starting ─→ running
//	            running, paused ─→ failed ─→ starting
//	            any but creating ─→ deleting ─→ gone
//
// One that was paused or stopped because it was idle is asleep: the next command
// in it, or connection to it, wakes it on the same edges.
//
// A transition that fails, or that the daemon's death cut short, leads back to
// where it began. An instance whose sandbox ended by itself is failed; starting
// it begins again from what it was last made of.
type InstanceStatus string

// The first four last until someone asks for something else, the others until
// what was asked is done.
const (
	InstanceRunning  InstanceStatus = "running"
	InstancePaused   InstanceStatus = "paused"  // its processes stand still and keep their memory
	InstanceStopped  InstanceStatus = "stopped" // files only
	InstanceFailed   InstanceStatus = "failed"
	InstanceCreating InstanceStatus = "creating"
	InstancePausing  InstanceStatus = "pausing"
	InstanceResuming InstanceStatus = "resuming"
	InstanceStopping InstanceStatus = "stopping"
	InstanceStarting InstanceStatus = "starting"
	InstanceDeleting InstanceStatus = "deleting"
)

// InstanceStatuses lists every status.
func InstanceStatuses() []InstanceStatus {
	return []InstanceStatus{
		InstanceRunning, InstancePaused, InstanceStopped, InstanceFailed, InstanceCreating,
		InstancePausing, InstanceResuming, InstanceStopping, InstanceStarting, InstanceDeleting,
	}
}

// Instance is a sandbox that lives until told otherwise.
type Instance struct {
	ID         string            `json:"id"` // inst-…
	Project    string            `json:"project"`
	Name       string            `json:"name,omitempty"` // unique among the project's instances
	Status     InstanceStatus    `json:"status"`
	Error      string            `json:"error,omitempty"` // why it is failed
	Image      string            `json:"image"`
	Runtime    Runtime           `json:"runtime"`
	Resources  Resources         `json:"resources"`
	Network    NetworkPolicy     `json:"network"`
	Labels     map[string]string `json:"labels,omitempty"`
	SnapshotID string            `json:"snapshot_id,omitempty"` // that it was made of or, later, last saved as
	BranchID   string            `json:"branch_id,omitempty"`   // whose head its snapshots become
	Degraded   string            `json:"degraded,omitempty"`    // what is weaker than asked, and why
	CreatedBy  string            `json:"created_by,omitempty"`  // API key, whose quota it counts for
	CreatedAt  time.Time         `json:"created_at"`
	StartedAt  *time.Time        `json:"started_at,omitempty"` // of the present sandbox
	ExpiresAt  *time.Time        `json:"expires_at,omitempty"` // when it is deleted
	// IdleTimeoutMS is after how long without a command in it or a connection to
	// it, in milliseconds, OnIdle is done to it; 0: never.
	IdleTimeoutMS int64      `json:"idle_timeout_ms,omitempty"`
	OnIdle        IdleAction `json:"on_idle,omitempty"`
	Asleep        bool       `json:"asleep,omitempty"`       // paused or stopped because it was idle
	SSHDisabled   bool       `json:"ssh_disabled,omitempty"` // the SSH server does not know it
	// Reseeded says what became of the random generators in the memory of the
	// processes that a full snapshot brought back; see Entropy.
	Reseeded []Reseeded `json:"reseeded,omitempty"`
	// Hooks are the on-restore hooks that ran in it.
	Hooks []Hook `json:"hooks,omitempty"`
}

// IdleAction is what becomes of an instance that nobody uses. What its
// processes do by themselves does not count as use.
type IdleAction string

// IdlePause, the default, lets its processes stand still in memory; IdleStop
// keeps its files only.
const (
	IdlePause IdleAction = "pause"
	IdleStop  IdleAction = "stop"
)

// Reseeded is what happened to one generator in the memory of one process.
type Reseeded struct {
	PID     int    `json:"pid"` // inside
	Command string `json:"command"`
	Library string `json:"library,omitempty"` // the mapped file that holds it
	Method  string `json:"method"`
	Done    bool   `json:"done"`
	Reason  string `json:"reason,omitempty"` // why it could not be reached
}

// Hook is the outcome of one on-restore hook.
type Hook struct {
	Path     string `json:"path"`
	ExitCode int    `json:"exit_code"`
	Output   string `json:"output,omitempty"` // its beginning
}

// Entropy says what a restore does about processes whose random generators
// could not be renewed: their numbers would repeat in every copy.
type Entropy string

// EntropyReport, the default, names them in the answer. EntropyStrict refuses
// the restore.
const (
	EntropyReport Entropy = "report"
	EntropyStrict Entropy = "strict"
)

// InstanceRequest asks for an instance. What it leaves at zero comes from the
// snapshot that it starts from, or else from the configuration.
type InstanceRequest struct {
	Project string // tenant; DefaultProject when empty
	KeyID   string // API key that asks; empty: none
	// Image or From, not both: From is a snapshot, a branch (id or name), an
	// instance, or an execution that left a state. With neither it is the
	// configured default image.
	Image         string
	From          string
	Name          string
	Runtime       Runtime // empty: RuntimeAuto, or that of the snapshot
	Resources     Resources
	Env           map[string]string // of every command; on top of the snapshot's own
	Network       *NetworkPolicy    // nil: none, or that of the snapshot
	TTL           time.Duration     // after which it is deleted; 0: never
	IdleTimeout   time.Duration     // at least MinIdleTimeout; 0: never
	OnIdle        IdleAction        // empty: IdlePause
	Labels        map[string]string
	AllowDegraded bool
	Entropy       Entropy // empty: EntropyReport
	DisableSSH    bool    // keep the SSH server from it
}

// MinIdleTimeout is the shortest idle time-out: below it instances would sleep
// between the commands of one script.
const MinIdleTimeout = time.Second

// InstanceUpdate changes an instance. What is nil stays as it is.
type InstanceUpdate struct {
	Name        *string
	Labels      map[string]string
	TTL         *time.Duration // from now on; 0: it lives until told otherwise
	IdleTimeout *time.Duration // 0: never
	OnIdle      IdleAction     // empty: as it is
}

// InstanceFilter selects instances; a zero field selects all.
type InstanceFilter struct {
	Status InstanceStatus
	Name   string
	Labels map[string]string // all of them
	Limit  int               // 1 to 1000; 0: 50
	Cursor string            // of the page before
}

// Snapshot is an immutable saved state.
type Snapshot struct {
	ID          string            `json:"id"` // snap-…
	Project     string            `json:"project"`
	Name        string            `json:"name,omitempty"`
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Kind        SnapshotKind      `json:"kind"`
	Runtime     Runtime           `json:"runtime"`
	ParentID    string            `json:"parent_id,omitempty"`
	InstanceID  string            `json:"instance_id,omitempty"`
	Image       string            `json:"image"`
	ImageDigest string            `json:"image_digest"`
	Resources   Resources         `json:"resources"` // of the sandbox that it was taken of
	CreatedAt   time.Time         `json:"created_at"`
	SizeBytes   int64             `json:"size_bytes"`   // of its own files, as a reader sees them
	MemoryBytes int64             `json:"memory_bytes"` // of them, those that hold memory and processes
	// Depth is how many file layers it is made of above its image.
	Depth int `json:"depth"`
	// Tier says where its bytes are: hot, where restores take them from, cold,
	// or hot+cold.
	Tier SnapshotTier `json:"tier"`
	// StoredBytes is what its cold copy took that no earlier one had stored.
	StoredBytes int64         `json:"stored_bytes"`
	Move        *SnapshotMove `json:"move,omitempty"` // under way between the tiers
	// PauseMS is how long the source's processes stood still; only in the
	// answer to its making.
	PauseMS float64 `json:"pause_ms,omitempty"`
}

// SnapshotTier says where a snapshot's bytes are.
type SnapshotTier string

// The tiers. Hot bytes are what a restore maps or copies; a cold copy is
// compressed, deduplicated and verified when it is read.
const (
	TierHot  SnapshotTier = "hot"
	TierCold SnapshotTier = "cold"
	TierBoth SnapshotTier = "hot+cold"
)

// SnapshotMove is how far a snapshot is on its way between the tiers.
type SnapshotMove struct {
	Phase string `json:"phase"` // archive or fetch
	Done  int64  `json:"done_bytes"`
	Total int64  `json:"total_bytes"`
}

// SnapshotProblem is something wrong with a snapshot's bytes.
type SnapshotProblem struct {
	SnapshotID string `json:"snapshot_id"`
	Tier       string `json:"tier"`           // hot or cold
	Path       string `json:"path,omitempty"` // of the file that is concerned, as the snapshot keeps it
	Detail     string `json:"detail"`
}

// ImportOptions says what an imported snapshot may be and how it is called.
type ImportOptions struct {
	// Kind is fs, full or auto (also ""): with memory where that is allowed,
	// else its files.
	Kind SnapshotKind
	// Memory says that who imports may bring memory in: whoever does decides
	// credentials, paths and programs of what is restored. It must be signed
	// by a trusted key besides.
	Memory bool
	// Name and Labels, when set, stand in for its own.
	Name   string
	Labels map[string]string
}

// SnapshotRequest says how a snapshot is taken. The zero value takes the best
// kind that the instance's runtime can.
type SnapshotRequest struct {
	Kind        SnapshotKind // empty: SnapshotAuto
	Name        string
	Description string
	Labels      map[string]string
}

// SnapshotFilter selects snapshots; a zero field selects all.
type SnapshotFilter struct {
	Name       string
	Labels     map[string]string // all of them
	ParentID   string
	InstanceID string
	Kind       SnapshotKind
	Limit      int    // 1 to 1000; 0: 50
	Cursor     string // of the page before
}

// SnapshotNode is a snapshot with what descends from it.
type SnapshotNode struct {
	Snapshot
	Branches []string        `json:"branches,omitempty"` // names of the branches of which it is the head
	Children []*SnapshotNode `json:"children,omitempty"`
}

// SnapshotChange is one path that differs between two snapshots.
type SnapshotChange struct {
	Path    string `json:"path"`   // absolute, as seen inside
	Change  string `json:"change"` // added, changed or removed
	OldSize int64  `json:"old_size_bytes"`
	NewSize int64  `json:"new_size_bytes"`
}

// SnapshotDiff is how one snapshot differs from another.
type SnapshotDiff struct {
	From    string           `json:"from"` // empty: the image
	To      string           `json:"to"`
	Changes []SnapshotChange `json:"changes"`
	// Sizes in bytes of what holds memory and processes; 0 without.
	OldMemory int64 `json:"old_memory_bytes"`
	NewMemory int64 `json:"new_memory_bytes"`
}

// Branch is a named head in the tree of snapshots. It moves on when an
// instance that was made from it is saved, or an execution continues it in
// mode checkpointed.
type Branch struct {
	ID        string    `json:"id"` // br-…
	Project   string    `json:"project"`
	Name      string    `json:"name"` // unique in the project
	Head      string    `json:"head_snapshot_id"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// MergeStrategy says what a merge does with changes that branches do not
// share.
type MergeStrategy string

// The strategies: MergeUnion takes every branch's changes and refuses when two
// changed one path differently; MergeIntersection keeps what all changed
// alike; MergeLatest lets the newer branch win.
const (
	MergeUnion        MergeStrategy = "union"
	MergeIntersection MergeStrategy = "intersection"
	MergeLatest       MergeStrategy = "latest"
)

// MergeConflict is a path that branches changed differently.
type MergeConflict struct {
	Path     string   `json:"path"`
	Branches []string `json:"branches"` // as the request named them
}

// Merged is the outcome of a merge. Under MergeUnion with conflicts there is
// no snapshot.
type Merged struct {
	Snapshot  *Snapshot       `json:"snapshot,omitempty"`
	Conflicts []MergeConflict `json:"conflicts,omitempty"`
}

// ForkRequest asks for copies of one state.
type ForkRequest struct {
	Project string
	From    string // an instance, snapshot, branch or execution
	// Count copies, or one for each of Variants: requests whose From and Image
	// are empty. With both, Count must be their number.
	Count    int
	Variants []InstanceRequest
}

// Forked is one copy, or why there is none.
type Forked struct {
	Instance *Instance
	Err      error
	// PauseMS is how long the source's processes stood still for all copies; 0
	// when it had none.
	PauseMS float64
}

// ForkedExecution is what became of one command that ran in a copy.
type ForkedExecution struct {
	Result  *Result
	Err     error
	PauseMS float64 // as in Forked
}
