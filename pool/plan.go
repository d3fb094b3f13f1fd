package pool

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// keepPlanning thinks the sizes over until the pool is closed.
func (p *Pool) keepPlanning() {
	ticker := time.NewTicker(planEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-ticker.C:
			p.plan(time.Now())
		}
	}
}

// plan gives every class its target: what is wanted of it within its bounds,
// as far as there is room for all, the highest priority first. What is above a
// target is discarded.
func (p *Pool) plan(now time.Time) {
	room := p.opts.MaxIdle
	if p.opts.Room != nil {
		room = p.opts.Room() // reads the machine's state, so not under the lock
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	if p.opts.Room != nil {
		for _, s := range p.classes {
			room += len(s.idle) + s.making
		}
	}
	room = max(min(room, p.opts.MaxIdle), 0)
	var surplus []*Sandbox
	for _, s := range p.byPriority() {
		surplus = append(surplus, p.planOne(s, now, room)...)
		room -= s.target
	}
	p.announce()
	p.mu.Unlock()
	p.discard(surplus)
	p.poke()
}

// planOne plans a class and returns what it has too much; the caller holds mu.
func (p *Pool) planOne(s *shelf, now time.Time, room int) (surplus []*Sandbox) {
	s.target, s.why = p.wanted(s, now)
	if s.target > room {
		s.why = fmt.Sprintf("%d of %d: there is room for no more (%s)", room, s.target, s.why)
		s.target = room
	}
	if !s.configured && s.target == 0 && now.After(s.prewarmed) {
		surplus, s.idle = s.idle, nil
		delete(p.classes, s.class)
		return surplus
	}
	if n := len(s.idle) - s.target; n > 0 {
		surplus, s.idle = s.idle[:n:n], slices.Clone(s.idle[n:])
	}
	return surplus
}

// byPriority lists the classes, the one to be served first first; the caller
// holds mu.
func (p *Pool) byPriority() []*shelf {
	list := make([]*shelf, 0, len(p.classes))
	for _, s := range p.classes {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *shelf) int {
		return cmp.Or(cmp.Compare(b.bounds.Priority, a.bounds.Priority), compareClasses(a.class, b.class))
	})
	return list
}

// wanted is how many a class should have by itself, and why.
func (p *Pool) wanted(s *shelf, now time.Time) (count int, why string) {
	count, why = s.bounds.Min, "its minimum"
	if p.opts.Predict && s.bounds.Max > s.bounds.Min {
		forecast, because := s.forecast.Want(now, s.makeTime)
		switch {
		case forecast > s.bounds.Max:
			count, why = s.bounds.Max, fmt.Sprintf("its maximum, %d would be wanted: %s", forecast, because)
		case forecast > count:
			count, why = forecast, because
		default:
			why = fmt.Sprintf("its minimum, %d would be wanted: %s", forecast, because)
		}
	}
	if s.prewarm > count && now.Before(s.prewarmed) {
		count, why = s.prewarm, "prewarmed on request until "+s.prewarmed.UTC().Format(time.RFC3339)
	}
	return count, why
}
