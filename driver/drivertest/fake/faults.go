package fake

import (
	"context"
	"sync"

	"github.com/faas-platform/faas"
)

// Point names a place in a driver where a test can interfere.
type Point string

// The points. At all of them the call has not taken effect yet, except at
// PointCreated, where the sandbox is made and Create has yet to return it,
// PointSnapshotted, where the files are written, and PointRestored and
// PointPrepared, before and after the caller's preparation of a copy.
const (
	PointResolve Point = "resolve"
	PointCreate  Point = "create"
	PointCreated Point = "created"
	PointRecover Point = "recover"
	PointSweep   Point = "sweep"
	PointDial    Point = "dial"
	PointStats   Point = "stats"
	PointPause   Point = "pause"
	PointResume  Point = "resume"
	PointDestroy Point = "destroy"
	PointAdopt   Point = "adopt"

	PointSnapshot     Point = "snapshot"
	PointSnapshotted  Point = "snapshotted"
	PointCheckRestore Point = "check restore"
	PointRestore      Point = "restore"
	PointRestored     Point = "restored"
	PointPrepared     Point = "prepared"
)

// Faults interferes with a machine's drivers at named points. It is safe for
// concurrent use, also while calls are under way.
type Faults struct {
	mu    sync.Mutex
	fails map[Point]*failure
	gates map[Point]*gate
	calls map[Point]int
	moved chan struct{} // closed and replaced when a call arrives
}

type failure struct {
	err  error
	left int // calls that still fail; negative: all
}

type gate struct{ open chan struct{} }

func newFaults() *Faults {
	return &Faults{fails: map[Point]*failure{}, gates: map[Point]*gate{}, calls: map[Point]int{}, moved: make(chan struct{})}
}

// Fail lets the next n calls that reach the point fail with err, or all that
// follow when n is negative.
func (f *Faults) Fail(p Point, n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails[p] = &failure{err: err, left: n}
}

// Hang holds up calls that reach the point until release is called or their
// context ends. A call that is released goes on.
func (f *Faults) Hang(p Point) (release func()) {
	g := &gate{open: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gates[p] = g
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		close(g.open)
		if f.gates[p] == g {
			delete(f.gates, p)
		}
	})
}

// Calls returns how many calls have reached the point.
func (f *Faults) Calls(p Point) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[p]
}

// AwaitCalls waits until n calls have reached the point, held up ones
// included.
func (f *Faults) AwaitCalls(ctx context.Context, p Point, n int) error {
	for {
		f.mu.Lock()
		have, moved := f.calls[p], f.moved
		f.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// at is called by the driver at each point.
func (f *Faults) at(ctx context.Context, p Point) error {
	f.mu.Lock()
	f.calls[p]++
	close(f.moved)
	f.moved = make(chan struct{})
	g := f.gates[p]
	f.mu.Unlock()
	if g != nil {
		select {
		case <-g.open:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return contextError(string(p), err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fail := f.fails[p]
	if fail == nil || fail.left == 0 {
		return nil
	}
	fail.left--
	return fail.err
}

func contextError(op string, err error) error {
	return &faas.Error{Kind: faas.KindOf(err), Op: op, Detail: "the caller's context ended", Err: err}
}
