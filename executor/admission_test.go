package executor

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/faas-platform/faas"
)

func TestGateAdmitsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Admission{Concurrent: 2, Queue: 3})
		for range 2 {
			if err := g.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		order := make(chan int, 3)
		for i := range 3 {
			go func() {
				if err := g.enter(t.Context()); err != nil {
					t.Error(err)
				}
				order <- i
			}()
			synctest.Wait()
		}
		err := g.enter(t.Context())
		var e *faas.Error
		if !errors.As(err, &e) || e.Kind != faas.KindResourceExhausted || e.RetryAfter < time.Second {
			t.Errorf("beyond the queue: %v", err)
		}
		for want := range 3 {
			g.leave(time.Second, false)
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
		g := newGate(Admission{Concurrent: 1, Queue: 8})
		for range 2 { // one more than may run
			if err := g.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
			g.leave(time.Second, true)
		}
		admitted := false
		go func() {
			if err := g.enter(t.Context()); err != nil {
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
		g := newGate(Admission{Concurrent: 1, Queue: 8})
		if err := g.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.enter(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		g.leave(time.Second, false)
		if err := g.enter(t.Context()); err != nil {
			t.Error(err)
		}
		waiting := make(chan error, 1)
		go func() { waiting <- g.enter(t.Context()) }()
		synctest.Wait()
		g.close()
		if err := <-waiting; !errors.Is(err, faas.ErrUnavailable) {
			t.Errorf("while closing: %v", err)
		}
		if err := g.enter(t.Context()); !errors.Is(err, faas.ErrUnavailable) {
			t.Errorf("after close: %v", err)
		}
		idle := make(chan error, 1)
		go func() { idle <- g.waitIdle(t.Context()) }()
		synctest.Wait()
		g.leave(time.Second, false)
		if err := <-idle; err != nil {
			t.Error(err)
		}
	})
}
