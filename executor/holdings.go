package executor

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/snapshot"
)

// forgetTimeout bounds a driver's removal of what it keeps of a state.
const forgetTimeout = time.Minute

func mebibytes(n int64) string { return strconv.FormatInt(n>>20, 10) }

// placeSnapshot fills in where a snapshot's bytes are.
func (e *Executor) placeSnapshot(s *faas.Snapshot) {
	p := e.snapshots.Tier(s.ID)
	switch {
	case p.Hot && p.Cold:
		s.Tier = faas.TierBoth
	case p.Cold:
		s.Tier = faas.TierCold
	default:
		s.Tier = faas.TierHot
	}
	s.StoredBytes = p.StoredBytes
	if p.Move != nil {
		s.Move = &faas.SnapshotMove{Phase: p.Move.Phase, Done: p.Move.Done, Total: p.Move.Total}
	}
}

// forgetState has the driver remove what it keeps of a state that is gone.
func (e *Executor) forgetState(m *snapshot.Manifest) {
	f, ok := e.drivers[m.Runtime].(driver.Forgetter)
	if !ok || len(m.Driver) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), forgetTimeout)
	defer cancel()
	if err := f.Forget(ctx, m.Driver); err != nil {
		e.log.Warn("what a runtime keeps of a removed snapshot stays until the next start", "runtime", m.Runtime, "snapshot", m.ID, "error", err)
	}
}

// forgetOtherStates has the drivers remove what a crash left them of states
// that are on record nowhere.
func (e *Executor) forgetOtherStates() {
	list, err := e.snapshots.Holdings()
	if err != nil || len(e.snapshots.Damaged()) > 0 {
		return // one that cannot be read may be anybody's
	}
	named := map[faas.Runtime][]json.RawMessage{}
	for _, h := range list {
		if len(h.Manifest.Driver) > 0 {
			named[h.Manifest.Runtime] = append(named[h.Manifest.Runtime], h.Manifest.Driver)
		}
	}
	for name, d := range e.drivers {
		f, ok := d.(driver.Forgetter)
		if !ok {
			continue
		}
		ctx, cancel := context.WithTimeout(e.ctx, forgetTimeout)
		err := f.ForgetOthers(ctx, named[name])
		cancel()
		if err != nil && e.ctx.Err() == nil && !errors.Is(err, faas.ErrUnavailable) {
			e.log.Warn("what a crash left of snapshots stays until the next start", "runtime", name, "error", err)
		}
	}
}

// VerifySnapshots reads all that snapshots and the layers below them hold, in
// both tiers, and compares it with the digests taken when they were archived;
// those without get them first. No ids: all of the project. It tells each
// snapshot as it begins with it; progress may be nil.
func (e *Executor) VerifySnapshots(ctx context.Context, project string, ids []string, progress func(id string, at, of int)) ([]faas.SnapshotProblem, error) {
	project = orDefault(project)
	var list []*snapshot.Manifest
	for _, id := range ids {
		m, err := e.visible(project, id)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	if len(ids) == 0 {
		list = e.snapshots.List(project, nil)
	}
	var order []string
	seen := map[string]bool{}
	for _, m := range list {
		for _, layer := range append([]string{m.ID}, m.Layers...) {
			if !seen[layer] {
				seen[layer], order = true, append(order, layer)
			}
		}
	}
	problems := []faas.SnapshotProblem{}
	for i, id := range order {
		if progress != nil {
			progress(id, i, len(order))
		}
		found, err := e.snapshots.VerifyOwn(ctx, id)
		if err != nil {
			return problems, err
		}
		for _, p := range found {
			problems = append(problems, faas.SnapshotProblem(p))
		}
	}
	return problems, nil
}

// DamagedSnapshots names what cannot even be told whose it is: directories of
// snapshots whose manifests cannot be read, in every project.
func (e *Executor) DamagedSnapshots() []faas.SnapshotProblem {
	problems := []faas.SnapshotProblem{}
	for id, err := range e.snapshots.Damaged() {
		problems = append(problems, faas.SnapshotProblem{SnapshotID: id, Tier: snapshot.TierHot, Path: "manifest.json", Detail: err.Error()})
	}
	return problems
}

// CollectSnapshots ends the leases of sandboxes that are gone, removes the
// files that nothing needs, and frees the cold tier of what no snapshot names.
// It returns the bytes freed there. Nothing that runs is touched.
func (e *Executor) CollectSnapshots(ctx context.Context) (int64, error) {
	records, err := e.store.AllInstances(ctx)
	if err != nil {
		return 0, err
	}
	held := map[string]bool{}
	for _, r := range records {
		held[r.SandboxID] = true
	}
	if err := e.snapshots.Sweep(func(holder string) bool { return held[holder] }); err != nil {
		return 0, err
	}
	if e.opts.Tiers.Cold == nil {
		return 0, nil
	}
	return e.snapshots.CollectCold(ctx)
}
