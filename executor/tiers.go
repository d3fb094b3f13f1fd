package executor

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/snapshot"
	"github.com/faas-platform/faas/snapshot/chunk"
)

// Tiers says how snapshots are kept.
type Tiers struct {
	// Cold is the second tier; nil: there is none, and only the digests of
	// files are written down.
	Cold *chunk.Store
	// ArchiveAfter is how old a snapshot is when its cold copy is made. 0: a
	// minute.
	ArchiveAfter time.Duration
	// HotBytes bounds what hot snapshots take of the disk: beyond it those
	// with a cold copy that were not used for the longest time are evicted,
	// and when none can be, new snapshots are refused with
	// faas.ErrResourceExhausted. 0: no bound.
	HotBytes int64
	// EvictAfter evicts what has a cold copy and was not used for so long,
	// whatever it takes. 0: never.
	EvictAfter time.Duration
	// MaxDepth bounds the file layers that a snapshot is made of: beyond it
	// those below its own are made one, in the background. 0: 16.
	MaxDepth int
}

const (
	defaultArchiveAfter = time.Minute
	defaultMaxDepth     = 16
	// hardDepth is the multiple of MaxDepth at which a new snapshot waits for
	// the compaction that the background has not come to.
	hardDepth = 2
	// tiersEvery is the longest time between two looks at the tiers.
	tiersEvery = 30 * time.Second
	// collectEvery is how often the cold tier is freed of what nothing names.
	collectEvery = 15 * time.Minute
)

func (t Tiers) withDefaults() Tiers {
	if t.ArchiveAfter <= 0 {
		t.ArchiveAfter = defaultArchiveAfter
	}
	if t.MaxDepth <= 0 {
		t.MaxDepth = defaultMaxDepth
	}
	return t
}

// tiers is what the executor knows of them.
type tiers struct {
	wake chan struct{}
	// hot is about how many bytes are hot; each look counts anew.
	hot       atomic.Int64
	collected time.Time // of the keeper alone
	failed    map[string]time.Time
	imports   chan struct{} // places for those that unpack
}

func newTiers() *tiers {
	return &tiers{wake: make(chan struct{}, 1), failed: map[string]time.Time{}, imports: make(chan struct{}, transfersAtOnce)}
}

// added counts a new snapshot and has it looked at.
func (t *tiers) added(bytes int64) {
	t.hot.Add(bytes)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// keepTiers compacts, archives, evicts and collects until the executor closes.
func (e *Executor) keepTiers() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-timer.C:
		case <-e.tiers.wake:
		}
		next, err := e.lookAtTiers(e.ctx)
		if err != nil && e.ctx.Err() == nil {
			e.log.Warn("looking after the snapshots' tiers failed", "error", err)
		}
		timer.Reset(next)
	}
}

// lookAtTiers does what is due and says when to look again.
func (e *Executor) lookAtTiers(ctx context.Context) (time.Duration, error) {
	e.snapshots.Tidy()
	list, err := e.snapshots.Holdings()
	if err != nil {
		return tiersEvery, err
	}
	next := tiersEvery
	if after := e.opts.Tiers.EvictAfter; after > 0 {
		next = min(next, after)
	}
	for _, h := range list {
		if err := ctx.Err(); err != nil {
			return next, err
		}
		if !h.Removed && len(h.Manifest.Layers) > e.opts.Tiers.MaxDepth {
			e.background(ctx, "compact", h.Manifest.ID, func() error {
				_, err := e.snapshots.Compact(ctx, h.Manifest.Project, h.Manifest.ID)
				return err
			})
		}
		switch due := time.Until(h.Manifest.CreatedAt.Add(e.opts.Tiers.ArchiveAfter)); {
		case h.Archived || !h.Hot:
		case due > 0:
			next = min(next, due)
		default:
			e.background(ctx, "archive", h.Manifest.ID, func() error {
				_, err := e.snapshots.Archive(ctx, h.Manifest.ID)
				return err
			})
		}
	}
	errs := []error{e.evictOld(), e.evictBeyond(0)}
	if e.opts.Tiers.Cold != nil && time.Since(e.tiers.collected) > collectEvery {
		_, err := e.snapshots.CollectCold(ctx)
		errs, e.tiers.collected = append(errs, err), time.Now()
	}
	return max(next, time.Second), errors.Join(errs...)
}

// background does one thing to one snapshot. What fails is not tried again for
// a while: it may be long work.
func (e *Executor) background(ctx context.Context, what, id string, do func() error) {
	key := what + " " + id
	if time.Since(e.tiers.failed[key]) < collectEvery {
		return
	}
	err := do()
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, faas.ErrNotFound):
		delete(e.tiers.failed, key)
	default:
		e.tiers.failed[key] = time.Now()
		e.log.Error("a snapshot could not be looked after", "what", what, "snapshot", id, "error", err)
	}
}

// evictOld evicts what was not used for long.
func (e *Executor) evictOld() error {
	if e.opts.Tiers.EvictAfter <= 0 {
		return nil
	}
	list, err := e.snapshots.Holdings()
	if err != nil {
		return err
	}
	for _, h := range list {
		if evictable(h) && time.Since(h.Used) > e.opts.Tiers.EvictAfter {
			err = errors.Join(err, e.evict(h))
		}
	}
	return err
}

func evictable(h snapshot.Holding) bool { return h.Hot && h.Cold && !h.Leased && h.Move == nil }

// evictBeyond evicts, the longest unused first, until what is hot and some
// bytes more fit the bound, as far as that is possible.
func (e *Executor) evictBeyond(more int64) error {
	list, err := e.snapshots.Holdings()
	if err != nil {
		return err
	}
	var hot int64
	for _, h := range list {
		if h.Hot {
			hot += h.Manifest.SizeBytes
		}
	}
	slices.SortStableFunc(list, func(a, b snapshot.Holding) int { return a.Used.Compare(b.Used) })
	for _, h := range list {
		if e.opts.Tiers.HotBytes <= 0 || hot+more <= e.opts.Tiers.HotBytes {
			break
		}
		if evictable(h) {
			evictErr := e.evict(h)
			if evictErr == nil {
				hot -= h.Manifest.SizeBytes
			}
			err = errors.Join(err, evictErr)
		}
	}
	e.tiers.hot.Store(hot)
	return err
}

func (e *Executor) evict(h snapshot.Holding) error {
	freed, err := e.snapshots.Evict(h.Manifest.ID)
	if errors.Is(err, faas.ErrConflict) || errors.Is(err, faas.ErrNotFound) {
		return nil // it is being used, or it has gone
	}
	if err == nil {
		e.log.Info("evicted a snapshot's hot files", "snapshot", h.Manifest.ID, "bytes", freed)
	}
	return err
}

// roomFor sees that one more snapshot on base may be made.
func (e *Executor) roomFor(ctx context.Context, project, base string) error {
	if limit := e.opts.Tiers.HotBytes; limit > 0 && e.tiers.hot.Load() >= limit {
		if err := e.evictBeyond(1); err != nil {
			return err
		}
		if hot := e.tiers.hot.Load(); hot >= limit {
			return &faas.Error{Kind: faas.KindResourceExhausted, Op: "snapshot",
				Detail: "the hot snapshots take " + mebibytes(hot) + " of the " + mebibytes(limit) + " MiB that they may, and none can be evicted",
				Remedy: "remove snapshots, raise snapshots.hot_mb, or configure a cold tier (snapshots.cold)"}
		}
	}
	if base == "" {
		return nil
	}
	m, err := e.snapshots.Get(project, base)
	if err != nil || len(m.Layers) < hardDepth*e.opts.Tiers.MaxDepth {
		return nil //nolint:nilerr // what it lies on may be removed already: its files are leased
	}
	_, err = e.snapshots.Compact(ctx, project, base)
	return err
}
