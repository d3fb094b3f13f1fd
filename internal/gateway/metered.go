package gateway

import (
	"cmp"
	"context"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/quota"
	"github.com/faas-platform/faas/internal/usage"
)

// metered is an Executor that holds the caller to the quota of their key and
// to the images of their project, and meters what is used. The caller is the context's; without one, such as in
// the platform's own work, nothing is counted.
type metered struct {
	Executor
	quota    *quota.Ledger
	usage    *usage.Meter
	defaults faas.Resources
	names    ImageNames
}

// Execute runs a command within the caller's quota.
func (m *metered) Execute(ctx context.Context, req faas.Request) (*faas.Result, error) {
	image, err := visibleImage(ctx, m.names, identity(ctx).Project, req.Image)
	if err != nil {
		return nil, err
	}
	req.Image = image
	req.KeyID = identity(ctx).KeyID
	need := m.needOf(req)
	leave, err := m.quota.Enter(ctx, identity(ctx), need, m.held(ctx))
	if err != nil {
		return nil, err
	}
	defer leave()
	result, err := m.Executor.Execute(ctx, req)
	if result != nil {
		m.ran(ctx, result, need)
	}
	return result, err
}

// ExecuteFork runs commands in copies of one state within the caller's quota.
func (m *metered) ExecuteFork(ctx context.Context, project, from string, requests []faas.Request) ([]faas.ForkedExecution, error) {
	var all quota.Need
	for i := range requests {
		image, err := visibleImage(ctx, m.names, project, requests[i].Image)
		if err != nil {
			return nil, err
		}
		requests[i].Image, requests[i].KeyID = image, identity(ctx).KeyID
		all = all.Plus(m.needOf(requests[i]))
	}
	leave, err := m.quota.Enter(ctx, identity(ctx), all, m.held(ctx))
	if err != nil {
		return nil, err
	}
	defer leave()
	copies, err := m.Executor.ExecuteFork(ctx, project, from, requests)
	for i, c := range copies {
		if c.Result != nil && i < len(requests) {
			m.ran(ctx, c.Result, m.needOf(requests[i]))
		}
	}
	return copies, err
}

// CreateInstance makes an instance within the caller's quota. What it takes is
// counted with the key's instances from then on.
func (m *metered) CreateInstance(ctx context.Context, req faas.InstanceRequest) (*faas.Instance, error) {
	image, err := visibleImage(ctx, m.names, identity(ctx).Project, req.Image)
	if err != nil {
		return nil, err
	}
	req.Image = image
	req.KeyID = identity(ctx).KeyID
	leave, err := m.quota.Enter(ctx, identity(ctx), m.need(req.Resources), m.held(ctx))
	if err != nil {
		return nil, err
	}
	defer leave()
	return m.Executor.CreateInstance(ctx, req)
}

// StartInstance starts an instance within the quota of the caller, if it is
// theirs.
func (m *metered) StartInstance(ctx context.Context, project, id string) (*faas.Instance, error) {
	x, err := m.Instance(ctx, project, id)
	if err == nil && x.CreatedBy == identity(ctx).KeyID && !holds(x.Status) {
		leave, err := m.quota.Enter(ctx, identity(ctx), m.need(x.Resources), m.held(ctx))
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	return m.Executor.StartInstance(ctx, project, id)
}

// Fork makes copies within the caller's quota.
func (m *metered) Fork(ctx context.Context, req faas.ForkRequest) ([]faas.Forked, error) {
	var all quota.Need
	for i := range req.Variants {
		req.Variants[i].KeyID = identity(ctx).KeyID
		all = all.Plus(m.need(req.Variants[i].Resources))
	}
	leave, err := m.quota.Enter(ctx, identity(ctx), all, m.held(ctx))
	if err != nil {
		return nil, err
	}
	defer leave()
	return m.Executor.Fork(ctx, req)
}

// Snapshot saves an instance and meters what that takes.
func (m *metered) Snapshot(ctx context.Context, project, instanceID string, req faas.SnapshotRequest) (*faas.Snapshot, error) {
	s, err := m.Executor.Snapshot(ctx, project, instanceID, req)
	m.saved(ctx, s)
	return s, err
}

// SnapshotImage saves an image's first state and meters what that takes.
func (m *metered) SnapshotImage(ctx context.Context, project, image string, runtime faas.Runtime, req faas.SnapshotRequest) (*faas.Snapshot, error) {
	image, err := visibleImage(ctx, m.names, identity(ctx).Project, image)
	if err != nil {
		return nil, err
	}
	s, err := m.Executor.SnapshotImage(ctx, project, image, runtime, req)
	m.saved(ctx, s)
	return s, err
}

func (m *metered) saved(ctx context.Context, s *faas.Snapshot) {
	if s != nil {
		m.usage.Add(identity(ctx).Project, identity(ctx).KeyID, usage.Amounts{SnapshotBytes: s.SizeBytes})
	}
}

// heldPage is how many instances are counted at one time.
const heldPage = 1000

// holds says whether an instance in a status takes memory and disk.
func holds(status faas.InstanceStatus) bool {
	return status != faas.InstanceStopped && status != faas.InstanceFailed && status != faas.InstanceCreating
}

// held counts the caller's instances. One that is being made is counted by
// whoever makes it.
func (m *metered) held(ctx context.Context) quota.Held {
	who := identity(ctx)
	return func(ctx context.Context) (sum quota.Need, err error) {
		filter := faas.InstanceFilter{Limit: heldPage}
		for {
			list, next, err := m.Instances(ctx, who.Project, filter)
			if err != nil {
				return sum, err
			}
			for _, x := range list {
				if x.CreatedBy == who.KeyID && holds(x.Status) {
					sum = sum.Plus(m.need(x.Resources))
				}
			}
			if filter.Cursor = next; next == "" {
				return sum, nil
			}
		}
	}
}

// needOf is what one command takes of a quota: in an instance only its place.
func (m *metered) needOf(req faas.Request) quota.Need {
	need := quota.Need{Places: 1}
	if req.InstanceID == "" {
		need = m.need(req.Resources)
	}
	need.Executions = 1
	return need
}

// need is what one sandbox of a size takes of a quota.
func (m *metered) need(r faas.Resources) quota.Need {
	return quota.Need{Places: 1, MemoryMB: cmp.Or(r.MemoryMB, m.defaults.MemoryMB), DiskMB: cmp.Or(r.DiskMB, m.defaults.DiskMB)}
}

// ran meters a command that ended. One whose answer was remembered used
// nothing.
func (m *metered) ran(ctx context.Context, result *faas.Result, need quota.Need) {
	used := usage.Amounts{Executions: 1}
	if !result.CacheHit {
		used.CPUMS, used.MemoryMBMS = result.Usage.CPUMS, int64(float64(need.MemoryMB)*result.DurationMS)
	}
	who := identity(ctx)
	m.usage.Add(who.Project, who.KeyID, used)
}

// Prewarm has sandboxes made ahead, of images that the project may use.
func (m *metered) Prewarm(ctx context.Context, req faas.PoolRequest, count int) (*faas.Pool, error) {
	image, err := visibleImage(ctx, m.names, identity(ctx).Project, req.Image)
	if err != nil {
		return nil, err
	}
	req.Image = image
	return m.Executor.Prewarm(ctx, req, count)
}
