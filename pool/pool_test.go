package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// named is a sandbox of which the pool needs the name only.
type named struct {
	driver.Sandbox
	id string
}

func (n named) ID() string { return n.id }

// factory is a Source whose every step takes a second of fake time.
type factory struct {
	mu        sync.Mutex
	made      int
	atOnce    int
	mostOnce  int
	digest    string
	makeErr   error
	makeTimes []time.Time
	sick      map[string]bool
	checks    int
	discarded []string
}

func (f *factory) Make(ctx context.Context, class Class) (*Sandbox, error) {
	f.mu.Lock()
	f.atOnce++
	f.mostOnce = max(f.mostOnce, f.atOnce)
	f.makeTimes = append(f.makeTimes, time.Now())
	f.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.atOnce--
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if f.makeErr != nil {
		return nil, f.makeErr
	}
	f.made++
	return &Sandbox{Sandbox: named{id: fmt.Sprintf("%s-%d", class.Image, f.made)}, Image: driver.Image{Digest: f.digest}}, nil
}

func (f *factory) Check(_ context.Context, s *Sandbox) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checks++
	if f.sick[s.ID()] {
		return errors.New("no answer")
	}
	return nil
}

func (f *factory) Digest(context.Context, Class) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.digest, nil
}

func (f *factory) Discard(s *Sandbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.discarded = append(f.discarded, s.ID())
}

func (f *factory) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

var small = Class{Runtime: faas.RuntimeNative, Image: "a", Resources: faas.Resources{MemoryMB: 64}}

// in runs a test in fake time with a pool that is closed at its end, when
// every sandbox must have been claimed or discarded.
func in(t *testing.T, f *factory, opts Options, test func(t *testing.T, p *Pool)) {
	synctest.Test(t, func(t *testing.T) {
		if f.digest == "" {
			f.digest = "d1"
		}
		p := New(f, opts)
		test(t, p)
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
		unique := slices.Compact(slices.Sorted(slices.Values(f.discarded)))
		if len(unique) != len(f.discarded) {
			t.Errorf("discarded more than once: %v", f.discarded)
		}
	})
}

func TestFillsAndRefills(t *testing.T) {
	f := &factory{}
	in(t, f, Options{Refill: 2}, func(t *testing.T, p *Pool) {
		p.Set(small, Bounds{Min: 5})
		if err := p.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f.made != 5 || f.mostOnce != 2 {
			t.Errorf("made %d, %d at once, want 5, 2 at once", f.made, f.mostOnce)
		}
		seen := map[string]bool{}
		for range 5 {
			s := p.Claim(small, "d1")
			if s == nil || seen[s.ID()] {
				t.Fatalf("claimed %v, after %v", s, seen)
			}
			seen[s.ID()] = true
		}
		begun := time.Now()
		if s := p.Claim(small, "d1"); s != nil {
			t.Errorf("an empty pool gave %s", s.ID())
		}
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("a claim of an empty pool took %v", waited)
		}
		if err := p.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := p.Status()
		if len(got) != 1 || got[0].Idle != 5 || got[0].Hits != 5 || got[0].Misses != 1 {
			t.Errorf("status %+v", got)
		}
	})
	if len(f.discarded) != 5 || f.made != 10 {
		t.Errorf("made %d, discarded %v", f.made, f.discarded)
	}
}

func TestOtherClassesFindNothing(t *testing.T) {
	in(t, &factory{}, Options{}, func(t *testing.T, p *Pool) {
		p.Set(small, Bounds{Min: 1})
		if err := p.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, other := range []Class{
			{Runtime: faas.RuntimeDocker, Image: "a", Resources: small.Resources},
			{Runtime: small.Runtime, Image: "b", Resources: small.Resources},
			{Runtime: small.Runtime, Image: "a", Resources: faas.Resources{MemoryMB: 65}},
		} {
			if s := p.Claim(other, "d1"); s != nil {
				t.Errorf("%+v got a sandbox of %+v", other, small)
			}
		}
		other := Class{Runtime: small.Runtime, Image: "a", Resources: faas.Resources{MemoryMB: 65}}
		if s := p.ClaimOther(other, "d1", func(faas.Resources) bool { return false }); s != nil {
			t.Errorf("a sandbox that does not fit was claimed")
		}
		if s := p.ClaimOther(small, "d1", func(faas.Resources) bool { return true }); s != nil {
			t.Errorf("the class itself is not another one")
		}
		if s := p.ClaimOther(other, "d1", func(r faas.Resources) bool { return r == small.Resources }); s == nil {
			t.Errorf("a sandbox that fits was not claimed")
		}
	})
}

func TestChangedImage(t *testing.T) {
	t.Run("at the claim", func(t *testing.T) {
		f := &factory{}
		in(t, f, Options{}, func(t *testing.T, p *Pool) {
			p.Set(small, Bounds{Min: 2})
			if err := p.WaitReady(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.set(func() { f.digest = "d2" })
			if s := p.Claim(small, "d2"); s != nil {
				t.Errorf("got %s of the old image", s.ID())
			}
			if len(f.discarded) != 2 {
				t.Errorf("discarded %v", f.discarded)
			}
			if err := p.WaitReady(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s := p.Claim(small, "d2"); s == nil {
				t.Error("no sandbox of the new image")
			}
		})
	})
	t.Run("while idle", func(t *testing.T) {
		f := &factory{}
		in(t, f, Options{CheckEvery: 15 * time.Second}, func(t *testing.T, p *Pool) {
			p.Set(small, Bounds{Min: 2})
			if err := p.WaitReady(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.set(func() { f.digest = "d2" })
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if len(f.discarded) != 2 {
				t.Errorf("discarded %v", f.discarded)
			}
			if got := p.Status()[0]; got.Idle != 2 {
				t.Errorf("status %+v", got)
			}
		})
	})
}

func TestIdleSandboxesAreChecked(t *testing.T) {
	f := &factory{sick: map[string]bool{}}
	in(t, f, Options{CheckEvery: 15 * time.Second, IdleCheck: 30 * time.Second}, func(t *testing.T, p *Pool) {
		p.Set(small, Bounds{Min: 2})
		if err := p.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if f.checks != 0 {
			t.Errorf("%d checks of fresh sandboxes", f.checks)
		}
		f.set(func() { f.sick["a-1"] = true })
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if f.checks != 2 || !slices.Equal(f.discarded, []string{"a-1"}) {
			t.Errorf("%d checks, discarded %v", f.checks, f.discarded)
		}
		if got := p.Status()[0]; got.Idle != 2 {
			t.Errorf("the dead sandbox was not replaced: %+v", got)
		}
	})
}

func TestFailuresBackOff(t *testing.T) {
	broken := errors.New("no more memory")
	f := &factory{makeErr: broken}
	in(t, f, Options{Refill: 4}, func(t *testing.T, p *Pool) {
		p.Set(small, Bounds{Min: 8})
		if err := p.WaitReady(t.Context()); !errors.Is(err, broken) {
			t.Fatalf("got %v", err)
		}
		time.Sleep(10 * time.Minute)
		f.set(func() {
			if n := len(f.makeTimes); n > 40 {
				t.Errorf("%d attempts in ten minutes", n)
			}
		})
		f.set(func() { f.makeErr = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := p.Status()[0]; got.Idle != 8 || got.Err != nil {
			t.Errorf("after the cause is gone: %+v", got)
		}
	})
}

func TestSetShrinksAndRemoves(t *testing.T) {
	f := &factory{}
	in(t, f, Options{}, func(t *testing.T, p *Pool) {
		p.Set(small, Bounds{Min: 4})
		if err := p.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Set(small, Bounds{Min: 1})
		if len(f.discarded) != 3 || p.Status()[0].Idle != 1 {
			t.Errorf("discarded %v, status %+v", f.discarded, p.Status())
		}
		p.Remove(small)
		if len(f.discarded) != 4 || len(p.Status()) != 0 {
			t.Errorf("discarded %v, status %+v", f.discarded, p.Status())
		}
		p.Set(small, Bounds{Min: 1})
		p.Remove(small) // while one is being made
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(f.discarded) != f.made {
			t.Errorf("made %d, discarded %v", f.made, f.discarded)
		}
	})
}

func TestCloseWhileMaking(t *testing.T) {
	f := &factory{}
	in(t, f, Options{}, func(t *testing.T, p *Pool) {
		p.Set(small, Bounds{Min: 3})
		time.Sleep(500 * time.Millisecond)
	})
	if f.atOnce != 0 || len(f.discarded) != f.made {
		t.Errorf("%d under way, made %d, discarded %v", f.atOnce, f.made, f.discarded)
	}
}

// Many claim at once, and no sandbox goes to two of them.
func TestClaimsAreExclusive(t *testing.T) {
	f := &factory{}
	in(t, f, Options{Refill: 3}, func(t *testing.T, p *Pool) {
		p.Set(small, Bounds{Min: 6})
		var (
			mu      sync.Mutex
			claimed = map[string]int{}
			callers sync.WaitGroup
		)
		for range 8 {
			callers.Go(func() {
				for range 20 {
					if s := p.Claim(small, "d1"); s != nil {
						mu.Lock()
						claimed[s.ID()]++
						mu.Unlock()
					}
					time.Sleep(700 * time.Millisecond)
				}
			})
		}
		callers.Wait()
		for id, n := range claimed {
			if n != 1 {
				t.Errorf("%s was claimed %d times", id, n)
			}
		}
		if len(claimed) < 20 {
			t.Errorf("%d claims found one", len(claimed))
		}
	})
}
