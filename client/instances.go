package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Instances are the sandboxes that live until told otherwise.
type Instances struct{ c *Client }

// Instance is one instance. Info is what the server said of it last.
type Instance struct {
	Info *api.Instance

	c *Client
}

// MarshalJSON encodes what the server said of it last.
func (i *Instance) MarshalJSON() ([]byte, error) { return json.Marshal(i.Info) }

// ID is the instance's id.
func (i *Instance) ID() string { return i.Info.ID }

// Name is the instance's name; empty when it has none.
func (i *Instance) Name() string { return i.Info.Name }

// Status is the instance's status when the server spoke of it last.
func (i *Instance) Status() faas.InstanceStatus { return i.Info.Status }

// InstanceFilter says which instances are listed; what is empty does not
// matter.
type InstanceFilter struct {
	ListOptions
	Status string `json:"status,omitempty"`
	Name   string `json:"name,omitempty"`
	Label  string `json:"label,omitempty"` // name=value
}

// Start starts an instance of an image, or from a saved state.
func (s *Instances) Start(ctx context.Context, request api.InstanceRequest) (*Instance, error) {
	return s.one(create[api.Instance](ctx, s.c, api.PathInstances, request))
}

// Get returns one instance, by id or name.
func (s *Instances) Get(ctx context.Context, id string) (*Instance, error) {
	return s.one(get[api.Instance](ctx, s.c, pathOf(api.PathInstances, id, ""), nil))
}

func (s *Instances) one(info *api.Instance, err error) (*Instance, error) {
	if err != nil {
		return nil, err
	}
	return &Instance{Info: info, c: s.c}, nil
}

// List yields every instance, newest first.
func (s *Instances) List(ctx context.Context, filter InstanceFilter) iter.Seq2[*Instance, error] {
	query := values("status", filter.Status, "name", filter.Name, "label", filter.Label, "limit", filter.limit())
	return pages(ctx, s.c, api.PathInstances, query, func(p *api.InstanceList) (all []*Instance, next string) {
		for _, info := range p.Instances {
			all = append(all, &Instance{Info: info, c: s.c})
		}
		return all, p.NextCursor
	})
}

func (i *Instance) path(rest string) string { return pathOf(api.PathInstances, i.Info.ID, rest) }

// change sends what changes the instance, or asks how it is.
func (i *Instance) change(info *api.Instance, err error) error {
	if err == nil {
		i.Info = info
	}
	return err
}

// Refresh asks the server how it is.
func (i *Instance) Refresh(ctx context.Context) error {
	return i.change(get[api.Instance](ctx, i.c, i.path(""), nil))
}

// Update changes its name, labels or time to live.
func (i *Instance) Update(ctx context.Context, changes api.InstanceUpdate) error {
	return i.change(call[api.Instance](ctx, i.c, http.MethodPatch, i.path(""), changes))
}

// Pause lets it stand still; Info.CheckpointID is the snapshot that was taken.
func (i *Instance) Pause(ctx context.Context, request api.PauseRequest) error {
	return i.change(create[api.Instance](ctx, i.c, i.path("/pause"), request))
}

// Resume lets it go on.
func (i *Instance) Resume(ctx context.Context) error {
	return i.change(create[api.Instance](ctx, i.c, i.path("/resume"), nil))
}

// Stop ends its processes; its files stay.
func (i *Instance) Stop(ctx context.Context) error {
	return i.change(create[api.Instance](ctx, i.c, i.path("/stop"), nil))
}

// Start starts it again after a stop.
func (i *Instance) Start(ctx context.Context) error {
	return i.change(create[api.Instance](ctx, i.c, i.path("/start"), nil))
}

// Delete removes it and its files.
func (i *Instance) Delete(ctx context.Context) error {
	_, err := call[api.Removed](ctx, i.c, http.MethodDelete, i.path(""), nil)
	return err
}

// Exec runs a command in it and returns its result.
func (i *Instance) Exec(ctx context.Context, request api.ExecRequest) (*api.ExecuteResponse, error) {
	result, err := create[api.ExecuteResponse](ctx, i.c, i.path("/exec"), request)
	if err != nil {
		return nil, err
	}
	return i.c.finish("", result), nil
}

// ExecStream runs a command in it and yields what happens as it happens.
func (i *Instance) ExecStream(ctx context.Context, request api.ExecRequest) iter.Seq2[*api.ServerFrame, error] {
	return i.c.executeStream(ctx, i.path("/exec"), "", request)
}

// Run runs a command in it with live input and output.
func (i *Instance) Run(ctx context.Context, request api.ExecRequest, opts RunOptions) (*api.ExecuteResponse, error) {
	return i.c.runAt(ctx, i.path("/exec/ws"), executeRequest(request), opts)
}

// executeRequest is the request of a command that says nothing of its sandbox.
func executeRequest(r api.ExecRequest) api.ExecuteRequest {
	return api.ExecuteRequest{
		Command: r.Command, Stdin: r.Stdin, StdinBase64: r.StdinBase64, Payload: r.Payload, EnvVars: r.EnvVars, Env: r.Env,
		WorkingDir: r.WorkingDir, User: r.User, Files: r.Files, TimeoutMS: r.TimeoutMS, TimeoutSecs: r.TimeoutSecs, Labels: r.Labels,
	}
}

// Fork returns copies that continue from its present state; it goes on. When
// none could be made, the first failure is the error.
func (i *Instance) Fork(ctx context.Context, request api.InstanceForkRequest) ([]*Instance, error) {
	made, err := create[api.InstanceFork](ctx, i.c, i.path("/fork"), request)
	if err != nil {
		return nil, err
	}
	if len(made.Instances) == 0 && len(made.Failures) > 0 {
		return nil, made.Failures[0].Problem.Err(0)
	}
	copies := make([]*Instance, 0, len(made.Instances))
	for _, info := range made.Instances {
		copies = append(copies, &Instance{Info: info, c: i.c})
	}
	return copies, nil
}

// Snapshot saves its state; it goes on.
func (i *Instance) Snapshot(ctx context.Context, settings api.SnapshotSettings) (*api.Snapshot, error) {
	return create[api.Snapshot](ctx, i.c, i.path("/snapshot"), settings)
}

// Stats is what it consumes.
func (i *Instance) Stats(ctx context.Context) (*api.InstanceStats, error) {
	return get[api.InstanceStats](ctx, i.c, i.path("/stats"), nil)
}

// Processes is what runs in it.
func (i *Instance) Processes(ctx context.Context) ([]api.Process, error) {
	list, err := get[api.ProcessList](ctx, i.c, i.path("/processes"), nil)
	if err != nil {
		return nil, err
	}
	return list.Processes, nil
}
