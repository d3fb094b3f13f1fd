package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// CreateBranch names a snapshot the head of a new branch. from is a snapshot, a
// branch, an execution that left a state, or an instance, which is saved for it.
func (c *Client) CreateBranch(ctx context.Context, name, from string) (*api.Branch, error) {
	return call[api.Branch](ctx, c, http.MethodPost, api.PathBranches, api.BranchRequest{BranchName: name, ParentSnapshotID: from})
}

// Branch shows a branch by its id or name.
func (c *Client) Branch(ctx context.Context, ref string) (*api.Branch, error) {
	return get[api.Branch](ctx, c, api.PathBranches+"/"+url.PathEscape(ref), nil)
}

// Branches lists the project's branches by name.
func (c *Client) Branches(ctx context.Context) ([]*api.Branch, error) {
	list, err := get[api.BranchList](ctx, c, api.PathBranches, nil)
	if err != nil {
		return nil, err
	}
	return list.Branches, nil
}

// DeleteBranch removes a branch by its id or name; its snapshots stay.
func (c *Client) DeleteBranch(ctx context.Context, ref string) error {
	_, err := call[api.Removed](ctx, c, http.MethodDelete, api.PathBranches+"/"+url.PathEscape(ref), nil)
	return err
}

// MergeError is a merge that was refused because branches changed the same
// paths differently. It is faas.ErrConflict.
type MergeError struct {
	Err       *faas.Error
	Conflicts []faas.MergeConflict
}

// Error says what stood against the merge.
func (e *MergeError) Error() string { return e.Err.Error() }

// Unwrap returns the conflict.
func (e *MergeError) Unwrap() error { return e.Err }

// MergeBranches merges the files of branches three-way into a new snapshot. A
// refusal for paths that were changed differently is a *MergeError.
func (c *Client) MergeBranches(ctx context.Context, request api.MergeRequest) (*api.MergeResponse, error) {
	return call[api.MergeResponse](ctx, c, http.MethodPost, api.PathBranchesMerge, request)
}

// Fork runs commands beside each other, each in a copy of one state. A copy
// that could not run has the exit code -1 and a Problem.
func (c *Client) Fork(ctx context.Context, request api.ForkRequest) ([]api.ForkedExecution, error) {
	return deref(call[[]api.ForkedExecution](ctx, c, http.MethodPost, api.PathFork, request))
}

// ForkExecution runs commands beside each other, each in a copy of what an
// execution left.
func (c *Client) ForkExecution(ctx context.Context, id string, request api.ForkRequest) ([]api.ForkedExecution, error) {
	return deref(call[[]api.ForkedExecution](ctx, c, http.MethodPost, api.PathExecutions+"/"+url.PathEscape(id)+"/fork", request))
}

func deref[T any](p *T, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return *p, nil
}
