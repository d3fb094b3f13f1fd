package pool

import (
	"cmp"
	"context"
	"time"
)

// refill starts makers where sandboxes are missing until the pool is closed.
func (p *Pool) refill() {
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		pause := p.startMakers(time.Now())
		retry.Reset(pause)
		select {
		case <-p.ctx.Done():
			return
		case <-p.wake:
		case <-retry.C:
		}
	}
}

// startMakers starts as many makers as are allowed and needed, and returns
// when to look again at classes that wait after a failure.
func (p *Pool) startMakers(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	pause := time.Hour
	for !p.closed && p.making < p.opts.Refill {
		s, wait := p.neediest(now)
		if s == nil {
			pause = wait
			break
		}
		s.making++
		p.making++
		p.tasks.Go(func() { p.makeOne(s) })
	}
	return pause
}

// neediest returns the class that lacks the largest share of its sandboxes
// among those of the highest priority and, when there is none, how long the
// next one waits after a failure.
func (p *Pool) neediest(now time.Time) (*shelf, time.Duration) {
	var (
		best  *shelf
		share float64
		wait  = time.Hour
	)
	for _, s := range p.classes {
		missing := s.target - len(s.idle) - s.making
		if missing <= 0 {
			continue
		}
		if after := s.retryAt.Sub(now); after > 0 {
			wait = min(wait, after)
			continue
		}
		if s.failures > 0 && s.making > 0 {
			continue // one attempt at a time until one succeeds
		}
		lacks := float64(missing) / float64(s.target)
		if best == nil || s.bounds.Priority > best.bounds.Priority ||
			s.bounds.Priority == best.bounds.Priority && lacks > share {
			best, share = s, lacks
		}
	}
	return best, wait
}

// makeOne makes one sandbox for a shelf and puts it there, unless the shelf
// has been filled or removed meanwhile.
func (p *Pool) makeOne(s *shelf) {
	ctx, cancel := context.WithTimeout(p.ctx, p.opts.MakeTimeout)
	begun := time.Now()
	made, err := p.source.Make(ctx, s.class)
	cancel()
	now := time.Now()
	p.mu.Lock()
	s.making--
	p.making--
	s.lastErr = err
	switch {
	case err != nil:
		s.retryAt = now.Add(min(retryFirst<<min(s.failures, 16), retryLast))
		s.failures++
	case p.closed || len(s.idle) >= s.target:
	default:
		made.checked, made.made = now, now
		s.idle = append(s.idle, made)
		s.makeTime += (now.Sub(begun) - s.makeTime) / 8
		s.failures, made = 0, nil
	}
	p.announce()
	p.mu.Unlock()
	if err != nil && p.ctx.Err() == nil {
		p.opts.Logger.Warn("making a warm sandbox failed", "runtime", s.class.Runtime, "image", s.class.Image, "error", err)
	}
	if err == nil && made != nil {
		p.source.Discard(made)
	}
	p.poke()
}

// check looks after idle sandboxes until the pool is closed.
func (p *Pool) check() {
	ticker := time.NewTicker(p.opts.CheckEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-ticker.C:
		}
		for _, class := range p.occupied() {
			p.checkImage(class)
		}
		for _, s := range p.unheard(time.Now().Add(-p.opts.IdleCheck)) {
			p.checkOne(s)
		}
		p.dropAged(time.Now().Add(-p.opts.MaxAge))
	}
}

// occupied lists the classes that hold idle sandboxes.
func (p *Pool) occupied() []Class {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Class
	for class, s := range p.classes {
		if len(s.idle) > 0 {
			list = append(list, class)
		}
	}
	return list
}

// checkImage discards the sandboxes of a class whose image has changed. When
// the image's content cannot be told they stay: a claim compares it again.
func (p *Pool) checkImage(class Class) {
	ctx, cancel := context.WithTimeout(p.ctx, checkTimeout)
	defer cancel()
	digest, err := p.source.Digest(ctx, class)
	if err != nil {
		if p.ctx.Err() == nil {
			p.opts.Logger.Warn("a pooled image cannot be resolved", "image", class.Image, "error", err)
		}
		return
	}
	p.drop(func(s *Sandbox) bool { return s.Image.Digest != digest }, class)
}

// unheard lists the idle sandboxes whose agent has not answered since then.
func (p *Pool) unheard(then time.Time) []*Sandbox {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*Sandbox
	for _, s := range p.classes {
		for _, sandbox := range s.idle {
			if !sandbox.checked.After(then) {
				list = append(list, sandbox)
			}
		}
	}
	return list
}

// dropAged discards the oldest of each class that was made before then: one at
// a time, so that no class is empty for it.
func (p *Pool) dropAged(then time.Time) {
	p.mu.Lock()
	aged := map[*Sandbox]bool{}
	for _, s := range p.classes {
		var oldest *Sandbox
		for _, sandbox := range s.idle {
			if sandbox.made.Before(then) && (oldest == nil || sandbox.made.Before(oldest.made)) {
				oldest = sandbox
			}
		}
		if oldest != nil && len(s.idle) >= s.target {
			aged[oldest] = true
			s.aged++
		}
	}
	p.mu.Unlock()
	if len(aged) > 0 {
		p.drop(func(s *Sandbox) bool { return aged[s] })
	}
}

// checkOne checks one sandbox and discards it when it fails, if it is still
// idle: one that was claimed meanwhile is its claimer's to judge.
func (p *Pool) checkOne(sandbox *Sandbox) {
	ctx, cancel := context.WithTimeout(p.ctx, checkTimeout)
	defer cancel()
	err := p.source.Check(ctx, sandbox)
	if p.ctx.Err() != nil {
		return
	}
	if err == nil {
		p.mu.Lock()
		sandbox.checked = time.Now()
		p.mu.Unlock()
		return
	}
	p.opts.Logger.Warn("a warm sandbox does not answer", "sandbox", sandbox.ID(), "error", err)
	p.drop(func(s *Sandbox) bool { return s == sandbox })
}

// drop discards the idle sandboxes for which gone holds, of the given classes
// or of all.
func (p *Pool) drop(gone func(*Sandbox) bool, only ...Class) {
	p.mu.Lock()
	var removed []*Sandbox
	if len(only) == 0 {
		for _, s := range p.classes {
			removed = append(removed, s.removeWhere(gone)...)
		}
	}
	for _, class := range only {
		if s := p.classes[class]; s != nil {
			removed = append(removed, s.removeWhere(gone)...)
		}
	}
	if len(removed) > 0 {
		p.announce()
	}
	p.mu.Unlock()
	p.discard(removed)
	p.poke()
}

func compareClasses(a, b Class) int {
	return cmp.Or(
		cmp.Compare(a.Runtime, b.Runtime),
		cmp.Compare(a.Image, b.Image),
		cmp.Compare(a.Resources.MemoryMB, b.Resources.MemoryMB),
		cmp.Compare(a.Resources.CPUCores, b.Resources.CPUCores),
		cmp.Compare(a.Resources.DiskMB, b.Resources.DiskMB),
		cmp.Compare(a.Resources.PIDs, b.Resources.PIDs),
	)
}
