package executor

import (
	"context"
	"sync"

	"github.com/faas-platform/faas"
)

const (
	maxForks = 256
	// forksAtOnce is how many copies of one state are made beside each other.
	forksAtOnce = 8
)

// Fork makes instances that all continue from one state, several at a time. A
// copy that cannot be made says why in its place and leaves nothing behind; the
// error is for what kept all from being tried.
func (e *Executor) Fork(ctx context.Context, req faas.ForkRequest) ([]faas.Forked, error) {
	req.Project = orDefault(req.Project)
	variants, err := forkVariants(req)
	if err != nil {
		return nil, err
	}
	for _, v := range variants {
		if _, _, err := e.instanceRequest(v, nil); err != nil {
			return nil, err
		}
	}
	from, err := e.resolve(ctx, req.Project, req.From)
	if err != nil {
		return nil, err
	}
	defer from.release()
	fork := *from
	fork.branch = nil // a fork is a line of its own
	out := make([]faas.Forked, len(variants))
	beside(len(variants), func(i int) {
		out[i].PauseMS = milliseconds(from.pause)
		x, err := e.createFrom(ctx, variants[i], &fork)
		if err != nil {
			out[i].Err = err
			return
		}
		out[i].Instance = x.view()
	})
	return out, nil
}

func forkVariants(req faas.ForkRequest) ([]faas.InstanceRequest, error) {
	if req.From == "" {
		return nil, faas.InvalidField("from", "is empty: name an instance, a snapshot, a branch or an execution")
	}
	n := req.Count
	switch {
	case n == 0 && len(req.Variants) == 0:
		n = 1
	case n == 0:
		n = len(req.Variants)
	case len(req.Variants) > 0 && n != len(req.Variants):
		return nil, faas.InvalidField("count", "%d copies and %d variants", n, len(req.Variants))
	}
	if n < 1 || n > maxForks {
		return nil, faas.InvalidField("count", "%d is not between 1 and %d", n, maxForks)
	}
	list := make([]faas.InstanceRequest, n)
	copy(list, req.Variants)
	for i := range list {
		if list[i].From != "" || list[i].Image != "" {
			return nil, faas.InvalidField("variants", "a variant starts from the state that is forked")
		}
		list[i].Project = req.Project
	}
	return list, nil
}

// beside calls f for 0 to n-1, a bounded number at a time.
func beside(n int, f func(i int)) {
	places := make(chan struct{}, forksAtOnce)
	var group sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			f(i)
		})
	}
	group.Wait()
}

// ExecuteFork runs commands beside each other, each in a copy of one state: an
// instance, snapshot, branch or execution, which is saved once for all. A
// request without a mode has mode branched.
func (e *Executor) ExecuteFork(ctx context.Context, project, from string, requests []faas.Request) ([]faas.ForkedExecution, error) {
	if len(requests) < 1 || len(requests) > maxForks {
		return nil, faas.InvalidField("variants", "%d commands, 1 to %d are possible", len(requests), maxForks)
	}
	o, err := e.resolve(ctx, orDefault(project), from)
	if err != nil {
		return nil, err
	}
	defer o.release()
	fork := *o
	fork.branch, fork.done = nil, nil
	out := make([]faas.ForkedExecution, len(requests))
	var group sync.WaitGroup
	for i, req := range requests {
		out[i].PauseMS = milliseconds(o.pause)
		req.Project, req.SnapshotID, req.BranchFrom = orDefault(project), o.manifest.ID, ""
		if req.Mode == "" {
			req.Mode = faas.ModeBranched
		}
		group.Go(func() { out[i].Result, out[i].Err = e.executeFrom(ctx, req, &fork) })
	}
	group.Wait()
	return out, nil
}
