package executor

import (
	"context"
	"fmt"
	"slices"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/snapshot"
)

// compareHolder starts the holders of leases that last for one comparison.
const compareHolder = "cmp"

// SnapshotTree returns what descends from a snapshot, it included or, for an
// empty id, all trees of the project, oldest first.
func (e *Executor) SnapshotTree(ctx context.Context, project, id string) ([]*faas.SnapshotNode, error) {
	project = orDefault(project)
	if id != "" {
		if _, err := e.visible(project, id); err != nil {
			return nil, err
		}
	}
	branches, err := e.store.Branches(ctx, project, "")
	if err != nil {
		return nil, err
	}
	nodes := map[string]*faas.SnapshotNode{}
	all := e.snapshots.List(project, nil)
	for _, m := range all {
		nodes[m.ID] = &faas.SnapshotNode{Snapshot: *e.snapshotView(m)}
	}
	for _, b := range branches {
		if n := nodes[b.Head]; n != nil {
			n.Branches = append(n.Branches, b.Name)
		}
	}
	var roots []*faas.SnapshotNode
	for _, m := range all {
		n, parent := nodes[m.ID], nodes[m.ParentID]
		if parent != nil {
			parent.Children = append(parent.Children, n)
		}
		if id == m.ID || id == "" && parent == nil {
			roots = append(roots, n)
		}
	}
	return roots, nil
}

// RemoveSnapshot removes a snapshot, with all that descend from it when
// cascade is set; without, it refuses with faas.ErrConflict while there are
// any, or while it is the head of a branch. With cascade branches whose heads
// go, go too. It returns the ids that were removed. Instances that were made of
// them go on.
func (e *Executor) RemoveSnapshot(ctx context.Context, project, id string, cascade bool) ([]string, error) {
	project = orDefault(project)
	if _, err := e.visible(project, id); err != nil {
		return nil, err
	}
	branches, err := e.store.Branches(ctx, project, "")
	if err != nil {
		return nil, err
	}
	for _, b := range branches {
		if b.Head == id && !cascade {
			return nil, &faas.Error{Kind: faas.KindConflict, Op: "remove snapshot " + id,
				Detail: "it is the head of branch " + b.Name, Remedy: "remove the branch first, or ask for cascade"}
		}
	}
	removed, err := e.snapshots.Remove(project, id, cascade)
	for _, gone := range removed {
		e.publish(project, faas.EventSnapshotDeleted, gone, nil)
	}
	for _, b := range branches {
		if slices.Contains(removed, b.Head) {
			if branchErr := e.store.DeleteBranch(ctx, project, b.ID); branchErr != nil && err == nil {
				err = branchErr
			}
		}
	}
	return removed, err
}

// SnapshotDiff lists how a snapshot's files differ from those of another or,
// when against is empty, from its image's. Who a sandbox is (its machine id and
// the like) is not among them.
func (e *Executor) SnapshotDiff(ctx context.Context, project, id, against string) (*faas.SnapshotDiff, error) {
	project = orDefault(project)
	to, err := e.visible(project, id)
	if err != nil {
		return nil, err
	}
	list := []*snapshot.Manifest{to}
	out := &faas.SnapshotDiff{From: against, To: id, NewMemory: to.MemoryBytes, Changes: []faas.SnapshotChange{}}
	if against != "" {
		from, err := e.visible(project, against)
		if err != nil {
			return nil, err
		}
		list, out.OldMemory = append(list, from), from.MemoryBytes
	}
	stacks, image, release, err := e.stacks(ctx, list)
	if err != nil {
		return nil, err
	}
	defer release()
	from := image
	if against != "" {
		from = stacks[1]
	}
	changes, err := snapshot.Diff(ctx, from, stacks[0])
	if err != nil {
		return nil, fmt.Errorf("compare snapshot %s: %w", id, err)
	}
	for _, c := range changes {
		if snapshot.IdentityPath(c.Path) {
			continue // who a sandbox is differs always
		}
		out.Changes = append(out.Changes, faas.SnapshotChange{Path: c.Path, Change: string(c.Change), OldSize: c.OldSize, NewSize: c.NewSize})
	}
	return out, nil
}

// stacks leases snapshots of one runtime and one image, and returns for each
// its directories, topmost first, down to the image's, and the image's alone.
func (e *Executor) stacks(ctx context.Context, list []*snapshot.Manifest) (stacks [][]string, image []string, release func(), err error) {
	first := list[0]
	for _, m := range list[1:] {
		if m.Runtime != first.Runtime || m.Image != first.Image {
			return nil, nil, nil, faas.Errorf(faas.KindFailedPrecondition,
				"snapshots %s and %s cannot be compared: one is of image %s on %s, the other of %s on %s",
				first.ID, m.ID, first.Image, first.Runtime, m.Image, m.Runtime)
		}
	}
	layered, ok := e.drivers[first.Runtime].(driver.Layered)
	if !ok {
		return nil, nil, nil, faas.Unavailable("the runtime "+string(first.Runtime)+" does not keep its file states where they can be compared", "")
	}
	image, done, err := layered.ImageLayers(ctx, first.Image)
	if err != nil {
		return nil, nil, nil, err
	}
	ends := []func(){done}
	release = func() {
		for _, end := range ends {
			end()
		}
	}
	holder := faas.NewID(compareHolder)
	for _, m := range list {
		state, end, err := e.lease(ctx, &origin{manifest: m}, holder)
		if err != nil {
			release()
			return nil, nil, nil, err
		}
		ends = append(ends, end)
		stacks = append(stacks, slices.Concat(state.Layers, image))
	}
	return stacks, image, release, nil
}
