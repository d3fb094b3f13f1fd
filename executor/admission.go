package executor

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/faas-platform/faas"
)

// errClosing ends what waits or runs when the executor closes.
var errClosing = &faas.Error{Kind: faas.KindUnavailable, Op: "execute", Detail: "the executor is shutting down",
	Remedy: "try again when it is back", RetryAfter: 5 * time.Second}

// Admission bounds what runs at once. What it leaves at 0 has a default.
type Admission struct {
	// Concurrent is how many executions have a sandbox at once. 0: eight per
	// CPU, less where three quarters of the memory hold fewer sandboxes of the
	// default size, at least two.
	Concurrent int
	// Queue is how many more may wait; beyond them requests are refused with
	// faas.ErrResourceExhausted. 0: sixteen times Concurrent. Negative: none.
	Queue int
	// KeyConcurrent is how many executions of one key have a sandbox at once.
	// 0: Concurrent.
	KeyConcurrent int
	// KeyQueue is how many of one key may wait. 0: half of Queue.
	KeyQueue int
	// Runtimes is how many executions of a runtime have a sandbox at once;
	// those without an entry are bounded by Concurrent alone.
	Runtimes map[faas.Runtime]int
	// MemoryOvercommit is how many times the machine's memory executions and
	// instances may be promised together, as their limits. 0: 4. Negative: no
	// bound.
	MemoryOvercommit float64
	// CPUOvercommit is the same of CPU cores, for executions. 0: 16.
	CPUOvercommit float64
}

// The factors that stand for 0.
const (
	defaultMemoryOvercommit = 4
	defaultCPUOvercommit    = 16
)

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
	if a.KeyConcurrent <= 0 {
		a.KeyConcurrent = a.Concurrent
	}
	if a.KeyQueue <= 0 {
		a.KeyQueue = (a.Queue + 1) / 2
	}
	if a.MemoryOvercommit == 0 {
		a.MemoryOvercommit = defaultMemoryOvercommit
	}
	if a.CPUOvercommit == 0 {
		a.CPUOvercommit = defaultCPUOvercommit
	}
	return a
}

// memoryMB is what may be promised in all; 0: no bound.
func (a Admission) memoryMB() int64 {
	if a.MemoryOvercommit <= 0 {
		return 0
	}
	return int64(float64(totalMemoryMB()) * a.MemoryOvercommit)
}

// cores is what executions may be promised in all; 0: no bound.
func (a Admission) cores() float64 {
	if a.CPUOvercommit <= 0 {
		return 0
	}
	return float64(runtime.NumCPU()) * a.CPUOvercommit
}

// demand is what an execution asks of the gate.
type demand struct {
	key      string // whose it is
	runtime  faas.Runtime
	memoryMB int64
	cores    float64
}

// gate admits executions: as many as the limits allow, those of each key in the
// order of their arrival and the keys in turn. An admitted execution runs until
// leave; its sandbox may then be dying until buried, off the path of its
// answer. New ones are admitted while the dying are not more than the running
// may be: when destroying falls behind, requests wait instead of sandboxes
// piling up.
type gate struct {
	limits   Admission
	memoryMB int64   // that may be promised; 0: no bound
	cores    float64 // likewise

	mu       sync.Mutex
	running  int
	dying    int
	promised demand // memory and cores of the running
	held     int64  // MiB of instances
	making   int64  // MiB of instances that are being made
	runtimes map[faas.Runtime]int
	keys     map[string]*line
	turns    []*line // the keys that wait, the next one first
	queued   int
	closed   bool
	idle     chan struct{} // closed and renewed when running falls to zero
	pace     float64       // seconds, moving average of how long one runs
}

// line is what a key has in the gate.
type line struct {
	key     string
	running int
	waiting []*ticket // in order of arrival
}

// ticket is one request in the queue.
type ticket struct {
	demand
	since    time.Time
	admitted chan error // capacity 1
}

func newGate(limits Admission) *gate {
	return &gate{
		limits: limits, memoryMB: limits.memoryMB(), cores: limits.cores(), runtimes: map[faas.Runtime]int{},
		keys: map[string]*line{}, idle: make(chan struct{}), pace: 1,
	}
}

// enter waits for admission.
func (g *gate) enter(ctx context.Context, d demand) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return errClosing
	}
	if err := g.possible(d); err != nil {
		g.mu.Unlock()
		return err
	}
	l := g.keys[d.key]
	if l == nil {
		l = &line{key: d.key}
		g.keys[d.key] = l
	}
	switch {
	case len(l.waiting) == 0 && (g.queued == 0 || !g.crowded()) && g.room(l, d):
		g.admit(l, d)
		g.mu.Unlock()
		return nil
	case g.queued >= g.limits.Queue || len(l.waiting) >= g.limits.KeyQueue:
		err := g.refusal(len(l.waiting) >= g.limits.KeyQueue && g.queued < g.limits.Queue)
		g.forget(l)
		g.mu.Unlock()
		return err
	}
	t := &ticket{demand: d, since: time.Now(), admitted: make(chan error, 1)}
	if l.waiting = append(l.waiting, t); len(l.waiting) == 1 {
		g.turns = append(g.turns, l)
	}
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
			g.release(t.demand)
			g.advance()
		}
	default:
		l := g.keys[t.key]
		for i, other := range l.waiting {
			if other == t {
				l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
				break
			}
		}
		g.queued--
		g.leaveTurn(l)
		g.advance() // what it stood in the way of
	}
	return context.Cause(ctx)
}

// possible refuses what no waiting would make room for.
func (g *gate) possible(d demand) error {
	switch {
	case g.memoryMB > 0 && d.memoryMB > g.memoryMB:
		return faas.InvalidField("memory_mb", "%d MiB are more than the %d that this installation promises in all", d.memoryMB, g.memoryMB)
	case g.cores > 0 && d.cores > g.cores:
		return faas.InvalidField("cpu_cores", "%g cores are more than the %g that this installation promises in all", d.cores, g.cores)
	}
	return nil
}

// crowded says whether nobody more can be admitted, whatever it asks for; the
// caller holds mu.
func (g *gate) crowded() bool {
	return g.running >= g.limits.Concurrent || g.dying > g.limits.Concurrent
}

// room says whether one of a key can be admitted now; the caller holds mu.
func (g *gate) room(l *line, d demand) bool {
	if most, ok := g.limits.Runtimes[d.runtime]; ok && g.runtimes[d.runtime] >= most {
		return false
	}
	if g.crowded() || g.limits.KeyConcurrent > 0 && l.running >= g.limits.KeyConcurrent || !g.promisable(d) {
		return false
	}
	first := g.starving()
	return first == nil || first == l
}

// starving returns the key whose turn it is before all others: what is first of
// it has waited long for more memory or cores than the smaller ones, which would
// take what becomes free, leave it. nil: there is none. The caller holds mu.
func (g *gate) starving() *line {
	for _, l := range g.turns {
		if t := l.waiting[0]; time.Since(t.since) > patience && !g.promisable(t.demand) {
			return l
		}
	}
	return nil
}

// patience is how long an execution waits for memory or cores while others are
// admitted.
const patience = 5 * time.Second

// promisable says whether memory and cores suffice; the caller holds mu.
func (g *gate) promisable(d demand) bool {
	memory := g.promised.memoryMB + d.memoryMB + g.held + g.making
	return (g.memoryMB <= 0 || memory <= g.memoryMB) && (g.cores <= 0 || g.promised.cores+d.cores <= g.cores)
}

// admit counts one as running; the caller holds mu.
func (g *gate) admit(l *line, d demand) {
	g.running++
	l.running++
	g.runtimes[d.runtime]++
	g.promised.memoryMB += d.memoryMB
	g.promised.cores += d.cores
}

// release takes admit back; the caller holds mu.
func (g *gate) release(d demand) {
	g.running--
	g.runtimes[d.runtime]--
	g.promised.memoryMB -= d.memoryMB
	if g.promised.cores -= d.cores; g.running == 0 {
		g.promised.cores = 0 // fractions do not add up exactly
	}
	l := g.keys[d.key]
	l.running--
	g.forget(l)
}

// forget drops a key that has nothing in the gate; the caller holds mu.
func (g *gate) forget(l *line) {
	if l.running == 0 && len(l.waiting) == 0 {
		delete(g.keys, l.key)
	}
}

func (g *gate) refusal(ofKey bool) error {
	wait := time.Duration(g.pace * float64(g.queued+1) / float64(g.limits.Concurrent) * float64(time.Second))
	detail, remedy := "as many executions run and wait as this machine admits", "try again later, or raise the admission limits of the configuration"
	if ofKey {
		detail, remedy = fmt.Sprintf("as many executions of this key wait as may: %d", g.limits.KeyQueue), "try again later, or wait for answers before sending more"
	}
	return &faas.Error{
		Kind: faas.KindResourceExhausted, Op: "execute", Detail: detail, Remedy: remedy,
		RetryAfter: min(max(wait.Round(time.Second), time.Second), time.Minute),
	}
}

// leave ends an execution that ran for d. When dying is true its sandbox
// counts until buried is called.
func (g *gate) leave(of demand, d time.Duration, dying bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.release(of)
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

// advance admits from the queue what there is room for, one of each key in
// turn; the caller holds mu. The first of a key waits for room without letting
// later ones of the same key pass, but does not hold up other keys.
func (g *gate) advance() {
	for blocked := 0; blocked < len(g.turns) && !g.crowded(); {
		l := g.turns[0]
		g.turns = append(g.turns[1:], l)
		t := l.waiting[0]
		if !g.room(l, t.demand) {
			blocked++
			continue
		}
		blocked = 0
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		g.queued--
		g.admit(l, t.demand)
		g.leaveTurn(l)
		t.admitted <- nil
	}
	if g.running == 0 {
		close(g.idle)
		g.idle = make(chan struct{})
	}
}

// leaveTurn takes a key of which nothing waits any more out of the turns; the
// caller holds mu.
func (g *gate) leaveTurn(l *line) {
	if len(l.waiting) > 0 {
		return
	}
	for i, other := range g.turns {
		if other == l {
			g.turns = append(g.turns[:i], g.turns[i+1:]...)
			break
		}
	}
	g.forget(l)
}

// hold promises an instance its memory while it is being made; the caller
// calls done when it is counted by holdInstances, or will not be.
func (g *gate) hold(memoryMB int64) (done func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := demand{memoryMB: memoryMB}
	if err := g.possible(d); err != nil {
		return nil, err
	}
	if !g.promisable(d) {
		return nil, &faas.Error{Kind: faas.KindResourceExhausted, Op: "create instance", RetryAfter: 10 * time.Second,
			Detail: fmt.Sprintf("%d MiB are promised to what runs here; %d more would be above the %d that may be", g.promised.memoryMB+g.held+g.making, memoryMB, g.memoryMB),
			Remedy: "stop or delete instances, ask for less memory, or raise admission.memory_overcommit"}
	}
	g.making += memoryMB
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.making -= memoryMB
		g.advance()
	}, nil
}

// holdInstances says what memory the instances have together.
func (g *gate) holdInstances(memoryMB int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = memoryMB
	g.advance()
}

// close refuses everything that is not running yet.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, l := range g.turns {
		for _, t := range l.waiting {
			t.admitted <- errClosing
		}
		l.waiting = nil
		g.forget(l)
	}
	g.turns, g.queued = nil, 0
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
