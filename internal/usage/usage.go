// Package usage meters what each API key uses: executions, CPU time, memory
// over time and bytes of snapshots, by the hour.
//
// A Meter adds up in memory, so that metering costs a request nothing, and
// writes every few seconds; a daemon that is killed loses what was added since.
package usage

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Amounts is what was used.
type Amounts struct {
	Executions    int64
	CPUMS         int64
	MemoryMBMS    int64 // memory limit in MiB times milliseconds
	SnapshotBytes int64
}

func (a *Amounts) add(b Amounts) {
	a.Executions += b.Executions
	a.CPUMS += b.CPUMS
	a.MemoryMBMS += b.MemoryMBMS
	a.SnapshotBytes += b.SnapshotBytes
}

// Slot is whose use of which hour amounts are of.
type Slot struct {
	Project string
	KeyID   string
	Hour    time.Time // its beginning, in UTC
}

// Record is what was used in one slot.
type Record struct {
	Slot
	Amounts
}

// Filter selects records. Zero fields select everything.
type Filter struct {
	Project string // "": every project's
	KeyID   string
	Since   time.Time
	Until   time.Time
}

// Store keeps records.
type Store interface {
	// AddUsage adds amounts to what the slots hold, all or none.
	AddUsage(ctx context.Context, records []Record) error
	// Usage lists records by hour, project and key.
	Usage(ctx context.Context, filter Filter) ([]Record, error)
}

const (
	// writeEvery is how often what was added is written.
	writeEvery = 5 * time.Second
	// writeTimeout bounds one write.
	writeTimeout = 10 * time.Second
	// maxSlots bounds what waits for a database that does not take it.
	maxSlots = 100_000
)

// Holding is memory that something holds as long as it is there.
type Holding struct {
	Project  string
	KeyID    string
	MemoryMB int64
}

// Meter adds up what is used. A nil Meter adds up nothing.
type Meter struct {
	store    Store
	holdings func() []Holding
	log      *slog.Logger

	mu    sync.Mutex
	slots map[Slot]*Amounts

	stop    chan struct{}
	running sync.WaitGroup
	once    sync.Once
}

// NewMeter starts a meter over a store. What holdings returns is metered as
// memory over time; nil: nothing is held. Close ends the meter.
func NewMeter(store Store, holdings func() []Holding, logger *slog.Logger) *Meter {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	m := &Meter{store: store, holdings: holdings, log: logger, slots: map[Slot]*Amounts{}, stop: make(chan struct{})}
	m.running.Go(m.run)
	return m
}

// Add adds what a key used just now.
func (m *Meter) Add(project, keyID string, amounts Amounts) {
	if m == nil {
		return
	}
	slot := Slot{Project: project, KeyID: keyID, Hour: time.Now().UTC().Truncate(time.Hour)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(slot, amounts)
}

// put adds to a slot; the caller holds mu.
func (m *Meter) put(slot Slot, amounts Amounts) {
	sum := m.slots[slot]
	if sum == nil {
		if len(m.slots) >= maxSlots {
			return
		}
		sum = &Amounts{}
		m.slots[slot] = sum
	}
	sum.add(amounts)
}

// Usage lists what was used, with what is not written yet.
func (m *Meter) Usage(ctx context.Context, filter Filter) ([]Record, error) {
	if m == nil {
		return nil, nil
	}
	if err := m.Flush(ctx); err != nil {
		return nil, err
	}
	return m.store.Usage(ctx, filter)
}

// Flush writes what was added. What the store refuses is kept for the next time.
func (m *Meter) Flush(ctx context.Context) error {
	m.mu.Lock()
	taken := m.slots
	m.slots = map[Slot]*Amounts{}
	m.mu.Unlock()
	if len(taken) == 0 {
		return nil
	}
	records := make([]Record, 0, len(taken))
	for slot, amounts := range taken {
		records = append(records, Record{slot, *amounts})
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := m.store.AddUsage(ctx, records)
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, r := range records {
			m.put(r.Slot, r.Amounts)
		}
	}
	return err
}

func (m *Meter) run() {
	ticks := time.NewTicker(writeEvery)
	defer ticks.Stop()
	last := time.Now()
	for {
		select {
		case <-ticks.C:
		case <-m.stop:
			return
		}
		// By the monotonic clock: one that is set does not change what was
		// used. Nor does a machine that slept count.
		now := time.Now()
		m.hold(min(now.Sub(last), 4*writeEvery))
		last = now
		if err := m.Flush(context.Background()); err != nil {
			m.log.Warn("usage could not be written; the next time tries again", "error", err)
		}
	}
}

// hold adds what was held for a time.
func (m *Meter) hold(since time.Duration) {
	if m.holdings == nil {
		return
	}
	for _, h := range m.holdings() {
		m.Add(h.Project, h.KeyID, Amounts{MemoryMBMS: h.MemoryMB * since.Milliseconds()})
	}
}

// Close writes what is left and ends the meter.
func (m *Meter) Close() error {
	if m == nil {
		return nil
	}
	var err error
	m.once.Do(func() {
		close(m.stop)
		m.running.Wait()
		err = m.Flush(context.Background())
	})
	return err
}
