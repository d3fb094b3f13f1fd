package executor

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/faas-platform/faas"
)

// errClosing ends what waits or runs when the executor closes.
var errClosing = &faas.Error{Kind: faas.KindUnavailable, Op: "execute", Detail: "the executor is shutting down",
	Remedy: "try again when it is back", RetryAfter: 5 * time.Second}

func (a Admission) withDefaults(defaultMemoryMB int64) Admission {
	if a.Concurrent <= 0 {
		a.Concurrent = 8 * runtime.NumCPU()
		if total := totalMemoryMB(); total > 0 {
			a.Concurrent = min(a.Concurrent, int(total*3/4/defaultMemoryMB))
		}
		a.Concurrent = max(a.Concurrent, 2)
	}
	switch {
	case a.Queue == 0:
		a.Queue = 16 * a.Concurrent
	case a.Queue < 0:
		a.Queue = 0
	}
	return a
}

// gate admits executions in the order of their arrival. An admitted execution
// runs until leave; its sandbox may then be dying until buried, off the path
// of its answer. New ones are admitted while there is room among the running
// and the dying are not more than the running may be: when destroying falls
// behind, requests wait instead of sandboxes piling up.
type gate struct {
	limits Admission

	mu      sync.Mutex
	running int
	dying   int
	waiting []*ticket // in order of arrival; the given up are skipped
	queued  int
	closed  bool
	idle    chan struct{} // closed and renewed when running falls to zero
	pace    float64       // seconds, moving average of how long one runs
}

// ticket is one request in the queue.
type ticket struct {
	admitted chan error // capacity 1
	gone     bool
}

func newGate(limits Admission) *gate {
	return &gate{limits: limits, idle: make(chan struct{}), pace: 1}
}

// enter waits for admission.
func (g *gate) enter(ctx context.Context) error {
	g.mu.Lock()
	switch {
	case g.closed:
		g.mu.Unlock()
		return errClosing
	case g.queued == 0 && g.room():
		g.running++
		g.mu.Unlock()
		return nil
	case g.queued >= g.limits.Queue:
		err := g.refusal()
		g.mu.Unlock()
		return err
	}
	t := &ticket{admitted: make(chan error, 1)}
	g.waiting = append(g.waiting, t)
	g.queued++
	g.mu.Unlock()
	select {
	case err := <-t.admitted:
		return err
	case <-ctx.Done():
		return g.giveUp(ctx, t)
	}
}

// giveUp takes a ticket back, or the admission that came at the same moment.
func (g *gate) giveUp(ctx context.Context, t *ticket) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case err := <-t.admitted:
		if err == nil {
			g.running--
			g.advance()
		}
	default:
		t.gone = true
		g.queued--
	}
	return context.Cause(ctx)
}

func (g *gate) room() bool {
	return g.running < g.limits.Concurrent && g.dying <= g.limits.Concurrent
}

func (g *gate) refusal() error {
	wait := time.Duration(g.pace * float64(g.queued+1) / float64(g.limits.Concurrent) * float64(time.Second))
	return &faas.Error{
		Kind: faas.KindResourceExhausted, Op: "execute",
		Detail:     "as many executions run and wait as this machine admits",
		Remedy:     "try again later, or raise the admission limits of the configuration",
		RetryAfter: min(max(wait.Round(time.Second), time.Second), time.Minute),
	}
}

// leave ends an execution that ran for d. When dying is true its sandbox
// counts until buried is called.
func (g *gate) leave(d time.Duration, dying bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	g.pace += (d.Seconds() - g.pace) / 16
	if dying {
		g.dying++
	}
	g.advance()
}

// buried says that a dying sandbox is gone.
func (g *gate) buried() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dying--
	g.advance()
}

// advance admits from the queue what there is room for; the caller holds mu.
func (g *gate) advance() {
	for g.queued > 0 && g.room() && len(g.waiting) > 0 {
		t := g.waiting[0]
		g.waiting[0] = nil
		g.waiting = g.waiting[1:]
		if t.gone {
			continue
		}
		g.queued--
		g.running++
		t.admitted <- nil
	}
	if g.queued == 0 {
		g.waiting = nil
	}
	if g.running == 0 {
		close(g.idle)
		g.idle = make(chan struct{})
	}
}

// close refuses everything that is not running yet.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, t := range g.waiting {
		if !t.gone {
			t.admitted <- errClosing
		}
	}
	g.waiting, g.queued = nil, 0
}

// waitIdle waits until nothing runs.
func (g *gate) waitIdle(ctx context.Context) error {
	for {
		g.mu.Lock()
		running, idle := g.running, g.idle
		g.mu.Unlock()
		if running == 0 {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *gate) counts() (running, queued, dying int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return int64(g.running), int64(g.queued), int64(g.dying)
}
