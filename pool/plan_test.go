package pool

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/faas-platform/faas"
)

var large = Class{Runtime: faas.RuntimeNative, Image: "b", Resources: faas.Resources{MemoryMB: 512}}

// settle waits until everything that was asked for is made or discarded.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func statusOf(t *testing.T, p *Pool, class Class) Status {
	t.Helper()
	for _, s := range p.Status() {
		if s.Class == class {
			return s
		}
	}
	t.Fatalf("no class %+v among %+v", class, p.Status())
	return Status{}
}

func TestPrewarmLastsForAWhile(t *testing.T) {
	f := &factory{}
	in(t, f, Options{Refill: 4, PrewarmFor: time.Minute}, func(t *testing.T, p *Pool) {
		p.Prewarm(small, 3)
		settle(10 * time.Second)
		got := statusOf(t, p, small)
		if got.Idle != 3 || got.Configured || !strings.Contains(got.Why, "on request") {
			t.Errorf("status %+v", got)
		}
		p.Set(large, Bounds{Min: 1})
		p.Prewarm(large, 2)
		settle(2 * time.Minute)
		if got := p.Status(); len(got) != 1 || got[0].Class != large || got[0].Idle != 1 {
			t.Errorf("after the time: %+v", got)
		}
	})
}

func TestSizesFollowTheDemand(t *testing.T) {
	f := &factory{}
	in(t, f, Options{Refill: 8, Predict: true}, func(t *testing.T, p *Pool) {
		p.Set(small, Bounds{Min: 1, Max: 12})
		settle(5 * time.Second)
		if got := statusOf(t, p, small); got.Target != 1 {
			t.Fatalf("before any demand: %+v", got)
		}
		for range 30 {
			for range 4 {
				p.Claim(small, "d1")
			}
			time.Sleep(time.Second)
		}
		busy := statusOf(t, p, small)
		if busy.Target < 4 || busy.Target > 12 || !strings.Contains(busy.Why, "a second of late") {
			t.Errorf("with four a second: %+v", busy)
		}
		if busy.Hits < 4*busy.Misses {
			t.Errorf("%d hits, %d misses", busy.Hits, busy.Misses)
		}
		settle(time.Hour)
		if got := statusOf(t, p, small); got.Target != 1 || got.Idle != 1 {
			t.Errorf("an hour after the last: %+v", got)
		}
	})
}

func TestPredictionCanBeSwitchedOff(t *testing.T) {
	in(t, &factory{}, Options{Refill: 8}, func(t *testing.T, p *Pool) {
		p.Set(small, Bounds{Min: 1, Max: 12})
		for range 30 {
			p.Claim(small, "d1")
			time.Sleep(time.Second)
		}
		if got := statusOf(t, p, small); got.Target != 1 {
			t.Errorf("status %+v", got)
		}
	})
}

func TestPriorityWhenShort(t *testing.T) {
	in(t, &factory{}, Options{Refill: 4, MaxIdle: 5}, func(t *testing.T, p *Pool) {
		p.Set(small, Bounds{Min: 4})
		settle(10 * time.Second)
		p.Set(large, Bounds{Min: 4, Priority: 1})
		settle(10 * time.Second)
		if first, second := statusOf(t, p, large), statusOf(t, p, small); first.Idle != 4 || second.Idle != 1 {
			t.Errorf("%d of the first, %d of the second", first.Idle, second.Idle)
		}
	})
}

func TestMemoryPressureShrinksPools(t *testing.T) {
	room := 100
	f := &factory{}
	in(t, f, Options{Refill: 4, Room: func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return room
	}}, func(t *testing.T, p *Pool) {
		p.Set(small, Bounds{Min: 4})
		p.Set(large, Bounds{Min: 4, Priority: 1})
		settle(10 * time.Second)
		f.set(func() { room = -3 })
		settle(1500 * time.Millisecond)
		f.set(func() { room = 0 })
		settle(10 * time.Second)
		first, second := statusOf(t, p, large), statusOf(t, p, small)
		if first.Idle != 4 || second.Idle != 1 || !strings.Contains(second.Why, "room") {
			t.Errorf("first %+v, second %+v", first, second)
		}
		f.set(func() { room = 100 })
		settle(10 * time.Second)
		if got := statusOf(t, p, small); got.Idle != 4 {
			t.Errorf("when there is room again: %+v", got)
		}
	})
}

func TestAgeingReplacesOneAtATime(t *testing.T) {
	f := &factory{}
	in(t, f, Options{Refill: 4, CheckEvery: 15 * time.Second, MaxAge: 5 * time.Minute}, func(t *testing.T, p *Pool) {
		p.Set(small, Bounds{Min: 3})
		settle(5*time.Minute + 20*time.Second)
		if got := statusOf(t, p, small); got.Aged != 1 || got.Idle != 3 {
			t.Errorf("after the age was reached: %+v", got)
		}
		settle(time.Minute)
		if got := statusOf(t, p, small); got.Aged != 3 || got.Idle != 3 || got.Oldest > 2*time.Minute {
			t.Errorf("a minute later: %+v", got)
		}
	})
}
