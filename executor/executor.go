// Package executor runs requests: it chooses a runtime, owns the lifecycle of
// sandboxes and executions, and keeps the record of both. It is a library: a
// program that embeds it needs no gateway.
//
// One request passes these stages: validation and defaults (validate.go),
// admission (admission.go), the choice of a runtime (selection.go), the record
// of its begin, a sandbox of its own, warm or new (sandbox.go), the command
// (command.go), its outcome (outcome.go), the record of its end. Destroying
// the sandbox comes after the answer (reaper.go).
//
// A sandbox may start from a saved state (origin.go, restore.go), leave one
// (snapshots.go), or live on as an instance (instance.go, create.go,
// lifecycle.go, resident.go), which the next process finds again (adopt.go).
package executor

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/internal/meta"
	"github.com/faas-platform/faas/pool"
	"github.com/faas-platform/faas/snapshot"
)

// Options configures an Executor. The zero value of every field but DataDir
// and Drivers is usable.
type Options struct {
	DataDir   string          // durable state; made when missing
	Drivers   []driver.Driver // what this installation can isolate with; the executor closes them
	Policy    Policy
	Default   Defaults
	Admission Admission
	Retention Retention
	Pools     []faas.PoolRequest
	Pooling   Pooling
	// MaxInstances bounds the instances that run or are paused at once. 0: 512.
	MaxInstances int
	Tiers        Tiers
	Transfer     Transfer
	Cache        Cache
	Logger       *slog.Logger // nil: discard
}

// Policy restricts and orders the runtimes that `auto` and requests may use.
type Policy struct {
	Allowed []faas.Runtime // empty: all
	Order   []faas.Runtime // empty: faas.Runtimes()
	// MinIsolation refuses weaker ones: process (docker, native without a user
	// namespace), userns, sandboxed kernel (gvisor), vm. Empty: any.
	MinIsolation Isolation
}

// Isolation orders runtimes by what stands between a sandbox and the host.
type Isolation string

// Weakest first.
const (
	IsolationProcess Isolation = "process"
	IsolationUserNS  Isolation = "userns"
	IsolationKernel  Isolation = "kernel"
	IsolationVM      Isolation = "vm"
)

// Defaults fill the fields that a request leaves empty.
type Defaults struct {
	Image     string         // faas.HostImage when empty
	Resources faas.Resources // 1 core, 512 MiB memory, 256 MiB disk, 256 pids when zero
	Timeout   time.Duration  // 5 minutes when 0
}

// Retention bounds the record of ended executions; the oldest go first.
type Retention struct {
	Age   time.Duration // 0: 30 days
	Count int           // 0: 100,000
	Bytes int64         // of commands and results, kept output included; 0: 512 MiB
	// ResultBytes bounds the results that mode cached keeps; 0: 512 MiB.
	ResultBytes int64
}

// Bounds in time of what the executor does by itself.
const (
	sweepTimeout   = 30 * time.Second
	destroyTimeout = 30 * time.Second
	// closeTimeout is how long Close goes on after its context ended, to
	// remove what is left.
	closeTimeout = 30 * time.Second
	// maxResidents bounds the commands in instances and what is done to them
	// at one time.
	maxResidents = 4096
)

// Executor runs requests.
type Executor struct {
	opts    Options
	log     *slog.Logger
	store   *meta.Store
	drivers map[faas.Runtime]driver.Driver
	probes  *probes
	images  *images
	gate    *gate
	// residents admits what happens to instances: it only counts.
	residents *gate
	instances *instances
	snapshots *snapshot.Store
	expiry    *expiry
	tiers     *tiers
	events    *events
	streams   *streams
	ports     *ports
	ghosts    ghosts
	cache     *cache
	pool      *pool.Pool
	reaper    *reaper
	live      *live
	counters  counters
	pooled    chan struct{} // closed when the configured pools are asked for

	poolFile    sync.Mutex // of poolsFile
	poolMu      sync.Mutex
	poolSources map[pool.Class]string

	ctx       context.Context // of the executor's own tasks; ended by Close
	stop      context.CancelFunc
	tasks     sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

type counters struct {
	requests, coldStarts, poolHits, lost   atomic.Int64
	missTime                               atomic.Int64 // ns
	restores, snapshots, cacheHits, misses atomic.Int64
}

// New opens the data directory, recovers what an earlier process left in it
// and starts the pools. It does not wait for probes or for warm sandboxes.
func New(ctx context.Context, opts Options) (*Executor, error) {
	opts = opts.withDefaults()
	drivers, err := indexDrivers(opts)
	if err != nil {
		return nil, err
	}
	store, err := meta.Open(ctx, opts.DataDir, meta.Options{Retention: meta.Retention(opts.Retention), Logger: opts.Logger})
	if err != nil {
		return nil, err
	}
	e := &Executor{
		opts: opts, log: opts.Logger, store: store, drivers: drivers,
		gate: newGate(opts.Admission), residents: newGate(Admission{Concurrent: maxResidents}),
		instances: newInstances(), expiry: newExpiry(), events: newEvents(), streams: newStreams(), ports: newPorts(), tiers: newTiers(), live: newLive(), pooled: make(chan struct{}),
		poolSources: map[pool.Class]string{},
	}
	e.counters.lost.Store(int64(store.Recovered().Lost))
	e.snapshots, err = snapshot.Open(filepath.Join(opts.DataDir, "snapshots"), snapshot.Options{Logger: opts.Logger, Cold: opts.Tiers.Cold, Forget: e.forgetState})
	if err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		return nil, errors.Join(err, store.Close(closing))
	}
	e.ctx, e.stop = context.WithCancel(context.Background())
	e.cache = newCache(opts.Cache, store, opts.Logger)
	e.reaper = newReaper(opts.Logger)
	keep, err := e.adoptInstances(ctx)
	if err != nil {
		e.log.Error("the instances of dead processes are left alone", "error", err)
	} else {
		e.sweep(ctx, keep)
		e.sweepStates(ctx, keep)
	}
	e.probes = newProbes(e.ctx, opts.Drivers, &probeCache{store: store, log: opts.Logger})
	e.images = newImages(drivers)
	e.pool = e.newPool()
	e.probes.begin()
	e.tasks.Go(e.startPools)
	e.tasks.Go(e.keepTime)
	e.tasks.Go(e.forgetOtherStates)
	e.tasks.Go(e.keepTiers)
	return e, nil
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Default = o.Default.withDefaults()
	if o.MaxInstances <= 0 {
		o.MaxInstances = 512
	}
	o.Cache = o.Cache.withDefaults()
	o.Tiers, o.Transfer = o.Tiers.withDefaults(), o.Transfer.withDefaults()
	o.Admission = o.Admission.withDefaults(o.Default.Resources.MemoryMB)
	return o
}

func indexDrivers(opts Options) (map[faas.Runtime]driver.Driver, error) {
	if opts.DataDir == "" || !filepath.IsAbs(opts.DataDir) {
		return nil, faas.InvalidField("data_dir", "%q is not an absolute path", opts.DataDir)
	}
	if err := opts.Policy.validate(); err != nil {
		return nil, err
	}
	drivers := make(map[faas.Runtime]driver.Driver, len(opts.Drivers))
	for _, d := range opts.Drivers {
		if drivers[d.Name()] != nil {
			return nil, faas.Errorf(faas.KindInvalidArgument, "two drivers for the runtime %s", d.Name())
		}
		drivers[d.Name()] = d
	}
	return drivers, nil
}

// sweep lets every driver remove what dead processes left and no instance
// holds, all at once. What fails is logged: a runtime that is not there cannot
// be swept either.
func (e *Executor) sweep(ctx context.Context, kept map[string]bool) {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	var sweeps sync.WaitGroup
	for _, d := range e.drivers {
		sweeps.Go(func() {
			removed, err := d.Sweep(ctx, func(id string) bool { return kept[id] })
			switch {
			case errors.Is(err, faas.ErrUnavailable):
				e.log.Info("a runtime that cannot be reached was not swept", "runtime", d.Name(), "reason", err)
			case err != nil:
				e.log.Warn("sweeping leftovers failed", "runtime", d.Name(), "error", err)
			}
			if len(removed) > 0 {
				e.log.Info("removed the sandboxes of dead processes", "runtime", d.Name(), "sandboxes", removed)
			}
		})
	}
	sweeps.Wait()
}

// Runtimes probes every driver (cached for a minute; refresh forces) and
// returns the answers in the order of faas.Runtimes.
func (e *Executor) Runtimes(ctx context.Context, refresh bool) []faas.Capabilities {
	return e.probes.all(ctx, refresh)
}

// Stats counts what the executor did since it started.
type Stats struct {
	Requests   int64 // executions begun
	Running    int64
	Queued     int64 // waiting to be admitted
	Dying      int64 // sandboxes being destroyed behind the answer
	PoolHits   int64
	ColdStarts int64         // executions that found no warm sandbox
	MissTime   time.Duration // that those took to have one made, in all
	Lost       int64         // executions of dead processes, found at the start
	// DestroyFailed counts the sandboxes that could not be removed; the next
	// start tries again.
	DestroyFailed int64
	Pools         []pool.Status

	Instances   int64 // of this process, in any status
	Snapshots   int64 // taken
	Restores    int64 // sandboxes made of one
	CacheHits   int64
	CacheMisses int64
}

// Stats returns the counters.
func (e *Executor) Stats() Stats {
	running, queued, dying := e.gate.counts()
	return Stats{
		Requests: e.counters.requests.Load(), Running: running, Queued: queued, Dying: dying,
		PoolHits: e.counters.poolHits.Load(), ColdStarts: e.counters.coldStarts.Load(),
		MissTime: time.Duration(e.counters.missTime.Load()),
		Lost:     e.counters.lost.Load(), DestroyFailed: e.reaper.failed.Load(), Pools: e.pool.Status(),
		Instances: int64(len(e.instances.all())), Snapshots: e.counters.snapshots.Load(), Restores: e.counters.restores.Load(),
		CacheHits: e.counters.cacheHits.Load(), CacheMisses: e.counters.misses.Load(),
	}
}

// Close stops accepting requests, waits for running executions until ctx ends,
// then cancels the rest; it destroys what is ephemeral and closes the drivers.
// Instances live on: the next executor on the data directory finds them.
func (e *Executor) Close(ctx context.Context) error {
	e.closeOnce.Do(func() { e.closeErr = e.close(ctx) })
	return e.closeErr
}

func (e *Executor) close(ctx context.Context) error {
	e.streams.close()
	e.ports.closeAll()
	e.gate.close()
	e.residents.close()
	if errors.Join(e.gate.waitIdle(ctx), e.residents.waitIdle(ctx)) != nil {
		e.live.cancelAll(errClosing)
	}
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var first error
	keep := func(what string, err error) {
		if err == nil {
			return
		}
		e.log.Error("closing the executor", "part", what, "error", err)
		if first == nil {
			first = &faas.Error{Kind: faas.KindOf(err), Op: "close the executor: " + what, Err: err}
		}
	}
	keep("running executions", e.gate.waitIdle(final))
	keep("what happens to instances", e.residents.waitIdle(final))
	e.stop()
	keep("warm sandboxes", e.pool.Close(final))
	keep("leftover sandboxes", e.reaper.close(final))
	keep("probes", e.probes.close(final))
	e.tasks.Wait()
	e.closeInstances()
	keep("cached results", e.cache.close(final))
	keep("snapshots", e.snapshots.Close())
	keep("records", e.store.Close(final))
	for _, d := range e.drivers {
		keep("the "+string(d.Name())+" driver", d.Close())
	}
	return first
}
