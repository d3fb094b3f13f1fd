package client

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/url"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// InstanceFilter selects instances; a zero field selects all.
type InstanceFilter struct {
	Status faas.InstanceStatus
	Name   string
	Labels map[string]string // all of them
	ListOptions
}

func (f InstanceFilter) query() url.Values {
	return setLabels(set(set(f.ListOptions.query(), "status", string(f.Status)), "name", f.Name), f.Labels)
}

// pathOfInstance is the path of what an instance, by id or name, has below.
func pathOfInstance(ref, below string) string {
	return api.PathInstances + "/" + url.PathEscape(ref) + below
}

// CreateInstance makes an instance; it runs when CreateInstance returns.
func (c *Client) CreateInstance(ctx context.Context, request api.InstanceRequest) (*api.Instance, error) {
	return call[api.Instance](ctx, c, http.MethodPost, api.PathInstances, request)
}

// Instance shows an instance by its id or name; faas.ErrNotFound when there is
// none.
func (c *Client) Instance(ctx context.Context, ref string) (*api.Instance, error) {
	return get[api.Instance](ctx, c, pathOfInstance(ref, ""), nil)
}

// Instances lists one page of instances, newest first.
func (c *Client) Instances(ctx context.Context, filter InstanceFilter) (*api.InstanceList, error) {
	return get[api.InstanceList](ctx, c, api.PathInstances, filter.query())
}

// AllInstances walks every instance that the filter selects, newest first,
// page by page.
func (c *Client) AllInstances(ctx context.Context, filter InstanceFilter) iter.Seq2[*api.Instance, error] {
	return each(func(cursor string) ([]*api.Instance, string, error) {
		filter.ListOptions = ListOptions{Limit: allPage, Cursor: cursor}
		page, err := c.Instances(ctx, filter)
		if err != nil {
			return nil, "", err
		}
		return page.Instances, page.NextCursor, nil
	})
}

// UpdateInstance changes an instance; what is nil stays.
func (c *Client) UpdateInstance(ctx context.Context, ref string, update api.InstanceUpdate) (*api.Instance, error) {
	return call[api.Instance](ctx, c, http.MethodPatch, pathOfInstance(ref, ""), update)
}

// DeleteInstance ends an instance and removes it; its processes and files are
// gone when DeleteInstance returns.
func (c *Client) DeleteInstance(ctx context.Context, ref string) error {
	_, err := call[api.Removed](ctx, c, http.MethodDelete, pathOfInstance(ref, ""), nil)
	return err
}

// StopInstance ends an instance's processes and keeps its files.
func (c *Client) StopInstance(ctx context.Context, ref string) (*api.Instance, error) {
	return call[api.Instance](ctx, c, http.MethodPost, pathOfInstance(ref, "/stop"), nil)
}

// StartInstance starts a stopped instance from its files.
func (c *Client) StartInstance(ctx context.Context, ref string) (*api.Instance, error) {
	return call[api.Instance](ctx, c, http.MethodPost, pathOfInstance(ref, "/start"), nil)
}

// PauseInstance lets an instance's processes stand still. Unless the request
// says otherwise it is saved first, and CheckpointID names the snapshot.
func (c *Client) PauseInstance(ctx context.Context, ref string, request api.PauseRequest) (*api.Instance, error) {
	return call[api.Instance](ctx, c, http.MethodPost, pathOfInstance(ref, "/pause"), request)
}

// ResumeInstance lets the processes of a paused instance go on.
func (c *Client) ResumeInstance(ctx context.Context, ref string) (*api.Instance, error) {
	return call[api.Instance](ctx, c, http.MethodPost, pathOfInstance(ref, "/resume"), nil)
}

// ForkInstance makes copies of an instance, which goes on. Copies that could
// not be made are among the Failures; the error is for when none was.
func (c *Client) ForkInstance(ctx context.Context, ref string, request api.InstanceForkRequest) (*api.InstanceFork, error) {
	return call[api.InstanceFork](ctx, c, http.MethodPost, pathOfInstance(ref, "/fork"), request)
}

// SnapshotInstance saves an instance, which goes on. The snapshot is durable
// when SnapshotInstance returns.
func (c *Client) SnapshotInstance(ctx context.Context, ref string, settings api.SnapshotSettings) (*api.Snapshot, error) {
	return call[api.Snapshot](ctx, c, http.MethodPost, pathOfInstance(ref, "/snapshot"), settings)
}

// InstanceStats shows what an instance consumes.
func (c *Client) InstanceStats(ctx context.Context, ref string) (*api.InstanceStats, error) {
	return get[api.InstanceStats](ctx, c, pathOfInstance(ref, "/stats"), nil)
}

// Processes lists the processes of an instance.
func (c *Client) Processes(ctx context.Context, ref string) ([]api.Process, error) {
	list, err := get[api.ProcessList](ctx, c, pathOfInstance(ref, "/processes"), nil)
	if err != nil {
		return nil, err
	}
	return list.Processes, nil
}

// InstanceLogs shows what the commands in an instance wrote, newest first.
func (c *Client) InstanceLogs(ctx context.Context, ref string, page ListOptions) (*api.InstanceLogs, error) {
	return get[api.InstanceLogs](ctx, c, pathOfInstance(ref, "/logs"), page.query())
}

// Exec runs a command in an instance and returns its result with up to 10 MiB
// of each output stream. The command is ended when ctx is; the instance goes
// on.
func (c *Client) Exec(ctx context.Context, ref string, request api.ExecRequest) (*api.ExecuteResponse, error) {
	return call[api.ExecuteResponse](ctx, c, http.MethodPost, pathOfInstance(ref, "/exec"), request)
}

// ExecTo runs a command in an instance as ExecuteTo does in a sandbox of its
// own.
func (c *Client) ExecTo(ctx context.Context, ref string, request api.ExecRequest, stdout io.Writer) (*api.ExecuteResponse, error) {
	return c.rawTo(ctx, pathOfInstance(ref, "/exec"), request, faas.ModePersistent, stdout)
}

// RunIn runs a command in an instance with live input and output, as Run does
// in a sandbox of its own.
func (c *Client) RunIn(ctx context.Context, ref string, request api.ExecRequest, opts RunOptions) (*api.ExecuteResponse, error) {
	return c.runAt(ctx, pathOfInstance(ref, "/exec/ws"), request, faas.ModePersistent, opts)
}
