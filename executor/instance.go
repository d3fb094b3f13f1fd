package executor

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/internal/meta"
	"github.com/faas-platform/faas/pool"
)

// recordTimeout bounds the writing of an instance's record, which goes on when
// the request that led to it has ended: what was done must be known.
const recordTimeout = 15 * time.Second

// instance is an instance that this process looks after.
type instance struct {
	id, project string
	// turn has one token: whoever holds it may change the instance. Commands
	// run in it without.
	turn chan struct{}

	mu      sync.Mutex
	record  meta.Instance
	private private
	sandbox *pool.Sandbox // nil: it has none
	deleted bool
	use     use
}

// private is what the record of an instance holds for the executor alone.
type private struct {
	Env         map[string]string `json:"env,omitempty"`
	ImageDigest string            `json:"image_digest,omitempty"`
	Handle      *driver.Handle    `json:"handle,omitempty"` // of the present sandbox
	// Base is the snapshot whose layers lie below the sandbox's own; empty:
	// the image's alone.
	Base string `json:"base,omitempty"`
	// State is what it was last stopped in; a start makes it from there.
	State string `json:"state,omitempty"`
	// Head is the head of its branch that it goes on from.
	Head    string       `json:"head,omitempty"`
	Entropy faas.Entropy `json:"entropy,omitempty"`
}

func newInstance(record meta.Instance, p private) *instance {
	x := &instance{id: record.ID, project: record.Project, turn: make(chan struct{}, 1), record: record, private: p, use: use{last: time.Now()}}
	x.turn <- struct{}{}
	return x
}

// view returns the instance as others see it.
func (x *instance) view() *faas.Instance {
	x.mu.Lock()
	defer x.mu.Unlock()
	seen := x.record.Instance
	return &seen
}

// state returns a copy of what is known.
func (x *instance) state() (meta.Instance, private, *pool.Sandbox) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.record, x.private, x.sandbox
}

func (x *instance) status() faas.InstanceStatus {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.record.Status
}

// instances are those of this process.
type instances struct {
	mu   sync.Mutex
	byID map[string]*instance
	// pins counts who is about to make instances of a hidden snapshot.
	pins map[string]int
	// lost are those that this process owns and could not recover: whoever asks
	// for one tries again.
	lost map[string]bool
	// adopting are those that are being taken over; the channel closes when
	// that is done.
	adopting map[string]chan struct{}
}

func newInstances() *instances {
	return &instances{byID: map[string]*instance{}, pins: map[string]int{}, lost: map[string]bool{}, adopting: map[string]chan struct{}{}}
}

// adopt waits until nobody else takes an instance over, and keeps others from
// it until done is called.
func (l *instances) adopt(ctx context.Context, id string) (done func(), err error) {
	for {
		l.mu.Lock()
		other := l.adopting[id]
		if other == nil {
			mine := make(chan struct{})
			l.adopting[id] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.adopting, id)
				l.mu.Unlock()
				close(mine)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *instances) lose(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost[id] = true
}

// retry says whether an instance could not be recovered and nobody tries now.
func (l *instances) retry(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.lost[id]
	delete(l.lost, id)
	return was
}

func (l *instances) find(id string) *instance {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id]
}

func (l *instances) add(x *instance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byID[x.id] = x
}

func (l *instances) remove(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byID, id)
}

func (l *instances) all() []*instance {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*instance, 0, len(l.byID))
	for _, x := range l.byID {
		list = append(list, x)
	}
	return list
}

// withSandbox counts the instances that hold one.
func (l *instances) withSandbox() int {
	n := 0
	for _, x := range l.all() {
		if _, _, s := x.state(); s != nil || x.status() == faas.InstanceCreating {
			n++
		}
	}
	return n
}

// lookUp returns a project's instance, taking it over when the process that
// looked after it is dead.
func (e *Executor) lookUp(ctx context.Context, project, id string) (*instance, error) {
	if x := e.instances.find(id); x != nil && x.project == project {
		return x, nil
	}
	record, err := e.store.Instance(ctx, project, id)
	if err != nil {
		return nil, err
	}
	x, err := e.adoptInstance(ctx, *record)
	if err != nil {
		return nil, err
	}
	if x == nil {
		return nil, &faas.Error{Kind: faas.KindUnavailable, Op: "use instance " + id,
			Detail: "another process looks after it, or this one lacks its runtime " + string(record.Runtime),
			Remedy: "ask that process, the server of this data directory", RetryAfter: time.Second}
	}
	return x, nil
}

// take returns an instance that nobody else changes until release is called.
func (e *Executor) take(ctx context.Context, project, id, op string) (x *instance, release func(), err error) {
	project = orDefault(project)
	if err := e.residents.enter(ctx, demand{}); err != nil {
		return nil, nil, err
	}
	leave := func() { e.residents.leave(demand{}, 0, false) }
	if x, err = e.lookUp(ctx, project, id); err != nil {
		leave()
		return nil, nil, err
	}
	turn, err := e.turnOf(ctx, x, op)
	if err != nil {
		leave()
		return nil, nil, err
	}
	return x, func() {
		turn()
		leave()
	}, nil
}

// turnOf waits for the turn to change an instance, which release gives back.
func (e *Executor) turnOf(ctx context.Context, x *instance, op string) (release func(), err error) {
	select {
	case <-x.turn:
	case <-ctx.Done():
		return nil, stopped(ctx, op+" "+x.id)
	}
	x.mu.Lock()
	deleted := x.deleted
	x.mu.Unlock()
	if !deleted {
		return func() { x.turn <- struct{}{} }, nil
	}
	x.turn <- struct{}{}
	if _, err = e.store.Instance(ctx, x.project, x.id); err == nil {
		err = errClosing
	}
	return nil, err
}

// save changes an instance's record, durably; the caller has its turn.
func (e *Executor) save(x *instance, change func(*meta.Instance, *private)) error {
	x.mu.Lock()
	record, p := x.record, x.private
	x.mu.Unlock()
	change(&record, &p)
	encoded, err := json.Marshal(p)
	if err != nil {
		return faas.Errorf(faas.KindInternal, "encode the record of %s: %w", x.id, err)
	}
	record.Private = encoded
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	if err := e.store.UpdateInstance(ctx, record); err != nil {
		return err
	}
	x.mu.Lock()
	before := x.record.Instance
	x.record, x.private = record, p
	x.mu.Unlock()
	e.instanceChanged(faas.EventInstanceChanged, before, record.Instance)
	return nil
}

// transition moves an instance through a status on the way; back undoes it.
func (e *Executor) transition(x *instance, to faas.InstanceStatus) (back func(), err error) {
	from := x.status()
	if err := e.save(x, func(r *meta.Instance, _ *private) { r.Status = to }); err != nil {
		return nil, err
	}
	return func() {
		if err := e.save(x, func(r *meta.Instance, _ *private) { r.Status = from }); err != nil {
			e.log.Error("an instance's status could not be put back", "instance", x.id, "status", from, "error", err)
		}
	}, nil
}

// place gives an instance the sandbox that it has from now on, and watches it.
func (e *Executor) place(x *instance, s *pool.Sandbox) {
	x.mu.Lock()
	x.sandbox = s
	x.use.last = time.Now()
	x.mu.Unlock()
	e.countInstances()
	e.streams.refresh(x.id)
	e.tasks.Go(func() { e.watch(x, s) })
}

// countInstances tells the gate what memory instances are promised.
func (e *Executor) countInstances() {
	var memory int64
	for _, x := range e.instances.all() {
		if record, _, s := x.state(); s != nil {
			memory += record.Resources.MemoryMB
		}
	}
	e.gate.holdInstances(memory)
}

// watch makes an instance failed when its sandbox ends by itself.
func (e *Executor) watch(x *instance, s *pool.Sandbox) {
	if s.Wait(e.ctx) != nil {
		return
	}
	select {
	case <-x.turn:
	case <-e.ctx.Done():
		return
	}
	defer func() { x.turn <- struct{}{} }()
	x.mu.Lock()
	present := x.sandbox == s && !x.deleted
	if present {
		x.sandbox = nil
	}
	x.mu.Unlock()
	if !present {
		return // stopped or deleted
	}
	e.countInstances()
	e.log.Warn("the sandbox of an instance ended by itself", "instance", x.id, "sandbox", s.ID())
	if err := e.save(x, failed("its sandbox ended: every process in it was killed, as for want of memory")); err != nil {
		e.log.Error("an instance's end could not be recorded", "instance", x.id, "error", err)
	}
	e.reaper.add(s, nil)
}

func failed(why string) func(*meta.Instance, *private) {
	return func(r *meta.Instance, p *private) {
		r.Status, r.Error, r.SandboxID, r.Asleep, p.Handle = faas.InstanceFailed, why, "", false, nil
	}
}

// wrongStatus is the refusal of what an instance's status does not allow.
func wrongStatus(x *instance, op, remedy string) error {
	return &faas.Error{Kind: faas.KindFailedPrecondition, Op: op + " instance " + x.id,
		Detail: "it is " + string(x.status()), Remedy: remedy}
}

// Instance returns a project's instance.
func (e *Executor) Instance(ctx context.Context, project, id string) (*faas.Instance, error) {
	project = orDefault(project)
	if x := e.instances.find(id); x != nil && x.project == project {
		return x.view(), nil
	}
	record, err := e.store.Instance(ctx, project, id)
	if err != nil {
		return nil, err
	}
	return &record.Instance, nil
}

// Instances lists a project's instances, newest first, and the cursor of the
// next page, "" at the end.
func (e *Executor) Instances(ctx context.Context, project string, filter faas.InstanceFilter) ([]faas.Instance, string, error) {
	var err error
	if filter.Limit, err = pageSize(filter.Limit); err != nil {
		return nil, "", err
	}
	found, cursor, err := e.store.Instances(ctx, orDefault(project), filter)
	list := make([]faas.Instance, 0, len(found))
	for _, record := range found {
		list = append(list, record.Instance)
	}
	return list, cursor, err
}

// pageSize checks the limit of a list.
func pageSize(limit int) (int, error) {
	switch {
	case limit == 0:
		return defaultPage, nil
	case limit < 0 || limit > maxPage:
		return 0, faas.InvalidField("limit", "%d is not between 1 and %d", limit, maxPage)
	}
	return limit, nil
}
