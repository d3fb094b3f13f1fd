package api

import (
	"time"

	"github.com/faas-platform/faas"
)

// PathSnapshots is the path of the snapshots; below it are those of one.
const PathSnapshots = "/api/v1/snapshots"

// SnapshotSettings say what a snapshot is and how it is called.
type SnapshotSettings struct {
	Name        string            `json:"name,omitempty" maxLength:"128" doc:"Names need not be unique." example:"warm"`
	Description string            `json:"description,omitempty" maxLength:"4096"`
	Kind        faas.SnapshotKind `json:"kind,omitempty" enum:"auto,fs,full" doc:"fs: files; full: files, memory and processes; auto (default): the best that the runtime can."`
	Labels      map[string]string `json:"labels,omitempty" doc:"To find it by."`
}

// SnapshotRequest asks for a snapshot of an instance, or of an image.
type SnapshotRequest struct {
	InstanceID  string       `json:"instance_id,omitempty" doc:"The instance to save; it goes on."`
	ContainerID string       `json:"container_id,omitempty" alias:"instance_id" doc:"Alias of instance_id, for older clients."`
	Image       string       `json:"image,omitempty" doc:"In the place of an instance: a file snapshot of this image as it is."`
	Runtime     faas.Runtime `json:"runtime,omitempty" enum:"auto,docker,native,gvisor,firecracker,qemu" doc:"With image: what is to restore it. Default: auto."`
	SnapshotSettings
}

// SnapshotUpdate changes what a snapshot is called; what is absent stays.
type SnapshotUpdate struct {
	Name        *string           `json:"name,omitempty" maxLength:"128"`
	Description *string           `json:"description,omitempty" maxLength:"4096"`
	Labels      map[string]string `json:"labels,omitempty" doc:"In the place of those that it has; {} removes them."`
}

// Snapshot is an immutable saved state.
type Snapshot struct {
	ID           string             `json:"id" example:"snap-0c7v4g6k1w0003f9a2m5d8r1t6"`
	SnapshotID   string             `json:"snapshot_id" doc:"The same as id."`
	CheckpointID string             `json:"checkpoint_id" doc:"The same as id, for older clients."`
	Name         string             `json:"name" doc:"Empty: it has none."`
	Description  string             `json:"description"`
	Labels       map[string]string  `json:"labels"`
	Kind         faas.SnapshotKind  `json:"kind" enum:"fs,full"`
	Runtime      faas.Runtime       `json:"runtime" example:"native"`
	ParentID     string             `json:"parent_id,omitempty" doc:"The snapshot that its source was made of or last saved as."`
	InstanceID   string             `json:"instance_id,omitempty" doc:"Its source."`
	ContainerID  string             `json:"container_id,omitempty" doc:"The same as instance_id, for older clients."`
	Image        string             `json:"image" example:"host"`
	ImageDigest  string             `json:"image_digest"`
	Resources    Resources          `json:"resources" doc:"Of its source."`
	CreatedAt    time.Time          `json:"created_at"`
	SizeBytes    int64              `json:"size_bytes" doc:"Of its own files: what it holds besides its parents."`
	MemoryBytes  int64              `json:"memory_bytes" doc:"Of them, those that hold memory and processes."`
	StoredBytes  int64              `json:"stored_bytes" doc:"What it takes now, in both tiers together; of its cold copy what no earlier one had stored."`
	Depth        int                `json:"depth" doc:"File layers above its image."`
	Tier         faas.SnapshotTier  `json:"tier" enum:"hot,cold,hot+cold" doc:"Where its bytes are: hot, where restores take them from, or cold, from where they are brought back first."`
	Move         *faas.SnapshotMove `json:"move,omitempty" doc:"Under way between the tiers: archive or fetch, and how far."`
	PauseMS      float64            `json:"pause_ms,omitempty" doc:"In the answer to its making: how long its source stood still."`
}

// NewSnapshot puts a snapshot into the form of the wire.
func NewSnapshot(s *faas.Snapshot) *Snapshot {
	labels := s.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	stored := s.StoredBytes
	if s.Tier != faas.TierCold {
		stored += s.SizeBytes
	}
	return &Snapshot{
		ID: s.ID, SnapshotID: s.ID, CheckpointID: s.ID, Name: s.Name, Description: s.Description, Labels: labels,
		Kind: s.Kind, Runtime: s.Runtime, ParentID: s.ParentID, InstanceID: s.InstanceID, ContainerID: s.InstanceID,
		Image: s.Image, ImageDigest: s.ImageDigest, Resources: NewResources(s.Resources), CreatedAt: s.CreatedAt,
		SizeBytes: s.SizeBytes, MemoryBytes: s.MemoryBytes, StoredBytes: stored, Depth: s.Depth, Tier: s.Tier, Move: s.Move, PauseMS: s.PauseMS,
	}
}

// SnapshotList is one page of snapshots, newest first.
type SnapshotList struct {
	Snapshots  []*Snapshot `json:"snapshots"`
	NextCursor string      `json:"next_cursor" doc:"Cursor of the next page; empty at the end."`
}

// SnapshotNode is a snapshot with what descends from it.
type SnapshotNode struct {
	Snapshot
	Branches []string        `json:"branches" doc:"Names of the branches of which it is the head."`
	Children []*SnapshotNode `json:"children"`
}

// NewSnapshotNodes puts trees into the form of the wire.
func NewSnapshotNodes(nodes []*faas.SnapshotNode) []*SnapshotNode {
	list := make([]*SnapshotNode, 0, len(nodes))
	for _, n := range nodes {
		branches := n.Branches
		if branches == nil {
			branches = []string{}
		}
		list = append(list, &SnapshotNode{Snapshot: *NewSnapshot(&n.Snapshot), Branches: branches, Children: NewSnapshotNodes(n.Children)})
	}
	return list
}

// SnapshotTree is a forest of snapshots, oldest first.
type SnapshotTree struct {
	Roots []*SnapshotNode `json:"roots"`
}

// SnapshotExecRequest runs a command in a sandbox that starts from a snapshot.
type SnapshotExecRequest struct {
	ExecRequest
	CPUCores      float64             `json:"cpu_cores,omitempty" doc:"Cores, fractions allowed. Default, as of the other limits: as the snapshot's source."`
	MemoryMB      int64               `json:"memory_mb,omitempty" minimum:"1" doc:"MiB of memory."`
	DiskMB        int64               `json:"disk_mb,omitempty" minimum:"1" doc:"MiB of the writable layer."`
	PIDs          int64               `json:"pids,omitempty" minimum:"1" doc:"Processes and threads."`
	Network       *faas.NetworkPolicy `json:"network,omitempty" doc:"What the sandbox may reach: an object, or the bare mode as a string. Default: as the snapshot's source."`
	AllowDegraded bool                `json:"allow_degraded,omitempty" doc:"Accept a weaker substitute, named in the answer."`
	Entropy       faas.Entropy        `json:"entropy,omitempty" enum:"report,strict" doc:"What to do about processes whose random generators cannot be renewed."`
}
