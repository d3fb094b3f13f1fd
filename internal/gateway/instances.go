package gateway

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

// Instances is what the gateway needs of instances.
type Instances interface {
	CreateInstance(ctx context.Context, req faas.InstanceRequest) (*faas.Instance, error)
	Instance(ctx context.Context, project, id string) (*faas.Instance, error)
	Instances(ctx context.Context, project string, filter faas.InstanceFilter) ([]faas.Instance, string, error)
	UpdateInstance(ctx context.Context, project, id string, update faas.InstanceUpdate) (*faas.Instance, error)
	DeleteInstance(ctx context.Context, project, id string) error
	StopInstance(ctx context.Context, project, id string) (*faas.Instance, error)
	StartInstance(ctx context.Context, project, id string) (*faas.Instance, error)
	PauseInstance(ctx context.Context, project, id string) (*faas.Instance, error)
	ResumeInstance(ctx context.Context, project, id string) (*faas.Instance, error)
	InstanceExecutions(ctx context.Context, project, id string, limit int, cursor string) ([]faas.Execution, string, error)
	InstanceStats(ctx context.Context, project, id string) (driver.Stats, error)
	Guest(ctx context.Context, project, id string, f func(*guest.Client) error) error
}

// Statuses in which operations on one thing end when they cannot be done.
var (
	readErrors   = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusServiceUnavailable, http.StatusGatewayTimeout}
	changeErrors = append([]int{http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests}, readErrors...)
)

type instanceInput struct {
	ID string `path:"id" maxLength:"128" doc:"Id of the instance, or its name." example:"inst-0c7v4g6k1w0003f9a2m5d8r1t6"`
}

type instancesInput struct {
	Status faas.InstanceStatus `query:"status" enum:"running,paused,stopped,failed,creating,pausing,resuming,stopping,starting,deleting" doc:"Only those."`
	Name   string              `query:"name" maxLength:"128" doc:"Only the one of this name."`
	Label  []string            `query:"label,explode" maxItems:"64" doc:"Only those with this label, NAME=VALUE; several: with all of them."`
	Limit  int                 `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Instances on one page."`
	Cursor string              `query:"cursor" maxLength:"128" doc:"The next_cursor of the page before."`
}

type instanceLogsInput struct {
	ID     string `path:"id" maxLength:"128" doc:"Id of the instance, or its name."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Commands on one page."`
	Cursor string `query:"cursor" maxLength:"128" doc:"The next_cursor of the page before."`
}

// registerInstances registers the instances themselves; what is done in one is
// in resident.go.
func (g *Gateway) registerInstances() {
	op := func(id, method, path, summary, description string, failures ...int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: api.PathInstances + path, Tags: []string{"instances"},
			Summary: summary, Description: description, Errors: failures}
	}
	handleBody(g, op("create-instance", http.MethodPost, "", "Make an instance of an image or of a saved state",
		"It is running and on record when the answer comes.", changeErrors...),
		map[string]any{
			"image":    map[string]any{"image": "host", "name": "notebook", "memory_mb": 512, "ttl_ms": 86400000, "idle_timeout_ms": 600000, "on_idle": "pause", "labels": map[string]string{"team": "a"}},
			"snapshot": map[string]any{"snapshot_id": "snap-0c7v4g6k1w0003f9a2m5d8r1t6", "env_vars": map[string]string{"WORKER": "1"}},
		}, exampleInstance(), g.createInstance)
	handle(g, op("list-instances", http.MethodGet, "", "List the project's instances, newest first", "", readErrors...),
		api.InstanceList{Instances: []*api.Instance{exampleInstance()}}, g.listInstances)
	for _, route := range []struct{ id, path, summary string }{
		{"get-instance", "/{id}", "Show one instance"},
		{"get-instance-info", "/{id}/info", "Show one instance (the same, for older clients)"},
	} {
		handle(g, op(route.id, http.MethodGet, route.path, route.summary, "", readErrors...), exampleInstance(), g.getInstance)
	}
	handleBody(g, op("update-instance", http.MethodPatch, "/{id}", "Change an instance's name, labels and life", "", changeErrors...),
		map[string]any{"rename": map[string]any{"name": "old", "ttl_ms": 0}}, exampleInstance(), g.updateInstance)
	handle(g, op("delete-instance", http.MethodDelete, "/{id}", "End an instance and remove it",
		"Its processes and files are gone when the answer comes; the snapshots that were taken of it stay.", changeErrors...),
		api.Removed{Removed: []string{"inst-0c7v4g6k1w0003f9a2m5d8r1t6"}}, g.deleteInstance)
	g.registerLifecycle(op)
}

func (g *Gateway) registerLifecycle(op func(id, method, path, summary, description string, failures ...int) huma.Operation) {
	e := g.opts.Executor
	type change func(ctx context.Context, project, id string) (*faas.Instance, error)
	for _, route := range []struct {
		name, summary, description string
		do                         func() change
	}{
		{"stop", "Stop an instance: its files stay, its processes end", "One that is stopped stays so.", func() change { return e.StopInstance }},
		{"start", "Start a stopped instance from its files", "A failed one begins again with what it was last made of; a running one stays so.", func() change { return e.StartInstance }},
		{"resume", "Let the processes of a paused instance go on", "A running one stays so.", func() change { return e.ResumeInstance }},
	} {
		handle(g, op(route.name+"-instance", http.MethodPost, "/{id}/"+route.name, route.summary, route.description, changeErrors...),
			exampleInstance(), func(ctx context.Context, in *instanceInput) (*api.Instance, error) {
				return g.changeInstance(ctx, in.ID, route.do())
			})
	}
	handleBody(g, op("pause-instance", http.MethodPost, "/{id}/pause", "Let the processes of an instance stand still",
		"They keep their memory and go on when it is resumed. A paused one stays so. It is saved first, unless checkpoint is false: checkpoint_id names the snapshot.", changeErrors...),
		map[string]any{"named": map[string]any{"name": "friday"}, "without": map[string]any{"checkpoint": false}}, exampleInstance(), g.pauseInstance)
	handle(g, op("get-instance-stats", http.MethodGet, "/{id}/stats", "Show what an instance consumes", "All zero when it is stopped.", readErrors...),
		api.InstanceStats{CPUMS: 120, MemoryBytes: 20 << 20, MaxMemoryBytes: 31 << 20, PIDs: 3, DiskBytes: 4096}, g.instanceStats)
	handle(g, op("list-instance-processes", http.MethodGet, "/{id}/processes", "List the processes of an instance", "", append([]int{http.StatusConflict}, readErrors...)...),
		api.ProcessList{Processes: []api.Process{{PID: 7, PPID: 1, State: "S", Command: []string{"python3", "app.py"}, CPUMS: 120, RSSBytes: 9 << 20, StartedAt: exampleTime}}}, g.instanceProcesses)
	code := 0
	handle(g, op("list-instance-logs", http.MethodGet, "/{id}/logs", "Show what the commands in an instance wrote, newest first",
		"One entry for each command that ended, as far as its output is on record; those that run are there without.", readErrors...),
		api.InstanceLogs{Logs: []api.InstanceLog{{ExecutionID: exampleExecution.ID, Status: faas.ExecutionSucceeded, Command: []string{"echo", "hello"}, CreatedAt: exampleTime, FinishedAt: &exampleTime, ExitCode: &code, Stdout: "hello\n"}}}, g.instanceLogs)
}

// instanceRequest turns settings into the executor's terms.
func instanceRequest(ctx context.Context, s *api.InstanceSettings) (faas.InstanceRequest, error) {
	disk := s.DiskMB
	if s.DiskGB != 0 {
		whole := int64(math.Ceil(s.DiskGB * 1024))
		if disk != 0 && disk != whole {
			return faas.InstanceRequest{}, faas.InvalidField("disk_mb", "contradicts disk_gb")
		}
		disk = whole
	}
	return faas.InstanceRequest{
		Project: identity(ctx).Project, Name: s.Name, Runtime: s.Runtime,
		Resources: faas.Resources{CPUCores: s.CPUCores, MemoryMB: s.MemoryMB, DiskMB: disk, PIDs: s.PIDs},
		Env:       s.EnvVars, Network: s.Network.Policy(), TTL: milliseconds(s.TTLMS), Labels: s.Labels,
		IdleTimeout: milliseconds(s.IdleTimeoutMS), OnIdle: s.OnIdle,
		AllowDegraded: s.AllowDegraded, Entropy: s.Entropy, DisableSSH: s.EnableSSH != nil && !*s.EnableSSH,
	}, nil
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func (g *Gateway) createInstance(ctx context.Context, _ *struct{}, body *api.InstanceRequest) (*api.Instance, error) {
	req, err := instanceRequest(ctx, &body.InstanceSettings)
	if err != nil {
		return nil, err
	}
	if _, port := g.sshAddress(ctx); port == 0 && body.EnableSSH != nil && *body.EnableSSH {
		return nil, errNoSSH()
	}
	if body.SnapshotID != "" && body.BranchFrom != "" {
		return nil, faas.InvalidField("branch_from", "an instance starts from snapshot_id or from branch_from, not both")
	}
	req.Image, req.From = body.Image, body.SnapshotID+body.BranchFrom
	if body.SnapshotID != "" && !faas.ValidID(faas.PrefixSnapshot, body.SnapshotID) {
		return nil, faas.InvalidField("snapshot_id", "is not the id of a snapshot; branch_from takes other states")
	}
	made, err := g.opts.Executor.CreateInstance(ctx, req)
	if err != nil {
		return nil, err
	}
	return g.instance(ctx, made), nil
}

func (g *Gateway) listInstances(ctx context.Context, in *instancesInput) (api.InstanceList, error) {
	labels, err := labelFilter(in.Label)
	if err != nil {
		return api.InstanceList{}, err
	}
	found, next, err := g.opts.Executor.Instances(ctx, identity(ctx).Project,
		faas.InstanceFilter{Status: in.Status, Name: in.Name, Labels: labels, Limit: in.Limit, Cursor: in.Cursor})
	list := api.InstanceList{Instances: make([]*api.Instance, 0, len(found)), NextCursor: next}
	for i := range found {
		list.Instances = append(list.Instances, g.instance(ctx, &found[i]))
	}
	return list, err
}

// labelFilter reads NAME=VALUE.
func labelFilter(given []string) (map[string]string, error) {
	labels := make(map[string]string, len(given))
	for _, text := range given {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, faas.InvalidField("label", "%q is not NAME=VALUE", text)
		}
		labels[name] = value
	}
	return labels, nil
}

// instanceID finds the id of an instance that a path names by id or name.
func (g *Gateway) instanceID(ctx context.Context, ref string) (string, error) {
	if faas.ValidID(faas.PrefixInstance, ref) {
		return ref, nil
	}
	found, _, err := g.opts.Executor.Instances(ctx, identity(ctx).Project, faas.InstanceFilter{Name: ref, Limit: 1})
	if err != nil {
		return "", err
	}
	if len(found) == 0 || ref == "" {
		return "", faas.Errorf(faas.KindNotFound, "there is no instance %q", ref)
	}
	return found[0].ID, nil
}

func (g *Gateway) changeInstance(ctx context.Context, ref string, do func(ctx context.Context, project, id string) (*faas.Instance, error)) (*api.Instance, error) {
	id, err := g.instanceID(ctx, ref)
	if err != nil {
		return nil, err
	}
	x, err := do(ctx, identity(ctx).Project, id)
	if err != nil {
		return nil, err
	}
	return g.instance(ctx, x), nil
}

func (g *Gateway) getInstance(ctx context.Context, in *instanceInput) (*api.Instance, error) {
	return g.changeInstance(ctx, in.ID, g.opts.Executor.Instance)
}

func (g *Gateway) updateInstance(ctx context.Context, in *instanceInput, body *api.InstanceUpdate) (*api.Instance, error) {
	return g.changeInstance(ctx, in.ID, func(ctx context.Context, project, id string) (*faas.Instance, error) {
		update := faas.InstanceUpdate{Name: body.Name, Labels: body.Labels, OnIdle: body.OnIdle}
		if body.TTLMS != nil {
			ttl := milliseconds(*body.TTLMS)
			update.TTL = &ttl
		}
		if body.IdleTimeoutMS != nil {
			idle := milliseconds(*body.IdleTimeoutMS)
			update.IdleTimeout = &idle
		}
		return g.opts.Executor.UpdateInstance(ctx, project, id, update)
	})
}

func (g *Gateway) deleteInstance(ctx context.Context, in *instanceInput) (api.Removed, error) {
	id, err := g.instanceID(ctx, in.ID)
	if err != nil {
		return api.Removed{}, err
	}
	return api.Removed{Removed: []string{id}}, g.opts.Executor.DeleteInstance(ctx, identity(ctx).Project, id)
}

func (g *Gateway) pauseInstance(ctx context.Context, in *instanceInput, body *api.PauseRequest) (*api.Instance, error) {
	id, err := g.instanceID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	project := identity(ctx).Project
	x, err := g.opts.Executor.Instance(ctx, project, id)
	if err != nil {
		return nil, err
	}
	saved := x.SnapshotID
	if x.Status == faas.InstanceRunning && (body.Checkpoint == nil || *body.Checkpoint) {
		s, err := g.opts.Executor.Snapshot(ctx, project, id, snapshotRequest(&body.SnapshotSettings))
		switch {
		case err == nil:
			saved = s.ID
		case body.Checkpoint != nil || !errors.Is(err, faas.ErrCapabilityUnavailable):
			return nil, err
		}
	}
	if x, err = g.opts.Executor.PauseInstance(ctx, project, id); err != nil {
		return nil, err
	}
	paused := g.instance(ctx, x)
	if body.Checkpoint == nil || *body.Checkpoint {
		paused.CheckpointID = saved
	}
	return paused, nil
}

func (g *Gateway) instanceStats(ctx context.Context, in *instanceInput) (api.InstanceStats, error) {
	id, err := g.instanceID(ctx, in.ID)
	if err != nil {
		return api.InstanceStats{}, err
	}
	stats, err := g.opts.Executor.InstanceStats(ctx, identity(ctx).Project, id)
	return api.InstanceStats(stats), err
}

func (g *Gateway) instanceProcesses(ctx context.Context, in *instanceInput) (api.ProcessList, error) {
	id, err := g.instanceID(ctx, in.ID)
	if err != nil {
		return api.ProcessList{}, err
	}
	list := api.ProcessList{Processes: []api.Process{}}
	err = g.opts.Executor.Guest(ctx, identity(ctx).Project, id, func(c *guest.Client) error {
		found, err := c.Processes(ctx)
		for _, p := range found {
			if p.Command == nil {
				p.Command = []string{}
			}
			list.Processes = append(list.Processes, api.Process{
				PID: p.PID, PPID: p.PPID, UID: p.UID, State: p.State, Command: p.Command,
				CPUMS: p.CPU.Milliseconds(), RSSBytes: p.RSS, StartedAt: p.Started.UTC(),
			})
		}
		return err
	})
	return list, err
}

func (g *Gateway) instanceLogs(ctx context.Context, in *instanceLogsInput) (api.InstanceLogs, error) {
	id, err := g.instanceID(ctx, in.ID)
	if err != nil {
		return api.InstanceLogs{}, err
	}
	found, next, err := g.opts.Executor.InstanceExecutions(ctx, identity(ctx).Project, id, in.Limit, in.Cursor)
	logs := api.InstanceLogs{Logs: make([]api.InstanceLog, 0, len(found)), NextCursor: next}
	for i := range found {
		logs.Logs = append(logs.Logs, api.NewInstanceLog(&found[i]))
	}
	return logs, err
}
