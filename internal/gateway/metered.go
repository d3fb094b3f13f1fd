package gateway

import (
	"cmp"
	"context"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/quota"
	"github.com/faas-platform/faas/internal/usage"
)

// metered is an Executor that holds the caller to the quota of their key and
// meters what is used. The caller is the context's; without one, such as in
// the platform's own work, nothing is counted.
type metered struct {
	Executor
	quota    *quota.Ledger
	usage    *usage.Meter
	defaults faas.Resources
}

// Execute runs a command within the caller's quota.
func (m *metered) Execute(ctx context.Context, req faas.Request) (*faas.Result, error) {
	who := identity(ctx)
	need := m.need(req.Resources)
	need.Executions = 1
	leave, err := m.quota.Enter(ctx, who, need, nil)
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
