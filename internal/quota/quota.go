// Package quota holds each API key to its bounds: requests a second, executions
// a day, and what runs at one time with the memory and disk that it may take.
// What exceeds a bound is faas.ErrResourceExhausted with the time after which
// to try again.
package quota

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/auth"
)

// retryRunning is when a key that runs as much as it may should try again:
// nobody knows when its executions end.
const retryRunning = time.Second

// Need is what one execution or instance takes.
type Need struct {
	Executions int64 // that count for the day
	Places     int64 // of what runs at one time
	MemoryMB   int64
	DiskMB     int64
}

// Plus adds needs up.
func (n Need) Plus(m Need) Need {
	return Need{n.Executions + m.Executions, n.Places + m.Places, n.MemoryMB + m.MemoryMB, n.DiskMB + m.DiskMB}
}

// Held says what a key holds besides what it entered: its instances.
type Held func(ctx context.Context) (Need, error)

// Ledger counts what keys use now. Safe for concurrent use; a nil Ledger bounds
// nothing.
type Ledger struct {
	today func(ctx context.Context, keyID string, since time.Time) (int64, error)

	mu   sync.Mutex
	keys map[string]*account
}

// account is what one key uses.
type account struct {
	mu      sync.Mutex // also held while what the key holds is counted
	limiter *rate.Limiter
	running Need
	day     time.Time // whose executions are counted; zero: not yet
	begun   int64
}

// New returns a ledger. today counts a key's executions since a time, for a
// ledger that starts in the middle of a day; nil: none.
func New(today func(ctx context.Context, keyID string, since time.Time) (int64, error)) *Ledger {
	return &Ledger{today: today, keys: map[string]*account{}}
}

func (l *Ledger) account(id string) *account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.keys[id]
	if a == nil {
		a = &account{}
		l.keys[id] = a
	}
	return a
}

// Forget drops what is known of a key that is gone.
func (l *Ledger) Forget(id string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.keys, id)
}

// Request counts one request against the key's rate.
func (l *Ledger) Request(who auth.Identity) error {
	if l == nil || who.Quota.RatePerSecond <= 0 {
		return nil
	}
	a := l.account(who.KeyID)
	a.mu.Lock()
	defer a.mu.Unlock()
	limit := rate.Limit(who.Quota.RatePerSecond)
	burst := int(min(who.Quota.Burst, math.MaxInt32))
	if burst == 0 {
		burst = int(min(math.Ceil(who.Quota.RatePerSecond), math.MaxInt32))
	}
	if a.limiter == nil {
		a.limiter = rate.NewLimiter(limit, burst)
	}
	if a.limiter.Limit() != limit || a.limiter.Burst() != burst {
		a.limiter.SetLimit(limit)
		a.limiter.SetBurst(burst)
	}
	now := time.Now()
	taken := a.limiter.ReserveN(now, 1)
	if wait := taken.DelayFrom(now); wait > 0 {
		taken.CancelAt(now)
		return exhausted(wait, "the key may send %v requests a second", who.Quota.RatePerSecond)
	}
	return nil
}

// Enter takes what an execution or instance needs until leave is called. held
// counts what the key holds besides, when a bound depends on it; nil: nothing.
func (l *Ledger) Enter(ctx context.Context, who auth.Identity, need Need, held Held) (leave func(), err error) {
	if l == nil || who.Quota == (auth.Quota{}) {
		return func() {}, nil
	}
	a := l.account(who.KeyID)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := l.countDay(ctx, a, who); err != nil {
		return nil, err
	}
	wanted := a.running.Plus(need)
	q := who.Quota
	if held != nil && need.Places > 0 && (q.Concurrency > 0 || q.MemoryMB > 0 || q.DiskMB > 0) {
		more, err := held(ctx)
		if err != nil {
			return nil, err
		}
		wanted = wanted.Plus(more)
	}
	switch {
	case q.ExecutionsPerDay > 0 && a.begun+need.Executions > q.ExecutionsPerDay:
		return nil, exhausted(time.Until(a.day.Add(24*time.Hour)), "the key may begin %d executions a day", q.ExecutionsPerDay)
	case q.Concurrency > 0 && wanted.Places > q.Concurrency:
		return nil, exhausted(retryRunning, "the key may run %d executions and instances at one time", q.Concurrency)
	case q.MemoryMB > 0 && wanted.MemoryMB > q.MemoryMB:
		return nil, exhausted(retryRunning, "the key may take %d MiB of memory at one time, this would make it %d", q.MemoryMB, wanted.MemoryMB)
	case q.DiskMB > 0 && wanted.DiskMB > q.DiskMB:
		return nil, exhausted(retryRunning, "the key may take %d MiB of disk at one time, this would make it %d", q.DiskMB, wanted.DiskMB)
	}
	a.begun += need.Executions
	need.Executions = 0
	a.running = a.running.Plus(need)
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.running = a.running.Plus(Need{Places: -need.Places, MemoryMB: -need.MemoryMB, DiskMB: -need.DiskMB})
	}), nil
}

// countDay begins a new day's count when the old one is over. A clock that
// was set back does not give a day twice: the count goes on.
func (l *Ledger) countDay(ctx context.Context, a *account, who auth.Identity) error {
	if who.Quota.ExecutionsPerDay == 0 {
		return nil
	}
	day := time.Now().UTC().Truncate(24 * time.Hour)
	if !day.After(a.day) {
		return nil
	}
	var begun int64
	if l.today != nil && a.day.IsZero() {
		var err error
		if begun, err = l.today(ctx, who.KeyID, day); err != nil {
			return err
		}
	}
	a.day, a.begun = day, begun
	return nil
}

func exhausted(after time.Duration, format string, args ...any) error {
	return &faas.Error{
		Kind: faas.KindResourceExhausted, Op: "quota", Detail: fmt.Sprintf(format, args...), RetryAfter: max(after, time.Millisecond),
		Remedy: "wait, or ask an admin for a larger quota",
	}
}
