package gateway

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Snapshots is what the gateway needs of snapshots.
type Snapshots interface {
	Snapshot(ctx context.Context, project, instanceID string, req faas.SnapshotRequest) (*faas.Snapshot, error)
	SnapshotImage(ctx context.Context, project, image string, runtime faas.Runtime, req faas.SnapshotRequest) (*faas.Snapshot, error)
	SnapshotInfo(ctx context.Context, project, id string) (*faas.Snapshot, error)
	Snapshots(ctx context.Context, project string, filter faas.SnapshotFilter) ([]faas.Snapshot, string, error)
	AnnotateSnapshot(ctx context.Context, project, id string, name, description *string, labels map[string]string) (*faas.Snapshot, error)
	RemoveSnapshot(ctx context.Context, project, id string, cascade bool) ([]string, error)
	SnapshotDiff(ctx context.Context, project, id, against string) (*faas.SnapshotDiff, error)
	SnapshotTree(ctx context.Context, project, id string) ([]*faas.SnapshotNode, error)
}

// SnapshotPath is the part of a path that names a snapshot. It is exported
// because huma fills only exported fields, embedded ones included.
type SnapshotPath struct {
	ID string `path:"id" maxLength:"128" doc:"Id of the snapshot." example:"snap-0c7v4g6k1w0003f9a2m5d8r1t6"`
}

type snapshotsInput struct {
	Name       string            `query:"name" maxLength:"128" doc:"Only those of this name."`
	Label      []string          `query:"label,explode" maxItems:"64" doc:"Only those with this label, NAME=VALUE; several: with all of them."`
	ParentID   string            `query:"parent" maxLength:"128" doc:"Only the children of this snapshot."`
	InstanceID string            `query:"instance_id" maxLength:"128" doc:"Only those of this instance."`
	Kind       faas.SnapshotKind `query:"kind" enum:"fs,full" doc:"Only those of this kind."`
	Limit      int               `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Snapshots on one page."`
	Cursor     string            `query:"cursor" maxLength:"128" doc:"The next_cursor of the page before."`
}

type snapshotDeleteInput struct {
	SnapshotPath
	Cascade bool `query:"cascade" doc:"With all that descend from it, and the branches whose heads go."`
}

type snapshotDiffInput struct {
	SnapshotPath
	Against string `query:"against" maxLength:"128" doc:"Snapshot to compare with. Default: the image."`
}

func snapshotOperation(id, method, path, summary, description string, failures ...int) huma.Operation {
	return huma.Operation{OperationID: id, Method: method, Path: api.PathSnapshots + path, Tags: []string{"snapshots"},
		Summary: summary, Description: description, Errors: failures}
}

func (g *Gateway) registerSnapshots() {
	op := snapshotOperation
	handleBody(g, op("create-snapshot", http.MethodPost, "", "Save an instance, which goes on, or an image as it is",
		"The snapshot is durable when the answer comes.", changeErrors...),
		map[string]any{
			"instance": map[string]any{"instance_id": "inst-0c7v4g6k1w0003f9a2m5d8r1t6", "name": "warm", "kind": "full"},
			"image":    map[string]any{"image": "host", "name": "empty"},
		}, exampleSnapshot(), g.createSnapshot)
	instance := op("snapshot-instance", http.MethodPost, "", "Save an instance, which goes on", "The snapshot is durable when the answer comes.", changeErrors...)
	instance.Path, instance.Tags = api.PathInstances+"/{id}/snapshot", []string{"instances"}
	handleBody(g, instance, map[string]any{"named": map[string]any{"name": "warm", "labels": map[string]string{"step": "1"}}}, exampleSnapshot(), g.snapshotInstance)
	handle(g, op("list-snapshots", http.MethodGet, "", "List the project's snapshots, newest first", "", readErrors...),
		api.SnapshotList{Snapshots: []*api.Snapshot{exampleSnapshot()}}, g.listSnapshots)
	handle(g, op("get-snapshot", http.MethodGet, "/{id}", "Show one snapshot", "", readErrors...), exampleSnapshot(),
		func(ctx context.Context, in *SnapshotPath) (*api.Snapshot, error) {
			return snapshotAnswer(g.opts.Executor.SnapshotInfo(ctx, identity(ctx).Project, in.ID))
		})
	handleBody(g, op("update-snapshot", http.MethodPatch, "/{id}", "Change a snapshot's name, description or labels", "", changeErrors...),
		map[string]any{"rename": map[string]any{"name": "base"}}, exampleSnapshot(),
		func(ctx context.Context, in *SnapshotPath, body *api.SnapshotUpdate) (*api.Snapshot, error) {
			return snapshotAnswer(g.opts.Executor.AnnotateSnapshot(ctx, identity(ctx).Project, in.ID, body.Name, body.Description, body.Labels))
		})
	handle(g, op("delete-snapshot", http.MethodDelete, "/{id}", "Remove a snapshot",
		"Refused with 409 while others descend from it or it is the head of a branch, unless cascade. Instances that were made of it go on.", changeErrors...),
		api.Removed{Removed: []string{"snap-0c7v4g6k1w0003f9a2m5d8r1t6"}}, func(ctx context.Context, in *snapshotDeleteInput) (api.Removed, error) {
			removed, err := g.opts.Executor.RemoveSnapshot(ctx, identity(ctx).Project, in.ID, in.Cascade)
			return api.Removed{Removed: removed}, err
		})
	g.registerSnapshotUses()
}

// registerSnapshotUses registers what is made of snapshots.
func (g *Gateway) registerSnapshotUses() {
	op := snapshotOperation
	handleBody(g, op("restore-snapshot", http.MethodPost, "/{id}/restore", "Make an instance of a snapshot",
		"It has the same files and, of a full snapshot, the same processes at the same point, and an identity of its own.", changeErrors...),
		map[string]any{"as it was": map[string]any{}, "larger": map[string]any{"name": "copy", "memory_mb": 2048, "env_vars": map[string]string{"WORKER": "2"}}},
		exampleInstance(), g.restoreSnapshot)
	exec := g.runOperation(reflect.TypeFor[api.SnapshotExecRequest](), map[string]any{"shell": map[string]any{"command": "make test"}})
	exec.OperationID, exec.Path, exec.Tags = "exec-snapshot", api.PathSnapshots+"/{id}/exec", []string{"snapshots"}
	exec.Summary = "Run a command in a sandbox that starts from a snapshot, and save what it leaves"
	exec.Parameters = []*huma.Param{pathID("Id of the snapshot.")}
	handleRaw(g, exec, func(w http.ResponseWriter, r *http.Request) {
		g.executeAs(w, r, snapshotExecFields, func(req *faas.Request) {
			req.Mode, req.SnapshotID = faas.ModeCheckpointed, r.PathValue("id")
		})
	})
	handle(g, op("diff-snapshot", http.MethodGet, "/{id}/diff", "Show how a snapshot's files differ from another's, or from its image's", "", changeErrors...),
		&faas.SnapshotDiff{From: "snap-0c7v4g6k1w0003f9a2m5d8r1t5", To: "snap-0c7v4g6k1w0003f9a2m5d8r1t6", Changes: []faas.SnapshotChange{{Path: "/work/out", Change: "added", NewSize: 4}}},
		func(ctx context.Context, in *snapshotDiffInput) (*faas.SnapshotDiff, error) {
			return g.opts.Executor.SnapshotDiff(ctx, identity(ctx).Project, in.ID, in.Against)
		})
	tree := api.SnapshotTree{Roots: []*api.SnapshotNode{{Snapshot: *exampleSnapshot(), Branches: []string{"main"}, Children: []*api.SnapshotNode{}}}}
	handle(g, op("get-snapshot-tree", http.MethodGet, "/{id}/tree", "Show what descends from a snapshot", "", readErrors...), tree,
		func(ctx context.Context, in *SnapshotPath) (api.SnapshotTree, error) {
			return g.snapshotTree(ctx, in.ID)
		})
	handle(g, op("get-snapshot-forest", http.MethodGet, "/tree", "Show all trees of the project's snapshots", "", readErrors...), tree,
		func(ctx context.Context, _ *struct{}) (api.SnapshotTree, error) { return g.snapshotTree(ctx, "") })
}

func snapshotRequest(s *api.SnapshotSettings) faas.SnapshotRequest {
	return faas.SnapshotRequest{Kind: s.Kind, Name: s.Name, Description: s.Description, Labels: s.Labels}
}

func snapshotAnswer(s *faas.Snapshot, err error) (*api.Snapshot, error) {
	if err != nil {
		return nil, err
	}
	return api.NewSnapshot(s), nil
}

func (g *Gateway) createSnapshot(ctx context.Context, _ *struct{}, body *api.SnapshotRequest) (*api.Snapshot, error) {
	switch {
	case (body.InstanceID == "") == (body.Image == ""):
		return nil, faas.InvalidField("instance_id", "name an instance or an image, and not both")
	case body.Image != "":
		return snapshotAnswer(g.opts.Executor.SnapshotImage(ctx, identity(ctx).Project, body.Image, body.Runtime, snapshotRequest(&body.SnapshotSettings)))
	case body.Runtime != "":
		return nil, faas.InvalidField("runtime", "is the instance's own")
	}
	return g.snapshotInstance(ctx, &instanceInput{ID: body.InstanceID}, &body.SnapshotSettings)
}

func (g *Gateway) snapshotInstance(ctx context.Context, in *instanceInput, body *api.SnapshotSettings) (*api.Snapshot, error) {
	id, err := g.instanceID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return snapshotAnswer(g.opts.Executor.Snapshot(ctx, identity(ctx).Project, id, snapshotRequest(body)))
}

func (g *Gateway) listSnapshots(ctx context.Context, in *snapshotsInput) (api.SnapshotList, error) {
	labels, err := labelFilter(in.Label)
	if err != nil {
		return api.SnapshotList{}, err
	}
	found, next, err := g.opts.Executor.Snapshots(ctx, identity(ctx).Project, faas.SnapshotFilter{
		Name: in.Name, Labels: labels, ParentID: in.ParentID, InstanceID: in.InstanceID, Kind: in.Kind, Limit: in.Limit, Cursor: in.Cursor,
	})
	list := api.SnapshotList{Snapshots: make([]*api.Snapshot, 0, len(found)), NextCursor: next}
	for i := range found {
		list.Snapshots = append(list.Snapshots, api.NewSnapshot(&found[i]))
	}
	return list, err
}

func (g *Gateway) restoreSnapshot(ctx context.Context, in *SnapshotPath, body *api.InstanceSettings) (*api.Instance, error) {
	req, err := instanceRequest(ctx, body)
	if err != nil {
		return nil, err
	}
	if _, err := g.opts.Executor.SnapshotInfo(ctx, req.Project, in.ID); err != nil {
		return nil, err
	}
	req.From = in.ID
	made, err := g.opts.Executor.CreateInstance(ctx, req)
	if err != nil {
		return nil, err
	}
	return g.instance(ctx, made), nil
}

func (g *Gateway) snapshotTree(ctx context.Context, id string) (api.SnapshotTree, error) {
	roots, err := g.opts.Executor.SnapshotTree(ctx, identity(ctx).Project, id)
	return api.SnapshotTree{Roots: api.NewSnapshotNodes(roots)}, err
}
