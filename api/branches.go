package api

import (
	"time"

	"github.com/faas-platform/faas"
)

// Paths of the branches.
const (
	PathBranches      = "/api/v1/branches"
	PathBranchesMerge = "/api/v1/branches/merge"
)

// BranchRequest names a snapshot the head of a new branch.
type BranchRequest struct {
	BranchName       string `json:"branch_name,omitempty" maxLength:"128" doc:"Required. Unique in the project." example:"main"`
	Name             string `json:"name,omitempty" alias:"branch_name" maxLength:"128" doc:"Alias of branch_name."`
	ParentSnapshotID string `json:"parent_snapshot_id,omitempty" doc:"Required: the snapshot; or a branch, an execution, or an instance, which is saved for it and whose snapshots then move the branch on."`
	SnapshotID       string `json:"snapshot_id,omitempty" alias:"parent_snapshot_id" doc:"Alias of parent_snapshot_id."`
}

// Branch is a named head in the tree of snapshots.
type Branch struct {
	ID             string    `json:"id" example:"br-0c7v4g6k1w0003f9a2m5d8r1t6"`
	BranchID       string    `json:"branch_id" doc:"The same as id."`
	Name           string    `json:"name"`
	BranchName     string    `json:"branch_name" doc:"The same as name."`
	HeadSnapshotID string    `json:"head_snapshot_id"`
	CreatedAt      time.Time `json:"created_at"`
	UpdatedAt      time.Time `json:"updated_at" doc:"When its head moved last."`
}

// NewBranch puts a branch into the form of the wire.
func NewBranch(b *faas.Branch) *Branch {
	return &Branch{
		ID: b.ID, BranchID: b.ID, Name: b.Name, BranchName: b.Name, HeadSnapshotID: b.Head,
		CreatedAt: b.CreatedAt, UpdatedAt: b.UpdatedAt,
	}
}

// BranchList are the project's branches by name.
type BranchList struct {
	Branches []*Branch `json:"branches"`
}

// MergeRequest merges the files of branches.
type MergeRequest struct {
	BranchIDs     []string           `json:"branch_ids" minItems:"2" maxItems:"32" doc:"Branches by id or name, or snapshots."`
	MergeStrategy faas.MergeStrategy `json:"merge_strategy,omitempty" enum:"union,intersection,latest" doc:"union (default) takes all changes and refuses when two changed a path differently, intersection keeps what all changed alike, latest lets the newer win."`
	Strategy      faas.MergeStrategy `json:"strategy,omitempty" alias:"merge_strategy" enum:"union,intersection,latest" doc:"Alias of merge_strategy."`
	Name          string             `json:"name,omitempty" maxLength:"128" doc:"Of the snapshot that results."`
	Description   string             `json:"description,omitempty" maxLength:"4096"`
	Labels        map[string]string  `json:"labels,omitempty"`
}

// MergeResponse is the outcome of a merge.
type MergeResponse struct {
	MergedID   string               `json:"merged_id" doc:"The snapshot that results, of kind fs."`
	SnapshotID string               `json:"snapshot_id" doc:"The same as merged_id."`
	Snapshot   *Snapshot            `json:"snapshot"`
	Conflicts  []faas.MergeConflict `json:"conflicts" doc:"Paths that were changed differently, and that the strategy settled."`
}
