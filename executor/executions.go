package executor

import (
	"context"
	"fmt"

	"github.com/faas-platform/faas"
)

const (
	defaultPage = 50
	maxPage     = 1000
)

// Execution returns the record of one execution of a project. Its Result
// holds at most the first 64 KiB of each output stream.
func (e *Executor) Execution(ctx context.Context, project, id string) (*faas.Execution, error) {
	return e.store.Execution(ctx, orDefault(project), id)
}

// Executions lists a project's executions, newest first, and the cursor of the
// next page ("" at the end). limit is 1 to 1000; 0 means 50.
func (e *Executor) Executions(ctx context.Context, project string, limit int, cursor string) ([]faas.Execution, string, error) {
	switch {
	case limit == 0:
		limit = defaultPage
	case limit < 0 || limit > maxPage:
		return nil, "", faas.InvalidField("limit", "%d is not between 1 and %d", limit, maxPage)
	}
	return e.store.Executions(ctx, orDefault(project), limit, cursor)
}

// Cancel ends a running execution; it returns when its processes are gone. One
// that has ended, or that another process runs, is faas.ErrFailedPrecondition.
func (e *Executor) Cancel(ctx context.Context, project, id string) error {
	project = orDefault(project)
	entry := e.live.find(project, id)
	if entry == nil {
		return e.cannotCancel(ctx, project, id)
	}
	entry.cancel(errCancelled)
	select {
	case <-entry.ended:
		return nil
	case <-ctx.Done():
		return stopped(ctx, "cancel "+id)
	}
}

// cannotCancel says why an execution that this process does not run cannot be
// cancelled.
func (e *Executor) cannotCancel(ctx context.Context, project, id string) error {
	record, err := e.store.Execution(ctx, project, id)
	if err != nil {
		return err
	}
	detail := fmt.Sprintf("%s has ended already: it is %s", id, record.Status)
	if record.Status == faas.ExecutionRunning {
		detail = id + " is run by another process: cancel it there"
	}
	return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "cancel execution", Detail: detail}
}

func orDefault(project string) string {
	if project == "" {
		return faas.DefaultProject
	}
	return project
}

// InstanceExecutions lists what ran in an instance, newest first, and the cursor
// of the next page, "" at the end.
func (e *Executor) InstanceExecutions(ctx context.Context, project, id string, limit int, cursor string) ([]faas.Execution, string, error) {
	limit, err := pageSize(limit)
	if err != nil {
		return nil, "", err
	}
	if _, err := e.Instance(ctx, project, id); err != nil {
		return nil, "", err
	}
	return e.store.InstanceExecutions(ctx, orDefault(project), id, limit, cursor)
}
