package executor

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/faas-platform/faas"
)

func TestGateAdmitsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Admission{Concurrent: 2, Queue: 3, KeyQueue: 3})
		for range 2 {
			if err := g.enter(t.Context(), demand{key: "a"}); err != nil {
				t.Fatal(err)
			}
		}
		order := make(chan int, 3)
		for i := range 3 {
			go func() {
				if err := g.enter(t.Context(), demand{key: "a"}); err != nil {
					t.Error(err)
				}
				order <- i
			}()
			synctest.Wait()
		}
		err := g.enter(t.Context(), demand{key: "a"})
		var e *faas.Error
		if !errors.As(err, &e) || e.Kind != faas.KindResourceExhausted || e.RetryAfter < time.Second {
			t.Errorf("beyond the queue: %v", err)
		}
		for want := range 3 {
			g.leave(demand{key: "a"}, time.Second, false)
			if got := <-order; got != want {
				t.Errorf("admitted %d, want %d", got, want)
			}
		}
		if running, queued, dying := g.counts(); running != 2 || queued != 0 || dying != 0 {
			t.Errorf("%d running, %d queued, %d dying", running, queued, dying)
		}
	})
}

func TestGateFeelsTheDying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Admission{Concurrent: 1, Queue: 8, KeyQueue: 8})
		for range 2 { // one more than may run
			if err := g.enter(t.Context(), demand{key: "a"}); err != nil {
				t.Fatal(err)
			}
			g.leave(demand{key: "a"}, time.Second, true)
		}
		admitted := false
		go func() {
			if err := g.enter(t.Context(), demand{key: "a"}); err != nil {
				t.Error(err)
			}
			admitted = true
		}()
		synctest.Wait()
		if admitted {
			t.Error("admitted while more sandboxes are dying than may run")
		}
		g.buried()
		synctest.Wait()
		if !admitted {
			t.Error("not admitted after one was buried")
		}
	})
}

func TestGateGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Admission{Concurrent: 1, Queue: 8, KeyQueue: 8})
		if err := g.enter(t.Context(), demand{key: "a"}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.enter(ctx, demand{key: "a"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		g.leave(demand{key: "a"}, time.Second, false)
		if err := g.enter(t.Context(), demand{key: "a"}); err != nil {
			t.Error(err)
		}
		waiting := make(chan error, 1)
		go func() { waiting <- g.enter(t.Context(), demand{key: "a"}) }()
		synctest.Wait()
		g.close()
		if err := <-waiting; !errors.Is(err, faas.ErrUnavailable) {
			t.Errorf("while closing: %v", err)
		}
		if err := g.enter(t.Context(), demand{key: "a"}); !errors.Is(err, faas.ErrUnavailable) {
			t.Errorf("after close: %v", err)
		}
		idle := make(chan error, 1)
		go func() { idle <- g.waitIdle(t.Context()) }()
		synctest.Wait()
		g.leave(demand{key: "a"}, time.Second, false)
		if err := <-idle; err != nil {
			t.Error(err)
		}
	})
}

// admissions starts executions that wait at a gate and tells which were let in.
type admissions struct {
	t  *testing.T
	g  *gate
	mu sync.Mutex
	in []string
}

func (a *admissions) ask(name string, d demand) {
	go func() {
		if err := a.g.enter(a.t.Context(), d); err != nil {
			a.t.Errorf("%s: %v", name, err)
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.in = append(a.in, name)
	}()
	synctest.Wait()
}

func (a *admissions) want(names ...string) {
	a.t.Helper()
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.in, names) {
		a.t.Errorf("admitted %v, want %v", a.in, names)
	}
}

// One key with many waiting does not keep another from its turn.
func TestGateTakesKeysInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &admissions{t: t, g: newGate(Admission{Concurrent: 1, Queue: 10, KeyQueue: 6})}
		greedy, modest := demand{key: "greedy"}, demand{key: "modest"}
		a.ask("g1", greedy)
		for _, name := range []string{"g2", "g3", "g4"} {
			a.ask(name, greedy)
		}
		a.ask("m1", modest)
		a.ask("m2", modest)
		last := greedy
		for _, d := range []demand{greedy, modest, greedy, modest, greedy} {
			a.g.leave(last, time.Second, false)
			synctest.Wait()
			last = d
		}
		a.want("g1", "g2", "m1", "g3", "m2", "g4")
		a.g.leave(last, time.Second, false)
		if running, queued, _ := a.g.counts(); running != 0 || queued != 0 || len(a.g.keys) != 0 {
			t.Errorf("%d running, %d queued, %d keys in the end", running, queued, len(a.g.keys))
		}
	})
}

// What fills the queue of a key leaves room for another's.
func TestGateRefusesOneKeyAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &admissions{t: t, g: newGate(Admission{Concurrent: 1, Queue: 3, KeyQueue: 2})}
		greedy, modest := demand{key: "greedy"}, demand{key: "modest"}
		for _, name := range []string{"g1", "g2", "g3"} {
			a.ask(name, greedy)
		}
		if err := a.g.enter(t.Context(), greedy); !errors.Is(err, faas.ErrResourceExhausted) {
			t.Errorf("beyond the key's own queue: %v", err)
		}
		a.ask("m1", modest)
		if err := a.g.enter(t.Context(), modest); !errors.Is(err, faas.ErrResourceExhausted) {
			t.Errorf("beyond the queue: %v", err)
		}
		for _, d := range []demand{greedy, greedy, modest, greedy} {
			a.g.leave(d, time.Second, false)
			synctest.Wait()
		}
		a.want("g1", "g2", "m1", "g3")
	})
}

func TestGateLimitsKeysAndRuntimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &admissions{t: t, g: newGate(Admission{
			Concurrent: 4, Queue: 8, KeyQueue: 8, KeyConcurrent: 2, Runtimes: map[faas.Runtime]int{faas.RuntimeGVisor: 1},
		})}
		heavy, light := demand{key: "a", runtime: faas.RuntimeGVisor}, demand{key: "b", runtime: faas.RuntimeNative}
		a.ask("a1", heavy)
		a.ask("a2", heavy) // waits for the runtime
		for _, name := range []string{"b1", "b2", "b3"} {
			a.ask(name, light) // the third for its key
		}
		a.want("a1", "b1", "b2")
		a.g.leave(light, time.Second, false)
		a.want("a1", "b1", "b2", "b3")
		a.g.leave(heavy, time.Second, false)
		a.want("a1", "b1", "b2", "b3", "a2")
		for _, d := range []demand{heavy, light, light} {
			a.g.leave(d, time.Second, false)
		}
	})
}

// Memory is promised up to the bound and not beyond it, to instances and
// executions together, and what asks for much gets it in the end.
func TestGatePromisesMemoryOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Admission{Concurrent: 8, Queue: 8, KeyQueue: 8})
		g.memoryMB = 1000
		a := &admissions{t: t, g: g}
		small, big := demand{key: "a", memoryMB: 300}, demand{key: "b", memoryMB: 900}
		if err := g.enter(t.Context(), demand{key: "c", memoryMB: 1001}); !errors.Is(err, faas.ErrInvalidArgument) {
			t.Errorf("more than there is: %v", err)
		}
		done, err := g.hold(300)
		if err != nil {
			t.Fatal(err)
		}
		g.holdInstances(300)
		done()
		a.ask("s1", small)
		a.ask("s2", small)
		a.ask("s3", small)
		a.want("s1", "s2")
		if _, err := g.hold(300); !errors.Is(err, faas.ErrResourceExhausted) {
			t.Errorf("an instance beyond the bound: %v", err)
		}
		g.holdInstances(0)
		a.want("s1", "s2", "s3")
		a.ask("big", big)
		time.Sleep(patience + time.Second)
		g.leave(small, time.Second, false)
		a.ask("s4", small) // could run, and waits for what has waited long
		a.want("s1", "s2", "s3")
		g.leave(small, time.Second, false)
		g.leave(small, time.Second, false)
		a.want("s1", "s2", "s3", "big")
		g.leave(big, time.Second, false)
		a.want("s1", "s2", "s3", "big", "s4")
		g.leave(small, time.Second, false)
	})
}
