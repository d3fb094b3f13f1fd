package executor

import (
	"context"
	"errors"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/pool"
)

// use is who uses an instance now; instance.mu guards it.
type use struct {
	users   int
	last    time.Time // when the last one left, or it began to run
	dozing  bool      // it is being put to sleep, or about to be
	retryAt time.Time // after an attempt that failed
}

// idleRetry is when putting an instance to sleep that failed is tried again.
const idleRetry = time.Minute

// enter returns a running instance and its sandbox for use by a command or a
// connection, waking it when it sleeps and waiting when it is on its way. It
// does not fall asleep until leave is called.
func (e *Executor) enter(ctx context.Context, project, id, op string) (x *instance, s *pool.Sandbox, leave func(), err error) {
	if err := e.residents.enter(ctx, demand{}); err != nil {
		return nil, nil, nil, err
	}
	if x, err = e.lookUp(ctx, project, id); err != nil {
		e.residents.leave(demand{}, 0, false)
		return nil, nil, nil, err
	}
	settled := x.begin()
	leave = func() {
		x.end()
		e.expiry.poke()
		e.residents.leave(demand{}, 0, false)
	}
	for ; ; settled = true {
		record, _, s := x.state()
		if settled && record.Status == faas.InstanceRunning && s != nil {
			return x, s, leave, nil
		}
		if settled && !onTheWay(record.Status) && !record.Asleep {
			leave()
			return nil, nil, nil, wrongStatus(x, op, "start or resume it first")
		}
		if err := e.settle(ctx, x, op); err != nil {
			leave()
			return nil, nil, nil, err
		}
	}
}

// onTheWay says whether a status ends by itself.
func onTheWay(s faas.InstanceStatus) bool {
	return s == faas.InstancePausing || s == faas.InstanceResuming || s == faas.InstanceStarting || s == faas.InstanceStopping
}

// settle waits for what is being done to an instance, and wakes it if it
// sleeps then.
func (e *Executor) settle(ctx context.Context, x *instance, op string) error {
	release, err := e.turnOf(ctx, x, op)
	if err != nil {
		return err
	}
	defer release()
	record, _, _ := x.state()
	switch {
	case !record.Asleep:
		return nil
	case record.Status == faas.InstancePaused:
		return e.resumeTaken(ctx, x)
	case record.Status == faas.InstanceStopped:
		return e.startTaken(ctx, x)
	}
	return nil
}

// begin says that someone uses the instance from now on, and whether it can be
// relied on to stay as it is: not when it is being put to sleep.
func (x *instance) begin() (settled bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.use.users++
	return !x.use.dozing
}

func (x *instance) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.use.users--
	x.use.last = time.Now()
}

// idleAt is when an instance that nobody uses falls asleep; the zero time:
// never, as things are.
func (x *instance) idleAt() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.record.IdleTimeoutMS == 0 || x.use.users > 0 || x.use.dozing || x.record.Status != faas.InstanceRunning {
		return time.Time{}
	}
	at := x.use.last.Add(time.Duration(x.record.IdleTimeoutMS) * time.Millisecond)
	if x.use.retryAt.After(at) {
		return x.use.retryAt
	}
	return at
}

// doze claims an instance for falling asleep, unless someone uses it.
func (x *instance) doze(now time.Time) bool {
	at := x.idleAt()
	x.mu.Lock()
	defer x.mu.Unlock()
	if at.IsZero() || at.After(now) || x.use.users > 0 || x.use.dozing {
		return false
	}
	x.use.dozing = true
	return true
}

// idle puts the instances to sleep that nobody used for long enough, several at
// once, and returns when the next one is due.
func (e *Executor) idle(now time.Time) time.Duration {
	next := time.Hour
	var due []*instance
	for _, x := range e.instances.all() {
		switch at := x.idleAt(); {
		case at.IsZero():
		case at.After(now):
			next = min(next, at.Sub(now))
		case x.doze(now):
			due = append(due, x)
		}
	}
	beside(len(due), func(i int) { e.fallAsleep(due[i]) })
	return next
}

// fallAsleep pauses or stops an instance that is dozing.
func (e *Executor) fallAsleep(x *instance) {
	ctx, cancel := context.WithTimeout(e.ctx, snapshotTimeout)
	defer cancel()
	release, err := e.turnOf(ctx, x, "put to sleep")
	if err == nil {
		err = e.sleepTaken(ctx, x)
		release()
	}
	x.mu.Lock()
	x.use.dozing = false
	if err != nil {
		x.use.retryAt = time.Now().Add(idleRetry)
	}
	x.mu.Unlock()
	switch {
	case err == nil:
		e.log.Info("an idle instance sleeps", "instance", x.id, "status", x.status())
	case errors.Is(err, faas.ErrNotFound) || e.ctx.Err() != nil:
	default:
		e.log.Warn("an idle instance could not be put to sleep", "instance", x.id, "error", err)
	}
}

// sleepTaken does what an instance that is idle asks for, unless someone came
// meanwhile. The caller has its turn.
func (e *Executor) sleepTaken(ctx context.Context, x *instance) error {
	x.mu.Lock()
	busy := x.use.users > 0 || x.record.Status != faas.InstanceRunning
	action := x.record.OnIdle
	x.mu.Unlock()
	switch {
	case busy:
		return nil
	case action == faas.IdleStop:
		return e.stopTaken(ctx, x, true)
	}
	return e.pauseTaken(ctx, x, true)
}

// checkIdle checks the idle settings of a request.
func checkIdle(timeout time.Duration, action faas.IdleAction) error {
	switch {
	case timeout != 0 && timeout < faas.MinIdleTimeout:
		return faas.InvalidField("idle_timeout_ms", "%v is shorter than %v", timeout, faas.MinIdleTimeout)
	case action != "" && action != faas.IdlePause && action != faas.IdleStop:
		return faas.InvalidField("on_idle", "%q is not one of pause, stop", clip(string(action)))
	}
	return nil
}
