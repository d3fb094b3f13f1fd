package executor

import (
	"context"
	"errors"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/internal/meta"
	"github.com/faas-platform/faas/pool"
	"github.com/faas-platform/faas/snapshot"
)

// snapshotTimeout bounds one snapshot, its way to the disk included.
const snapshotTimeout = 10 * time.Minute

// Snapshot saves an instance, which goes on. The snapshot is durable when
// Snapshot returns.
func (e *Executor) Snapshot(ctx context.Context, project, instanceID string, req faas.SnapshotRequest) (*faas.Snapshot, error) {
	if err := checkSnapshotRequest(&req); err != nil {
		return nil, err
	}
	x, release, err := e.take(ctx, project, instanceID, "snapshot")
	if err != nil {
		return nil, err
	}
	defer release()
	record, p, s := x.state()
	if s == nil && record.Asleep {
		if err := e.startTaken(ctx, x); err != nil {
			return nil, err
		}
		record, p, s = x.state()
	}
	if s == nil {
		return nil, wrongStatus(x, "snapshot", "start it first")
	}
	m := e.manifestOf(record, p)
	m.Name, m.Description, m.Labels = req.Name, req.Description, req.Labels
	saved, pause, err := e.saveInstance(ctx, x, s, m, req.Kind)
	if err != nil {
		return nil, err
	}
	if err := e.moveOn(x, saved.ID); err != nil {
		e.log.Error("what an instance was last saved as could not be recorded", "instance", x.id, "snapshot", saved.ID, "error", err)
	}
	out := e.snapshotView(saved)
	out.PauseMS = milliseconds(pause)
	return out, nil
}

// SnapshotImage saves an image as it is: what starts from the snapshot is as if
// it had been made of the image. An empty runtime is faas.RuntimeAuto.
func (e *Executor) SnapshotImage(ctx context.Context, project, image string, runtime faas.Runtime, req faas.SnapshotRequest) (*faas.Snapshot, error) {
	if err := checkSnapshotRequest(&req); err != nil {
		return nil, err
	}
	if req.Kind == faas.SnapshotFull {
		return nil, faas.InvalidField("kind", "an image has files and no processes: fs is what there is of it")
	}
	req.Kind = faas.SnapshotFS
	// Whatever happens to this process, the source does not stay.
	made, err := e.CreateInstance(ctx, faas.InstanceRequest{Project: project, Image: image, Runtime: runtime, TTL: snapshotTimeout})
	if err != nil {
		return nil, err
	}
	saved, err := e.Snapshot(ctx, project, made.ID, req)
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), destroyTimeout*(reapAttempts+1))
	defer cancel()
	if deleteErr := e.DeleteInstance(after, project, made.ID); deleteErr != nil {
		e.log.Error("the source of an image's snapshot is left until its time is over", "instance", made.ID, "error", deleteErr)
	}
	return saved, err
}

func checkSnapshotRequest(req *faas.SnapshotRequest) error {
	switch req.Kind {
	case "":
		req.Kind = faas.SnapshotAuto
	case faas.SnapshotAuto, faas.SnapshotFS, faas.SnapshotFull:
	default:
		return faas.InvalidField("kind", "%q is not one of auto, fs, full", clip(string(req.Kind)))
	}
	if len(req.Description) > 4096 {
		return faas.InvalidField("description", "longer than 4096 bytes")
	}
	if err := checkName("name", req.Name, true); err != nil {
		return err
	}
	return checkLabels(&faas.Request{Labels: req.Labels})
}

// moveOn records what an instance was last saved as, on its branch too.
func (e *Executor) moveOn(x *instance, id string) error {
	record, p, _ := x.state()
	branch, head := record.BranchID, id
	if branch != "" {
		ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
		defer cancel()
		if err := e.store.MoveBranch(ctx, record.Project, branch, p.Head, id); err != nil {
			if !errors.Is(err, faas.ErrConflict) {
				return err
			}
			// Someone else moved it: two lines cannot both be one branch.
			e.log.Warn("an instance goes on without its branch, which another moved", "instance", x.id, "branch", branch)
			branch, head = "", ""
		}
	}
	return e.save(x, func(r *meta.Instance, p *private) { r.SnapshotID, r.BranchID, p.Head = id, branch, head })
}

// saveInstance saves an instance's sandbox as a snapshot of a kind. The
// processes of a paused one run for a moment when memory is saved.
func (e *Executor) saveInstance(ctx context.Context, x *instance, s *pool.Sandbox, m snapshot.Manifest, kind faas.SnapshotKind) (*snapshot.Manifest, time.Duration, error) {
	var err error
	if m.Kind, err = e.kindFor(ctx, m.Runtime, kind); err != nil {
		return nil, 0, err
	}
	_, p, _ := x.state()
	pauser, ok := s.Sandbox.(driver.Pauser)
	if x.status() != faas.InstancePaused || m.Kind != faas.SnapshotFull || !ok {
		return e.saveState(ctx, s, m, p.Base)
	}
	if err := pauser.Resume(ctx); err != nil {
		return nil, 0, err
	}
	saved, pause, err := e.saveState(ctx, s, m, p.Base)
	again, cancel := context.WithTimeout(context.WithoutCancel(ctx), pauseTimeout)
	defer cancel()
	if pauseErr := pauser.Pause(again); pauseErr != nil {
		e.log.Error("an instance could not be paused again after a snapshot", "instance", x.id, "error", pauseErr)
		if pauseErr = e.save(x, func(r *meta.Instance, _ *private) { r.Status = faas.InstanceRunning }); pauseErr != nil {
			e.log.Error("an instance's status could not be recorded", "instance", x.id, "error", pauseErr)
		}
	}
	return saved, pause, err
}

// kindFor chooses the kind of snapshot that a runtime can take.
func (e *Executor) kindFor(ctx context.Context, runtime faas.Runtime, kind faas.SnapshotKind) (faas.SnapshotKind, error) {
	entry := e.probes.entry(runtime)
	if entry == nil {
		return "", faas.Unavailable("this installation has no driver for "+string(runtime), "")
	}
	caps, ok := e.probes.known(ctx, entry)
	if !ok {
		return "", stopped(ctx, "probe "+string(runtime))
	}
	switch {
	case kind == faas.SnapshotAuto && caps.Has(faas.FeatureSnapshotFull):
		return faas.SnapshotFull, nil
	case kind == faas.SnapshotAuto:
		kind = faas.SnapshotFS
	}
	feature := faas.FeatureSnapshotFS
	if kind == faas.SnapshotFull {
		feature = faas.FeatureSnapshotFull
	}
	if !caps.Has(feature) {
		c := caps.Feature(feature)
		return "", &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "snapshot", Field: "kind",
			Detail: string(runtime) + " cannot take a snapshot of kind " + string(kind) + ": " + orUnknown(c.Reason), Remedy: c.Remedy}
	}
	return kind, nil
}

// saveState saves a sandbox durably. Its layer lies on those of base.
func (e *Executor) saveState(ctx context.Context, s *pool.Sandbox, m snapshot.Manifest, base string) (*snapshot.Manifest, time.Duration, error) {
	source, ok := s.Sandbox.(driver.Snapshotter)
	if !ok {
		return nil, 0, faas.Unavailable("the runtime "+string(m.Runtime)+" cannot take snapshots", "use a runtime that can: GET /api/v1/runtimes names them")
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	if err := e.roomFor(ctx, m.Project, base); err != nil {
		return nil, 0, err
	}
	draft, err := e.snapshots.BeginOn(m, base)
	if err != nil {
		return nil, 0, err
	}
	saved, err := e.capture(ctx, s, source, draft)
	if err != nil {
		return nil, 0, errors.Join(err, draft.Abort())
	}
	draft.Manifest.Requires, draft.Manifest.Driver = saved.Requires, saved.Data
	draft.Covers(saved.Covers)
	committed, err := draft.Commit(ctx)
	if err != nil {
		e.forgetState(&draft.Manifest)
		return nil, 0, err
	}
	e.counters.snapshots.Add(1)
	e.tiers.added(committed.SizeBytes)
	e.snapshotChanged(faas.EventSnapshotCreated, committed)
	return committed, saved.Pause, nil
}

// capture writes a sandbox's state into a draft. For memory the agent has
// ended its connections before; the streams of running commands go on
// afterwards.
func (e *Executor) capture(ctx context.Context, s *pool.Sandbox, source driver.Snapshotter, draft *snapshot.Draft) (driver.Saved, error) {
	kind := draft.Manifest.Kind
	if kind != faas.SnapshotFull {
		return source.Snapshot(ctx, kind, draft.FS(), draft.Memory())
	}
	resume, err := s.Client.Suspend(ctx)
	if err != nil {
		return driver.Saved{}, err
	}
	saved, err := source.Snapshot(ctx, kind, draft.FS(), draft.Memory())
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), configureTimeout)
	defer cancel()
	if resumeErr := resume(after); resumeErr != nil {
		// What was saved may be all that is left of it.
		e.log.Error("a sandbox does not answer after its snapshot", "sandbox", s.ID(), "error", resumeErr)
	}
	return saved, err
}

func (e *Executor) snapshotView(m *snapshot.Manifest) *faas.Snapshot {
	s := &faas.Snapshot{
		ID: m.ID, Project: m.Project, Name: m.Name, Description: m.Description, Labels: m.Labels,
		Kind: m.Kind, Runtime: m.Runtime, ParentID: m.ParentID, InstanceID: m.InstanceID,
		Image: m.Image, ImageDigest: m.ImageDigest, Resources: m.Spec.Resources, CreatedAt: m.CreatedAt,
		SizeBytes: m.SizeBytes, MemoryBytes: m.MemoryBytes, Depth: len(m.Layers),
	}
	e.placeSnapshot(s)
	return s
}

// SnapshotInfo returns one snapshot.
func (e *Executor) SnapshotInfo(_ context.Context, project, id string) (*faas.Snapshot, error) {
	m, err := e.visible(orDefault(project), id)
	if err != nil {
		return nil, err
	}
	return e.snapshotView(m), nil
}

// Snapshots lists a project's snapshots, newest first, and the cursor of the
// next page, "" at the end.
func (e *Executor) Snapshots(_ context.Context, project string, filter faas.SnapshotFilter) ([]faas.Snapshot, string, error) {
	limit, err := pageSize(filter.Limit)
	if err != nil {
		return nil, "", err
	}
	if filter.Cursor != "" && !faas.ValidID(faas.PrefixSnapshot, filter.Cursor) {
		return nil, "", faas.InvalidField("cursor", "not a cursor of this list")
	}
	found := e.snapshots.List(orDefault(project), func(m *snapshot.Manifest) bool { return selects(filter, m) })
	list := make([]faas.Snapshot, 0, min(limit, len(found)))
	for i := len(found) - 1; i >= 0; i-- {
		if len(list) == limit {
			return list, list[limit-1].ID, nil
		}
		list = append(list, *e.snapshotView(found[i]))
	}
	return list, "", nil
}

func selects(f faas.SnapshotFilter, m *snapshot.Manifest) bool {
	for key, value := range f.Labels {
		if have, ok := m.Labels[key]; !ok || have != value {
			return false
		}
	}
	return (f.Name == "" || f.Name == m.Name) && (f.ParentID == "" || f.ParentID == m.ParentID) &&
		(f.InstanceID == "" || f.InstanceID == m.InstanceID) && (f.Kind == "" || f.Kind == faas.SnapshotAuto || f.Kind == m.Kind) &&
		(f.Cursor == "" || m.ID < f.Cursor)
}

// AnnotateSnapshot changes a snapshot's name, description and labels; nil
// leaves one as it is.
func (e *Executor) AnnotateSnapshot(_ context.Context, project, id string, name, description *string, labels map[string]string) (*faas.Snapshot, error) {
	check := faas.SnapshotRequest{Labels: labels}
	if name != nil {
		check.Name = *name
	}
	if description != nil {
		check.Description = *description
	}
	if err := checkSnapshotRequest(&check); err != nil {
		return nil, err
	}
	if _, err := e.visible(orDefault(project), id); err != nil {
		return nil, err
	}
	m, err := e.snapshots.Annotate(orDefault(project), id, func(a *snapshot.Annotations) {
		if name != nil {
			a.Name = *name
		}
		if description != nil {
			a.Description = *description
		}
		if labels != nil {
			a.Labels = labels
		}
	})
	if err != nil {
		return nil, err
	}
	e.snapshotChanged(faas.EventSnapshotChanged, m)
	return e.snapshotView(m), nil
}
