package executor

import (
	"context"
	"errors"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/pool"
)

// backstop is how much longer than its time-out a command is left to the
// agent before the sandbox is destroyed from outside.
const backstop = 5 * time.Second

// errBackstop ends a command whose agent did not keep the time-out.
var errBackstop = errors.New("the sandbox did not end the command at its time-out")

// execution is one request on its way.
type execution struct {
	req      faas.Request // complete
	asked    faas.Resources
	record   faas.Execution
	degraded string
	arrived  time.Time
	admitted time.Time
	owned    time.Time // when a sandbox was its own
	outputs  outputs
}

// Execute runs one request to its end. When ctx ends first the command is
// killed with everything that it started, and the error is ctx's. A command
// that ran, whatever its exit code, is a Result; an error says why it could
// not run. A goroutine that reads req.Stdin may outlive the call until its Read
// returns.
func (e *Executor) Execute(ctx context.Context, req faas.Request) (*faas.Result, error) {
	x := &execution{asked: req.Resources, arrived: time.Now()}
	var err error
	if x.req, err = e.opts.Default.complete(req); err != nil {
		return nil, err
	}
	if err := available(x.req); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended, err := e.live.add(x.req.ID, x.req.Project, cancel)
	if err != nil {
		return nil, err
	}
	defer ended()
	candidates, err := e.choose(ctx, x.req, x.asked)
	if err != nil {
		return nil, err
	}
	if err := e.gate.enter(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, stopped(ctx, "wait for admission")
		}
		return nil, err
	}
	x.admitted = time.Now()
	result, corpse, err := e.admitted(ctx, x, candidates)
	e.gate.leave(time.Since(x.admitted), corpse != nil)
	if corpse != nil {
		e.reaper.add(corpse, e.gate.buried)
	}
	return result, err
}

// admitted runs an execution that has its place, from the record of its begin
// to that of its end. It returns the sandbox to destroy behind the answer, if
// there is one.
func (e *Executor) admitted(ctx context.Context, x *execution, candidates []candidate) (*faas.Result, *pool.Sandbox, error) {
	x.record = faas.Execution{
		ID: x.req.ID, Project: x.req.Project, Status: faas.ExecutionRunning,
		Command: x.req.Command, Image: x.req.Image, Runtime: candidates[0].driver.Name(),
		Mode: x.req.Mode, CreatedAt: time.Now().UTC(),
	}
	if err := e.store.Begin(ctx, x.record); err != nil {
		return nil, nil, err
	}
	e.counters.requests.Add(1)
	if x.req.Started != nil {
		x.req.Started(x.record)
	}
	result, corpse, err := e.perform(ctx, x, candidates)
	if errEnd := e.store.End(x.finish(ctx, result, err)); errEnd != nil {
		// The command ran: to hide its result would make the caller run it
		// again. The outcome may still reach the database.
		e.log.Error("the end of an execution could not be journalled", "execution", x.req.ID, "error", errEnd)
	}
	if err != nil {
		result = nil
	}
	return result, corpse, err
}

// perform gets a sandbox and runs the command in it.
func (e *Executor) perform(ctx context.Context, x *execution, candidates []candidate) (*faas.Result, *pool.Sandbox, error) {
	s, err := e.obtainFrom(ctx, x, candidates)
	if err != nil {
		return nil, nil, e.causeOf(ctx, err)
	}
	x.owned = time.Now()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// Whatever ends the context ends the sandbox, at once and from outside:
	// nothing inside has a say in it.
	killed := make(chan struct{})
	alive := context.AfterFunc(ctx, func() {
		defer close(killed)
		e.reaper.destroy(s)
	})
	result, err := e.runIn(ctx, stop, x, s)
	if alive() {
		return result, s, err
	}
	<-killed
	return result, nil, err
}

// obtainFrom gets a sandbox of the first runtime that can make one after all.
func (e *Executor) obtainFrom(ctx context.Context, x *execution, candidates []candidate) (*pool.Sandbox, error) {
	var first error
	for _, c := range candidates {
		s, err := e.obtain(ctx, x.req, c.driver)
		if err == nil {
			x.record.Runtime, x.degraded = c.driver.Name(), c.degraded
			return s, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil || !errors.Is(err, faas.ErrCapabilityUnavailable) {
			return nil, err
		}
		e.log.Warn("a runtime cannot do what its probe promised", "runtime", c.driver.Name(), "error", err)
		e.probes.start(e.probes.entry(c.driver.Name()))
	}
	return nil, first
}

// causeOf puts the reason for which an execution was ended in the place of
// the error that this led to.
func (e *Executor) causeOf(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return err
	case errors.Is(cause, errClosing):
		return errClosing
	case errors.Is(cause, errCancelled):
		return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "execute", Detail: "cancelled on request before its command ran", Err: cause}
	default:
		return stopped(ctx, "execute")
	}
}

// finish completes the execution's record.
func (x *execution) finish(ctx context.Context, result *faas.Result, err error) faas.Execution {
	record, now := x.record, time.Now().UTC()
	record.FinishedAt = &now
	switch {
	case context.Cause(ctx) != nil:
		record.Status = faas.ExecutionCancelled
	case err == nil && result.ExitCode == 0:
		record.Status = faas.ExecutionSucceeded
	default:
		record.Status = faas.ExecutionFailed
	}
	if result != nil {
		kept := *result
		kept.Stdout, kept.Stderr = x.outputs.stdout.kept(), x.outputs.stderr.kept()
		record.Result, record.Error = &kept, result.Error
	}
	if err != nil {
		record.Error = err.Error()
	}
	return record
}
