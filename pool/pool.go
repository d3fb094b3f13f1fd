// Package pool keeps warm sandboxes ready, so that a request finds one instead
// of waiting for one to be made.
//
// Sandboxes are kept per Class and made ahead of demand by goroutines of the
// pool, a bounded number at a time. A claim never waits: it takes a warm
// sandbox of its class and image content or returns nil, and the caller makes
// one itself. A claimed sandbox is the caller's alone and never comes back.
// Sandboxes of an image whose content changed, those whose agent does not
// answer any more, and old ones are discarded.
//
// How many are kept of a class follows what is asked for (forecast.go), within
// the class's bounds and those of the whole (plan.go).
package pool

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

// Class is a kind of warm sandbox: one can stand in for another of its class
// until someone's command has run in it.
type Class struct {
	Runtime   faas.Runtime
	Image     string // as requests name it
	Resources faas.Resources
}

// Sandbox is a sandbox and the client of its agent.
type Sandbox struct {
	driver.Sandbox
	Client   *guest.Client
	Image    driver.Image
	Baseline driver.Stats // when nothing had run in it yet
	Gone     func()       // called once the sandbox is destroyed; nil: nothing to do

	checked time.Time // when its agent last answered
	made    time.Time
}

// Source makes what the pool keeps. All its methods may be called
// concurrently.
type Source interface {
	// Make makes a sandbox that is nobody's yet.
	Make(ctx context.Context, class Class) (*Sandbox, error)
	// Check returns an error when the sandbox is not fit for use any more.
	Check(ctx context.Context, s *Sandbox) error
	// Digest returns the digest of what the class's image is now.
	Digest(ctx context.Context, class Class) (string, error)
	// Discard takes a sandbox that nobody used, to destroy it. It does not wait.
	Discard(s *Sandbox)
}

// Bounds says how many sandboxes of a class are kept warm.
type Bounds struct {
	Min int // kept whatever the demand
	Max int // never more; 0: Min
	// Priority says who is served first when sandboxes are short: the highest.
	Priority int
}

// Options configures a Pool. The zero value is usable.
type Options struct {
	Refill      int           // sandboxes made at once, over all classes; 0: one per CPU
	CheckEvery  time.Duration // how often idle sandboxes and image contents are checked; 0: 15 s
	IdleCheck   time.Duration // a sandbox is checked after this long without an answer; 0: 30 s
	MakeTimeout time.Duration // of one Make; 0: 5 minutes
	MaxAge      time.Duration // older ones are replaced, one after the other; 0: 1 hour
	PrewarmFor  time.Duration // how long what Prewarm asked for is kept; 0: 10 minutes
	MaxIdle     int           // warm sandboxes over all classes; 0: 512
	// Predict lets sizes follow the demand; otherwise every class has its Min.
	Predict bool
	// Room returns how many more warm sandboxes this machine has memory for;
	// when negative, how many too many there are. nil: as many as asked for.
	Room   func() int
	Logger *slog.Logger // nil: discard
}

// Bounds of what the pool does by itself.
const (
	checkTimeout = 5 * time.Second
	retryFirst   = 100 * time.Millisecond // after a Make that failed, doubled each time
	retryLast    = 30 * time.Second
	planEvery    = time.Second            // sizes are thought over
	firstAhead   = 100 * time.Millisecond // to make one, until it is known
)

// Pool keeps warm sandboxes of several classes.
type Pool struct {
	source Source
	opts   Options

	mu      sync.Mutex
	classes map[Class]*shelf
	making  int
	closed  bool
	changed chan struct{} // closed and renewed whenever a shelf changes

	wake  chan struct{} // capacity 1: the refill goroutine has something to look at
	ctx   context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup
}

// shelf holds the warm sandboxes of one class.
type shelf struct {
	class      Class
	bounds     Bounds
	configured bool // by Set; otherwise it goes when nobody wants it any more
	prewarm    int  // asked for until prewarmed
	prewarmed  time.Time
	forecast   Forecast
	target     int        // what plan made of all that
	why        string     // in words
	idle       []*Sandbox // the one used last is the last
	making     int
	makeTime   time.Duration // moving average
	failures   int           // of Make, in a row
	retryAt    time.Time
	lastErr    error
	hits       int64
	misses     int64
	missTime   time.Duration // that claims lost which found none
	aged       int64         // discarded for their age
}

// New starts a pool without classes.
func New(source Source, opts Options) *Pool {
	defaults(&opts.Refill, runtime.NumCPU())
	defaults(&opts.CheckEvery, 15*time.Second)
	defaults(&opts.IdleCheck, 30*time.Second)
	defaults(&opts.MakeTimeout, 5*time.Minute)
	defaults(&opts.MaxAge, time.Hour)
	defaults(&opts.PrewarmFor, 10*time.Minute)
	defaults(&opts.MaxIdle, 512)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Pool{
		source: source, opts: opts, classes: make(map[Class]*shelf),
		changed: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.tasks.Go(p.refill)
	p.tasks.Go(p.check)
	p.tasks.Go(p.keepPlanning)
	return p
}

func defaults[T int | time.Duration](value *T, otherwise T) {
	if *value <= 0 {
		*value = otherwise
	}
}

// Set configures a class.
func (p *Pool) Set(class Class, bounds Bounds) {
	bounds.Min = max(bounds.Min, 0)
	bounds.Max = max(bounds.Max, bounds.Min)
	p.change(class, func(s *shelf) { s.bounds, s.configured = bounds, true })
}

// Prewarm has so many sandboxes of a class made now and kept warm for
// Options.PrewarmFor, whatever the bounds of the class.
func (p *Pool) Prewarm(class Class, count int) {
	p.change(class, func(s *shelf) {
		s.prewarm, s.prewarmed = count, time.Now().Add(p.opts.PrewarmFor)
	})
}

// change changes a class, making it when it is missing.
func (p *Pool) change(class Class, f func(*shelf)) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	s := p.classes[class]
	if s == nil {
		s = &shelf{class: class, makeTime: firstAhead}
		p.classes[class] = s
	}
	f(s)
	s.failures, s.retryAt = 0, time.Time{}
	p.mu.Unlock()
	p.plan(time.Now())
}

// Remove removes a class and discards its sandboxes. It says whether there
// was one.
func (p *Pool) Remove(class Class) bool {
	p.mu.Lock()
	s := p.classes[class]
	var surplus []*Sandbox
	if s != nil {
		surplus = s.idle
		s.target, s.idle = 0, nil
		delete(p.classes, class)
	}
	p.announce()
	p.mu.Unlock()
	p.discard(surplus)
	return s != nil
}

// Claim takes a warm sandbox of a class whose image has the given digest. It
// returns nil at once when there is none.
func (p *Pool) Claim(class Class, digest string) *Sandbox {
	return p.take(func() *shelf {
		s := p.classes[class]
		if s != nil {
			s.forecast.Arrive(time.Now())
		}
		return s
	}, digest)
}

// Missed takes note of what it cost a claim of a class that it found none.
func (p *Pool) Missed(class Class, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.classes[class]; s != nil {
		s.missTime += took
	}
}

// ClaimOther is Claim for a sandbox of the same runtime and image that has
// other resources, of which fits says whether they can be changed into those
// wanted. The caller changes them.
func (p *Pool) ClaimOther(class Class, digest string, fits func(faas.Resources) bool) *Sandbox {
	return p.take(func() *shelf {
		var most *shelf
		for other, s := range p.classes {
			if other.Runtime == class.Runtime && other.Image == class.Image && other != class &&
				len(s.idle) > 0 && fits(other.Resources) && (most == nil || len(s.idle) > len(most.idle)) {
				most = s
			}
		}
		return most
	}, digest)
}

// take takes a sandbox from the shelf that choose returns with mu held, nil
// for none.
func (p *Pool) take(choose func() *shelf, digest string) *Sandbox {
	p.mu.Lock()
	s := choose()
	if s == nil {
		p.mu.Unlock()
		return nil
	}
	outdated := s.removeWhere(func(sandbox *Sandbox) bool { return sandbox.Image.Digest != digest })
	var claimed *Sandbox
	if n := len(s.idle); n > 0 {
		claimed, s.idle[n-1] = s.idle[n-1], nil
		s.idle = s.idle[:n-1]
		s.hits++
	} else {
		s.misses++
	}
	p.announce()
	p.mu.Unlock()
	p.discard(outdated)
	p.poke()
	return claimed
}

// removeWhere takes the idle sandboxes for which gone holds off the shelf. It
// allocates nothing when there is none.
func (s *shelf) removeWhere(gone func(*Sandbox) bool) []*Sandbox {
	if !slices.ContainsFunc(s.idle, gone) {
		return nil
	}
	var removed, kept []*Sandbox
	for _, sandbox := range s.idle {
		if gone(sandbox) {
			removed = append(removed, sandbox)
		} else {
			kept = append(kept, sandbox)
		}
	}
	s.idle = kept
	return removed
}

// Status describes one class of the pool.
type Status struct {
	Class      Class
	Bounds     Bounds
	Configured bool   // by Set; otherwise it is there for a prewarm only
	Target     int    // sandboxes to be ready
	Why        string // Target is what it is
	Idle       int    // ready to be claimed
	Making     int
	Hits       int64         // claims that found one
	Misses     int64         // claims that did not
	MissTime   time.Duration // that those took longer, in all
	MakeTime   time.Duration // to make one, of late
	Aged       int64         // replaced for their age
	Oldest     time.Duration // age of the oldest that is ready
	Err        error         // why the last attempt to make one failed; nil after a success
}

// Status describes every class.
func (p *Pool) Status() []Status {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Status, 0, len(p.classes))
	for _, s := range p.classes {
		status := Status{
			Class: s.class, Bounds: s.bounds, Configured: s.configured, Target: s.target, Why: s.why,
			Idle: len(s.idle), Making: s.making, Hits: s.hits, Misses: s.misses, MissTime: s.missTime,
			MakeTime: s.makeTime, Aged: s.aged, Err: s.lastErr,
		}
		for _, sandbox := range s.idle {
			status.Oldest = max(status.Oldest, now.Sub(sandbox.made))
		}
		list = append(list, status)
	}
	slices.SortFunc(list, func(a, b Status) int { return compareClasses(a.Class, b.Class) })
	return list
}

// WaitReady returns when every class holds as many warm sandboxes as asked
// for, with the error of the first that cannot be made, or when ctx ends.
func (p *Pool) WaitReady(ctx context.Context) error {
	for {
		p.mu.Lock()
		ready, changed := true, p.changed
		var failed error
		for _, s := range p.classes {
			if len(s.idle) < s.target {
				ready = false
				if s.failures > 0 {
					failed = s.lastErr
				}
			}
		}
		closed := p.closed
		p.mu.Unlock()
		switch {
		case ready:
			return nil
		case failed != nil:
			return failed
		case closed:
			return faas.Errorf(faas.KindUnavailable, "the pool was closed")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close stops making sandboxes and discards those that are ready. It returns
// when the pool's goroutines have ended, or ctx.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.announce()
	p.mu.Unlock()
	p.stop()
	ended := make(chan struct{})
	go func() { p.tasks.Wait(); close(ended) }()
	var err error
	select {
	case <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.mu.Lock()
	var all []*Sandbox
	for _, s := range p.classes {
		all = append(all, s.idle...)
	}
	clear(p.classes)
	p.mu.Unlock()
	p.discard(all)
	return err
}

func (p *Pool) discard(list []*Sandbox) {
	for _, s := range list {
		p.source.Discard(s)
	}
}

// announce tells those who wait that something changed; the caller holds mu.
func (p *Pool) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// poke makes the refill goroutine look again.
func (p *Pool) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
