package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// SnapshotFilter selects snapshots; a zero field selects all.
type SnapshotFilter struct {
	Name       string
	Labels     map[string]string // all of them
	ParentID   string
	InstanceID string
	Kind       faas.SnapshotKind
	ListOptions
}

func (f SnapshotFilter) query() url.Values {
	q := set(set(f.ListOptions.query(), "name", f.Name), "parent", f.ParentID)
	return setLabels(set(set(q, "instance_id", f.InstanceID), "kind", string(f.Kind)), f.Labels)
}

func snapshotPath(id, below string) string {
	return api.PathSnapshots + "/" + url.PathEscape(id) + below
}

// CreateSnapshot saves an instance, which goes on, or an image as it is. The
// snapshot is durable when CreateSnapshot returns.
func (c *Client) CreateSnapshot(ctx context.Context, request api.SnapshotRequest) (*api.Snapshot, error) {
	return call[api.Snapshot](ctx, c, http.MethodPost, api.PathSnapshots, request)
}

// Snapshot shows one snapshot; faas.ErrNotFound when there is none of that id.
func (c *Client) Snapshot(ctx context.Context, id string) (*api.Snapshot, error) {
	return get[api.Snapshot](ctx, c, snapshotPath(id, ""), nil)
}

// Snapshots lists one page of snapshots, newest first.
func (c *Client) Snapshots(ctx context.Context, filter SnapshotFilter) (*api.SnapshotList, error) {
	return get[api.SnapshotList](ctx, c, api.PathSnapshots, filter.query())
}

// AllSnapshots walks every snapshot that the filter selects, newest first, page
// by page.
func (c *Client) AllSnapshots(ctx context.Context, filter SnapshotFilter) iter.Seq2[*api.Snapshot, error] {
	return each(func(cursor string) ([]*api.Snapshot, string, error) {
		filter.ListOptions = ListOptions{Limit: allPage, Cursor: cursor}
		page, err := c.Snapshots(ctx, filter)
		if err != nil {
			return nil, "", err
		}
		return page.Snapshots, page.NextCursor, nil
	})
}

// UpdateSnapshot changes what a snapshot is called; what is nil stays.
func (c *Client) UpdateSnapshot(ctx context.Context, id string, update api.SnapshotUpdate) (*api.Snapshot, error) {
	return call[api.Snapshot](ctx, c, http.MethodPatch, snapshotPath(id, ""), update)
}

// DeleteSnapshot removes a snapshot and, with cascade, all that descend from
// it; without, it is faas.ErrConflict while there are any. It returns the ids
// of what was removed.
func (c *Client) DeleteSnapshot(ctx context.Context, id string, cascade bool) ([]string, error) {
	path := snapshotPath(id, "")
	if cascade {
		path += "?cascade=" + strconv.FormatBool(cascade)
	}
	removed, err := call[api.Removed](ctx, c, http.MethodDelete, path, nil)
	if err != nil {
		return nil, err
	}
	return removed.Removed, nil
}

// RestoreSnapshot makes an instance of a snapshot.
func (c *Client) RestoreSnapshot(ctx context.Context, id string, settings api.InstanceSettings) (*api.Instance, error) {
	return call[api.Instance](ctx, c, http.MethodPost, snapshotPath(id, "/restore"), settings)
}

// ExecSnapshot runs a command in a sandbox that starts from a snapshot. The
// result's SnapshotID is what it left.
func (c *Client) ExecSnapshot(ctx context.Context, id string, request api.SnapshotExecRequest) (*api.ExecuteResponse, error) {
	return call[api.ExecuteResponse](ctx, c, http.MethodPost, snapshotPath(id, "/exec"), request)
}

// SnapshotDiff lists how a snapshot's files differ from those of another or,
// when against is empty, from its image's.
func (c *Client) SnapshotDiff(ctx context.Context, id, against string) (*faas.SnapshotDiff, error) {
	return get[faas.SnapshotDiff](ctx, c, snapshotPath(id, "/diff"), set(url.Values{}, "against", against))
}

// SnapshotTree shows what descends from a snapshot or, for an empty id, all
// trees.
func (c *Client) SnapshotTree(ctx context.Context, id string) ([]*api.SnapshotNode, error) {
	path := api.PathSnapshots + "/tree"
	if id != "" {
		path = snapshotPath(id, "/tree")
	}
	tree, err := get[api.SnapshotTree](ctx, c, path, nil)
	if err != nil {
		return nil, err
	}
	return tree.Roots, nil
}
