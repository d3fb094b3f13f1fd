package executor

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/snapshot"
)

// maxMerged bounds the branches of one merge.
const maxMerged = 32

// CreateBranch names a snapshot the head of a new branch. from is whatever a
// state can be started from; an instance is saved for it and its next
// snapshots move the branch on.
func (e *Executor) CreateBranch(ctx context.Context, project, name, from string) (*faas.Branch, error) {
	project = orDefault(project)
	if err := checkName("branch_name", name, false); err != nil {
		return nil, err
	}
	if faas.ValidID(faas.PrefixSnapshot, name) || faas.ValidID(faas.PrefixInstance, name) ||
		faas.ValidID(faas.PrefixExecution, name) || faas.ValidID(faas.PrefixBranch, name) {
		return nil, faas.InvalidField("branch_name", "%q has the form of an id", name)
	}
	if faas.ValidID(faas.PrefixInstance, from) {
		saved, err := e.Snapshot(ctx, project, from, faas.SnapshotRequest{})
		if err != nil {
			return nil, err
		}
		from = saved.ID
	}
	o, err := e.resolve(ctx, project, from)
	if err != nil {
		return nil, err
	}
	defer o.release()
	if o.manifest.Hidden {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "%s is stopped: start it, or name a snapshot of it", from)
	}
	now := time.Now().UTC()
	b := faas.Branch{ID: faas.NewID(faas.PrefixBranch), Project: project, Name: name, Head: o.manifest.ID, CreatedAt: now, UpdatedAt: now}
	if err := e.store.CreateBranch(ctx, b); err != nil {
		return nil, err
	}
	return &b, nil
}

// Branch returns a branch by its id or name.
func (e *Executor) Branch(ctx context.Context, project, ref string) (*faas.Branch, error) {
	return e.store.Branch(ctx, orDefault(project), ref)
}

// Branches lists a project's branches by name.
func (e *Executor) Branches(ctx context.Context, project string) ([]faas.Branch, error) {
	return e.store.Branches(ctx, orDefault(project), "")
}

// DeleteBranch removes a branch by its id or name; its snapshots stay.
func (e *Executor) DeleteBranch(ctx context.Context, project, ref string) error {
	b, err := e.store.Branch(ctx, orDefault(project), ref)
	if err != nil {
		return err
	}
	return e.store.DeleteBranch(ctx, b.Project, b.ID)
}

// MergeBranches merges the files of branches (or snapshots) three-way against
// their common ancestor, or their image where they have none, into a new file
// snapshot, whose parent that ancestor is. Under faas.MergeUnion paths that two
// branches changed differently are returned with faas.ErrConflict.
func (e *Executor) MergeBranches(ctx context.Context, project string, refs []string, strategy faas.MergeStrategy, req faas.SnapshotRequest) (*faas.Merged, error) {
	project = orDefault(project)
	if len(refs) < 2 || len(refs) > maxMerged {
		return nil, faas.InvalidField("branch_ids", "%d branches, a merge takes 2 to %d", len(refs), maxMerged)
	}
	if strategy == "" {
		strategy = faas.MergeUnion
	}
	if err := checkSnapshotRequest(&req); err != nil {
		return nil, err
	}
	heads, err := e.heads(ctx, project, refs)
	if err != nil {
		return nil, err
	}
	// Oldest first: under latest the newer wins.
	slices.SortStableFunc(heads, func(a, b head) int { return a.manifest.CreatedAt.Compare(b.manifest.CreatedAt) })
	list := make([]*snapshot.Manifest, 0, len(heads)+1)
	for _, h := range heads {
		list = append(list, h.manifest)
	}
	ancestor := e.commonAncestor(list)
	if ancestor != nil {
		list = append(list, ancestor)
	}
	stacks, image, release, err := e.stacks(ctx, list)
	if err != nil {
		return nil, err
	}
	defer release()
	base := image
	if ancestor != nil {
		base = stacks[len(heads)]
	}
	return e.merge(ctx, heads, ancestor, base, stacks[:len(heads)], strategy, req)
}

// head is one side of a merge.
type head struct {
	ref      string
	manifest *snapshot.Manifest
}

func (e *Executor) heads(ctx context.Context, project string, refs []string) ([]head, error) {
	var list []head
	for _, ref := range refs {
		if faas.ValidID(faas.PrefixInstance, ref) {
			return nil, faas.InvalidField("branch_ids", "%s is an instance: name a branch or a snapshot of it", ref)
		}
		o, err := e.resolve(ctx, project, ref)
		if err != nil {
			return nil, err
		}
		o.release()
		list = append(list, head{ref, o.manifest})
	}
	return list, nil
}

// commonAncestor returns the nearest snapshot from which all others of the
// list descend, nil when there is none.
func (e *Executor) commonAncestor(list []*snapshot.Manifest) *snapshot.Manifest {
	lines := make([][]string, len(list))
	for i, m := range list {
		for at := m; ; {
			lines[i] = append(lines[i], at.ID)
			parent, err := e.snapshots.Get(m.Project, at.ParentID)
			if at.ParentID == "" || err != nil {
				break
			}
			at = parent
		}
	}
	for _, id := range lines[0] {
		if !slices.ContainsFunc(lines[1:], func(line []string) bool { return !slices.Contains(line, id) }) {
			m, err := e.snapshots.Get(list[0].Project, id)
			if err == nil {
				return m
			}
		}
	}
	return nil
}

func (e *Executor) merge(ctx context.Context, heads []head, ancestor *snapshot.Manifest, base []string, branches [][]string, strategy faas.MergeStrategy, req faas.SnapshotRequest) (*faas.Merged, error) {
	newest := heads[len(heads)-1].manifest
	m := snapshot.Manifest{
		Project: newest.Project, Kind: faas.SnapshotFS, Runtime: newest.Runtime, Image: newest.Image, ImageDigest: newest.ImageDigest,
		Spec:        newest.Spec,
		Annotations: snapshot.Annotations{Name: req.Name, Description: req.Description, Labels: req.Labels},
	}
	var below string
	if ancestor != nil {
		m.ParentID, below = ancestor.ID, ancestor.ID
	}
	draft, err := e.snapshots.BeginOn(m, below)
	if err != nil {
		return nil, err
	}
	conflicts, err := snapshot.Merge(ctx, base, branches, snapshot.Strategy(strategy), draft.FS())
	out := &faas.Merged{}
	for _, c := range conflicts {
		conflict := faas.MergeConflict{Path: c.Path}
		for _, i := range c.Branches {
			conflict.Branches = append(conflict.Branches, heads[i].ref)
		}
		out.Conflicts = append(out.Conflicts, conflict)
	}
	if err == nil && strategy == faas.MergeUnion && len(conflicts) > 0 {
		err = &faas.Error{Kind: faas.KindConflict, Op: "merge",
			Detail: "paths that more than one branch changed differently, the first of them: " + clip(conflicts[0].Path),
			Remedy: "merge with strategy latest, or settle them in a branch first"}
	}
	if err != nil {
		return out, errors.Join(err, draft.Abort())
	}
	committed, err := draft.Commit(ctx)
	if err != nil {
		return out, err
	}
	e.snapshotChanged(faas.EventSnapshotCreated, committed)
	out.Snapshot = e.snapshotView(committed)
	return out, nil
}
