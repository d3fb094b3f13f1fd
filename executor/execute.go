package executor

import (
	"cmp"
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

	origin   *origin  // the state to start from; nil: the image
	who      string   // whom the sandbox is to be; empty: itself
	env      []string // of the command alone, besides its sandbox's
	reseeded []faas.Reseeded
	hooks    []faas.Hook
}

// identity is who a sandbox is: the instance that it is of, or itself.
func (x *execution) identity(sandbox string) string { return cmp.Or(x.who, sandbox) }

// Execute runs one request to its end. When ctx ends first the command is
// killed with everything that it started, and the error is ctx's. A command
// that ran, whatever its exit code, is a Result; an error says why it could
// not run. A goroutine that reads req.Stdin may outlive the call until its Read
// returns.
func (e *Executor) Execute(ctx context.Context, req faas.Request) (*faas.Result, error) {
	complete, err := e.opts.Default.complete(req)
	if err != nil {
		return nil, err
	}
	req.Project, req.ID = complete.Project, complete.ID
	if complete.Mode == faas.ModePersistent {
		return e.executePersistent(ctx, req)
	}
	ref := cmp.Or(req.SnapshotID, req.BranchFrom)
	if ref == "" {
		return e.executeFrom(ctx, req, nil)
	}
	from, err := e.resolve(ctx, req.Project, ref)
	if err != nil {
		return nil, err
	}
	defer from.release()
	return e.executeFrom(ctx, req, from)
}

// executeFrom runs a request in a sandbox of its own, made of an image, or of
// a state when from is not nil.
func (e *Executor) executeFrom(ctx context.Context, req faas.Request, from *origin) (*faas.Result, error) {
	x := &execution{asked: req.Resources, arrived: time.Now(), origin: from}
	if from != nil {
		req = from.inherit(req)
	}
	var err error
	if x.req, err = e.opts.Default.complete(req); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended, err := e.live.add(x, cancel)
	if err != nil {
		return nil, err
	}
	defer ended()
	candidates, err := e.candidatesFor(ctx, x.req, x.asked, from)
	if err != nil {
		return nil, err
	}
	if x.req.Mode == faas.ModeCached {
		return e.executeCached(ctx, x, candidates)
	}
	return e.executeAdmitted(ctx, x, candidates)
}

// executeAdmitted waits for an execution's turn and runs it.
func (e *Executor) executeAdmitted(ctx context.Context, x *execution, candidates []candidate) (*faas.Result, error) {
	d := x.demand(candidates[0].driver.Name())
	if err := e.gate.enter(ctx, d); err != nil {
		if ctx.Err() != nil {
			return nil, stopped(ctx, "wait for admission")
		}
		return nil, err
	}
	x.admitted = time.Now()
	result, corpse, err := e.admitted(ctx, x, candidates)
	e.gate.leave(d, time.Since(x.admitted), corpse != nil)
	if corpse != nil {
		e.reaper.add(corpse, e.gate.buried)
	}
	return result, err
}

// demand is what an execution asks of the gate.
func (x *execution) demand(runtime faas.Runtime) demand {
	return demand{
		key: cmp.Or(x.req.Key, x.req.Project), runtime: runtime,
		memoryMB: x.req.Resources.MemoryMB, cores: x.req.Resources.CPUCores,
	}
}

// admitted runs an execution that has its place, from the record of its begin
// to that of its end. It returns the sandbox to destroy behind the answer, if
// there is one.
func (e *Executor) admitted(ctx context.Context, x *execution, candidates []candidate) (*faas.Result, *pool.Sandbox, error) {
	if err := e.begin(ctx, x, candidates[0].driver.Name()); err != nil {
		return nil, nil, err
	}
	result, corpse, err := e.perform(ctx, x, candidates)
	result, err = e.end(ctx, x, result, err)
	return result, corpse, err
}

// begin records that an execution runs.
func (e *Executor) begin(ctx context.Context, x *execution, runtime faas.Runtime) error {
	x.record = faas.Execution{
		ID: x.req.ID, Project: x.req.Project, Status: faas.ExecutionRunning,
		Command: x.req.Command, Image: x.req.Image, Runtime: runtime,
		Mode: x.req.Mode, InstanceID: x.req.InstanceID, CreatedAt: time.Now().UTC(),
	}
	if err := e.store.Begin(ctx, x.record); err != nil {
		return err
	}
	e.counters.requests.Add(1)
	e.executionChanged(faas.EventExecutionStarted, x.record)
	if x.req.Started != nil {
		x.req.Started(x.record)
	}
	return nil
}

// end records how an execution ended, and returns what its caller gets.
func (e *Executor) end(ctx context.Context, x *execution, result *faas.Result, err error) (*faas.Result, error) {
	record := x.finish(ctx, result, err)
	errEnd := e.store.End(record)
	e.executionChanged(faas.EventExecutionEnded, record)
	if errEnd != nil {
		// The command ran: to hide its result would make the caller run it
		// again. The outcome may still reach the database.
		e.log.Error("the end of an execution could not be journalled", "execution", x.req.ID, "error", errEnd)
	}
	if err != nil {
		return nil, err
	}
	return result, nil
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
	if err == nil && ctx.Err() == nil && leavesState(x.req.Mode) {
		err = e.checkpoint(ctx, x, s, result)
	}
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
		x.degraded = ""
		s, err := e.obtain(ctx, x, c.driver)
		if err == nil {
			x.record.Runtime, x.degraded = c.driver.Name(), joinSentences(c.degraded, x.degraded)
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
		kept.Truncated = x.outputs.stdout.truncated || x.outputs.stderr.truncated
		record.Result, record.Error = &kept, result.Error
	}
	if err != nil {
		record.Error = err.Error()
	}
	return record
}
