package main

import (
	"context"
	"io"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/executor"
)

// localSnapshots are those of this user, without a server. Whoever reads the
// data directory is its admin.
type localSnapshots struct{ engine *executor.Executor }

func (l localSnapshots) export(ctx context.Context, id string, kind faas.SnapshotKind, w io.Writer) error {
	return l.engine.ExportSnapshot(ctx, "", id, kind, w)
}

func (l localSnapshots) imported(ctx context.Context, r io.Reader, kind faas.SnapshotKind, name string) (*faas.Snapshot, error) {
	return l.engine.ImportSnapshot(ctx, "", r, faas.ImportOptions{Kind: kind, Memory: true, Name: name})
}

func (l localSnapshots) verify(ctx context.Context, ids []string) ([]faas.SnapshotProblem, error) {
	problems, err := l.engine.VerifySnapshots(ctx, "", ids, nil)
	if err == nil && len(ids) == 0 {
		problems = append(problems, l.engine.DamagedSnapshots()...)
	}
	return problems, err
}

func (l localSnapshots) collect(ctx context.Context) (int64, error) {
	return l.engine.CollectSnapshots(ctx)
}

func (l localSnapshots) key(context.Context) (string, error) { return l.engine.SigningKey() }
