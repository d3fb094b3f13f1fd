package gateway

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Branches is what the gateway needs of branches.
type Branches interface {
	CreateBranch(ctx context.Context, project, name, from string) (*faas.Branch, error)
	Branch(ctx context.Context, project, ref string) (*faas.Branch, error)
	Branches(ctx context.Context, project string) ([]faas.Branch, error)
	DeleteBranch(ctx context.Context, project, ref string) error
	MergeBranches(ctx context.Context, project string, refs []string, strategy faas.MergeStrategy, req faas.SnapshotRequest) (*faas.Merged, error)
}

type branchInput struct {
	ID string `path:"id" maxLength:"128" doc:"Id of the branch, or its name." example:"main"`
}

func (g *Gateway) registerBranches() {
	op := func(id, method, path, summary, description string, failures ...int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Tags: []string{"branches"},
			Summary: summary, Description: description, Errors: failures}
	}
	handleBody(g, op("create-branch", http.MethodPost, api.PathBranches, "Name a snapshot the head of a new branch",
		"The head moves on when an instance made from the branch is saved, or an execution continues it in mode checkpointed.", changeErrors...),
		map[string]any{"main": map[string]any{"parent_snapshot_id": "snap-0c7v4g6k1w0003f9a2m5d8r1t6", "branch_name": "main"}}, exampleBranch(), g.createBranch)
	handle(g, op("list-branches", http.MethodGet, api.PathBranches, "List the project's branches by name", "", readErrors...),
		api.BranchList{Branches: []*api.Branch{exampleBranch()}}, g.listBranches)
	handle(g, op("get-branch", http.MethodGet, api.PathBranches+"/{id}", "Show one branch", "", readErrors...), exampleBranch(),
		func(ctx context.Context, in *branchInput) (*api.Branch, error) {
			return branchAnswer(g.opts.Executor.Branch(ctx, identity(ctx).Project, in.ID))
		})
	handle(g, op("delete-branch", http.MethodDelete, api.PathBranches+"/{id}", "Remove a branch; its snapshots stay", "", readErrors...),
		api.Removed{Removed: []string{"br-0c7v4g6k1w0003f9a2m5d8r1t6"}}, g.deleteBranch)
	handleBody(g, op("merge-branches", http.MethodPost, api.PathBranchesMerge, "Merge the files of branches three-way into a new snapshot",
		"Against their nearest common ancestor, or their image where they have none. Under union, paths that two changed differently refuse the merge with 409 and the list of them in conflicts.", changeErrors...),
		map[string]any{"two": map[string]any{"branch_ids": []string{"left", "right"}, "merge_strategy": "union"}},
		&api.MergeResponse{MergedID: exampleSnapshot().ID, SnapshotID: exampleSnapshot().ID, Snapshot: exampleSnapshot(), Conflicts: []faas.MergeConflict{}}, g.mergeBranches)
}

func branchAnswer(b *faas.Branch, err error) (*api.Branch, error) {
	if err != nil {
		return nil, err
	}
	return api.NewBranch(b), nil
}

func (g *Gateway) createBranch(ctx context.Context, _ *struct{}, body *api.BranchRequest) (*api.Branch, error) {
	for field, value := range map[string]string{"branch_name": body.BranchName, "parent_snapshot_id": body.ParentSnapshotID} {
		if value == "" {
			return nil, faas.InvalidField(field, "is required")
		}
	}
	return branchAnswer(g.opts.Executor.CreateBranch(ctx, identity(ctx).Project, body.BranchName, body.ParentSnapshotID))
}

func (g *Gateway) listBranches(ctx context.Context, _ *struct{}) (api.BranchList, error) {
	found, err := g.opts.Executor.Branches(ctx, identity(ctx).Project)
	list := api.BranchList{Branches: make([]*api.Branch, 0, len(found))}
	for i := range found {
		list.Branches = append(list.Branches, api.NewBranch(&found[i]))
	}
	return list, err
}

func (g *Gateway) deleteBranch(ctx context.Context, in *branchInput) (api.Removed, error) {
	project := identity(ctx).Project
	b, err := g.opts.Executor.Branch(ctx, project, in.ID)
	if err != nil {
		return api.Removed{}, err
	}
	return api.Removed{Removed: []string{b.ID}}, g.opts.Executor.DeleteBranch(ctx, project, b.ID)
}

func (g *Gateway) mergeBranches(ctx context.Context, _ *struct{}, body *api.MergeRequest) (*api.MergeResponse, error) {
	merged, err := g.opts.Executor.MergeBranches(ctx, identity(ctx).Project, body.BranchIDs, body.MergeStrategy,
		faas.SnapshotRequest{Name: body.Name, Description: body.Description, Labels: body.Labels})
	if err != nil {
		if merged != nil && len(merged.Conflicts) > 0 {
			err = &mergeError{err, merged.Conflicts}
		}
		return nil, err
	}
	conflicts := merged.Conflicts
	if conflicts == nil {
		conflicts = []faas.MergeConflict{}
	}
	return &api.MergeResponse{
		MergedID: merged.Snapshot.ID, SnapshotID: merged.Snapshot.ID, Snapshot: api.NewSnapshot(merged.Snapshot), Conflicts: conflicts,
	}, nil
}

// mergeError is a merge that paths stood against.
type mergeError struct {
	error
	conflicts []faas.MergeConflict
}

func (e *mergeError) Unwrap() error { return e.error }
