package executor

import (
	"context"
	"errors"
	"fmt"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/meta"
	"github.com/faas-platform/faas/pool"
)

// leavesState says whether a mode saves what a command leaves.
func leavesState(mode faas.Mode) bool {
	return mode == faas.ModeCheckpointed || mode == faas.ModeBranched
}

// checkpoint saves what a command left: memory too when it left processes
// running and the runtime can save them, otherwise files. A checkpointed
// execution that continued a branch moves its head on; a branched one is a
// line of its own.
func (e *Executor) checkpoint(ctx context.Context, x *execution, s *pool.Sandbox, result *faas.Result) error {
	req := x.req
	record := meta.Instance{Instance: faas.Instance{
		Project: req.Project, Image: req.Image, Runtime: x.record.Runtime,
		Resources: req.Resources, Network: req.Network, Labels: req.Labels,
	}}
	var base string
	if x.origin != nil {
		record.SnapshotID, base = x.origin.lineage(), x.origin.manifest.ID
	}
	m := e.manifestOf(record, private{Env: req.Env, ImageDigest: s.Image.Digest})
	m.Labels = req.Labels
	kind, err := e.kindAfter(ctx, s, x.record.Runtime)
	if err == nil {
		m.Kind = kind
		saved, _, saveErr := e.saveState(ctx, s, m, base)
		if err = saveErr; err == nil {
			result.SnapshotID = saved.ID
			return e.advance(x, result)
		}
	}
	return &faas.Error{Kind: faas.KindOf(err), Op: "execute", Err: err,
		Detail: fmt.Sprintf("the command ran and ended with exit code %d, but what it left could not be saved", result.ExitCode),
		Remedy: "its output is in the record of execution " + req.ID}
}

// kindAfter is the kind of snapshot for what a command left.
func (e *Executor) kindAfter(ctx context.Context, s *pool.Sandbox, runtime faas.Runtime) (faas.SnapshotKind, error) {
	asked, cancel := context.WithTimeout(ctx, guestStatsWait)
	defer cancel()
	processes, err := s.Client.Processes(asked)
	if err != nil {
		return "", err
	}
	for _, p := range processes {
		if p.PID != 1 && p.State != "Z" && p.State != "X" {
			return e.kindFor(ctx, runtime, faas.SnapshotAuto)
		}
	}
	return e.kindFor(ctx, runtime, faas.SnapshotFS)
}

// advance moves the branch on that a checkpointed execution continued.
func (e *Executor) advance(x *execution, result *faas.Result) error {
	if x.req.Mode != faas.ModeCheckpointed || x.origin == nil || x.origin.branch == nil {
		return nil
	}
	b := x.origin.branch
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	err := e.store.MoveBranch(ctx, b.Project, b.ID, b.Head, result.SnapshotID)
	if errors.Is(err, faas.ErrConflict) {
		result.Degraded = joinSentences(result.Degraded, "branch "+b.Name+" has moved on meanwhile: its head is another's")
		return nil
	}
	return err
}
