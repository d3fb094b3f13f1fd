package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Snapshots are the saved states.
type Snapshots struct{ c *Client }

// SnapshotFilter says which snapshots are listed; what is empty does not
// matter.
type SnapshotFilter struct {
	ListOptions
	Name       string            `json:"name,omitempty"`
	Label      string            `json:"label,omitempty"` // name=value
	Parent     string            `json:"parent,omitempty"`
	InstanceID string            `json:"instance_id,omitempty"`
	Kind       faas.SnapshotKind `json:"kind,omitempty"`
}

// CreateSnapshot saves an instance, or an image as it is.
func (c *Client) CreateSnapshot(ctx context.Context, request api.SnapshotRequest) (*api.Snapshot, error) {
	return c.Snapshots.Create(ctx, request)
}

// Create saves an instance, or an image as it is.
func (s *Snapshots) Create(ctx context.Context, request api.SnapshotRequest) (*api.Snapshot, error) {
	return create[api.Snapshot](ctx, s.c, api.PathSnapshots, request)
}

// Get returns one snapshot.
func (s *Snapshots) Get(ctx context.Context, id string) (*api.Snapshot, error) {
	return get[api.Snapshot](ctx, s.c, pathOf(api.PathSnapshots, id, ""), nil)
}

// List yields every snapshot, newest first.
func (s *Snapshots) List(ctx context.Context, filter SnapshotFilter) iter.Seq2[*api.Snapshot, error] {
	query := values("name", filter.Name, "label", filter.Label, "parent", filter.Parent,
		"instance_id", filter.InstanceID, "kind", string(filter.Kind), "limit", filter.limit())
	return pages(ctx, s.c, api.PathSnapshots, query, func(p *api.SnapshotList) ([]*api.Snapshot, string) {
		return p.Snapshots, p.NextCursor
	})
}

// Update changes its name, description or labels.
func (s *Snapshots) Update(ctx context.Context, id string, changes api.SnapshotUpdate) (*api.Snapshot, error) {
	return call[api.Snapshot](ctx, s.c, http.MethodPatch, pathOf(api.PathSnapshots, id, ""), changes)
}

// Delete removes it; with cascade also what descends from it.
func (s *Snapshots) Delete(ctx context.Context, id string, cascade bool) error {
	query := ""
	if cascade {
		query = "?cascade=true"
	}
	_, err := call[api.Removed](ctx, s.c, http.MethodDelete, pathOf(api.PathSnapshots, id, query), nil)
	return err
}

// Restore returns an instance that continues from it.
func (s *Snapshots) Restore(ctx context.Context, id string, settings api.InstanceSettings) (*Instance, error) {
	return s.c.Instances.one(create[api.Instance](ctx, s.c, pathOf(api.PathSnapshots, id, "/restore"), settings))
}

// Exec runs a command from it; the result names the snapshot after it.
func (s *Snapshots) Exec(ctx context.Context, id string, request api.SnapshotExecRequest) (*api.ExecuteResponse, error) {
	result, err := create[api.ExecuteResponse](ctx, s.c, pathOf(api.PathSnapshots, id, "/exec"), request)
	if err != nil {
		return nil, err
	}
	return s.c.finish("", result), nil
}

// Diff lists the paths that it added, changed and removed, against its parent
// or, when it is not empty, another snapshot.
func (s *Snapshots) Diff(ctx context.Context, id, against string) (*faas.SnapshotDiff, error) {
	return get[faas.SnapshotDiff](ctx, s.c, pathOf(api.PathSnapshots, id, "/diff"), values("against", against))
}

// Tree shows what descends from it; without an id, the whole forest.
func (s *Snapshots) Tree(ctx context.Context, id string) (*api.SnapshotTree, error) {
	path := api.PathSnapshots + "/tree"
	if id != "" {
		path = pathOf(api.PathSnapshots, id, "/tree")
	}
	return get[api.SnapshotTree](ctx, s.c, path, nil)
}

// Branches are named heads in the tree of snapshots.
type Branches struct{ c *Client }

// Create names a snapshot the head of a new branch; a branch, execution or
// instance does as well.
func (b *Branches) Create(ctx context.Context, name, parent string) (*api.Branch, error) {
	return create[api.Branch](ctx, b.c, api.PathBranches, api.BranchRequest{BranchName: name, ParentSnapshotID: parent})
}

// Get returns one branch, by id or name.
func (b *Branches) Get(ctx context.Context, id string) (*api.Branch, error) {
	return get[api.Branch](ctx, b.c, pathOf(api.PathBranches, id, ""), nil)
}

// List yields every branch, by name.
func (b *Branches) List(ctx context.Context) iter.Seq2[*api.Branch, error] {
	return pages(ctx, b.c, api.PathBranches, values(), func(p *api.BranchList) ([]*api.Branch, string) { return p.Branches, "" })
}

// Delete removes a branch; its snapshots stay.
func (b *Branches) Delete(ctx context.Context, id string) error {
	_, err := call[api.Removed](ctx, b.c, http.MethodDelete, pathOf(api.PathBranches, id, ""), nil)
	return err
}

// Merge merges the files of branches into a new snapshot.
func (b *Branches) Merge(ctx context.Context, request api.MergeRequest) (*api.MergeResponse, error) {
	return create[api.MergeResponse](ctx, b.c, api.PathBranchesMerge, request)
}
