package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/pool"
)

// Pooling configures the pools as a whole.
type Pooling struct {
	Predict bool          // sizes follow the demand between Min and Max; otherwise all have their Min
	MaxIdle int           // warm sandboxes over all pools; 0: 512
	MaxAge  time.Duration // older ones are replaced; 0: 1 hour
	Refill  int           // sandboxes made at once; 0: one per CPU
	// ReserveMB is the memory that stays free: pools shrink before less is.
	// 0: a tenth of the machine's.
	ReserveMB int64
}

// warmMemoryMB is what a warm sandbox is taken to need, in MiB: what it holds
// before any command runs, and room for one to begin.
const warmMemoryMB = 24

// resolvePatience is how long Prewarm waits for the image's name to be known.
const resolvePatience = 2 * time.Second

// poolsFile keeps, below DataDir, the pools that SetPool asked for.
const poolsFile = "pools.json"

func (e *Executor) newPool() *pool.Pool {
	o := e.opts.Pooling
	return pool.New(poolSource{e}, pool.Options{
		Refill: o.Refill, MaxIdle: o.MaxIdle, MaxAge: o.MaxAge, Predict: o.Predict,
		PrewarmFor: faas.PrewarmPeriod, Room: e.warmRoom(), Logger: e.log,
	})
}

// warmRoom says how many more warm sandboxes the machine has memory for; nil
// where its memory cannot be told.
func (e *Executor) warmRoom() func() int {
	total := totalMemoryMB()
	if _, ok := availableMemoryMB(); !ok || total == 0 {
		return nil
	}
	reserve := e.opts.Pooling.ReserveMB
	if reserve <= 0 {
		reserve = total / 10
	}
	return func() int {
		available, ok := availableMemoryMB()
		if !ok {
			return 0
		}
		room := available - reserve
		if room < 0 {
			room -= warmMemoryMB - 1 // one that does not fit is one too many
		}
		return int(room / warmMemoryMB)
	}
}

// startPools asks the pool for what the options and earlier processes name,
// once the runtimes are known where that needs a choice.
func (e *Executor) startPools() {
	defer close(e.pooled)
	e.applyPools(e.opts.Pools, faas.PoolConfigured)
	kept, err := e.keptPools()
	if err != nil {
		e.log.Error("the pools set by requests are not known any more", "error", err)
	}
	e.applyPools(kept, faas.PoolSet)
}

func (e *Executor) applyPools(pools []faas.PoolRequest, source string) {
	for _, want := range pools {
		class, err := e.poolClass(e.ctx, want)
		if err != nil {
			if e.ctx.Err() == nil {
				e.log.Error("a pool cannot be filled", "image", want.Image, "runtime", want.Runtime, "error", err)
			}
			continue
		}
		e.setPool(class, want, source)
	}
}

func (e *Executor) setPool(class pool.Class, want faas.PoolRequest, source string) {
	e.poolMu.Lock()
	e.poolSources[class] = source
	e.poolMu.Unlock()
	e.pool.Set(class, pool.Bounds{Min: want.Min, Max: want.Max, Priority: want.Priority})
}

// poolClass completes a request for a pool with what executions have.
func (e *Executor) poolClass(ctx context.Context, want faas.PoolRequest) (pool.Class, error) {
	req, err := e.opts.Default.complete(faas.Request{
		Command: []string{"true"}, Image: want.Image, Runtime: want.Runtime, Resources: want.Resources,
	})
	if err != nil {
		return pool.Class{}, err
	}
	candidates, err := e.choose(ctx, req, want.Resources)
	if err != nil {
		return pool.Class{}, err
	}
	return pool.Class{Runtime: candidates[0].driver.Name(), Image: req.Image, Resources: req.Resources}, nil
}

// WaitWarm returns when the configured pools hold as many sandboxes as asked
// for, with the error of one that cannot be filled, or when ctx ends.
func (e *Executor) WaitWarm(ctx context.Context) error {
	select {
	case <-e.pooled:
		return e.pool.WaitReady(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Pools describes the pools of warm sandboxes.
func (e *Executor) Pools() []faas.Pool {
	list := []faas.Pool{}
	for _, s := range e.pool.Status() {
		list = append(list, e.describePool(s))
	}
	return list
}

func (e *Executor) describePool(s pool.Status) faas.Pool {
	source := faas.PoolPrewarmed
	if s.Configured {
		e.poolMu.Lock()
		source = e.poolSources[s.Class]
		e.poolMu.Unlock()
	}
	p := faas.Pool{
		ID: poolID(s.Class), Runtime: s.Class.Runtime, Image: s.Class.Image, Resources: s.Class.Resources,
		Min: s.Bounds.Min, Max: s.Bounds.Max, Priority: s.Bounds.Priority, Source: source,
		Target: s.Target, Why: s.Why, Idle: s.Idle, Making: s.Making, Hits: s.Hits, Misses: s.Misses,
		MissMS: s.MissTime.Milliseconds(), MakeMS: s.MakeTime.Milliseconds(), Aged: s.Aged, OldestMS: s.Oldest.Milliseconds(),
	}
	if s.Err != nil {
		p.Error = s.Err.Error()
	}
	return p
}

// poolID names a class.
func poolID(class pool.Class) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %v", class.Runtime, class.Image, class.Resources))
	return "pool-" + hex.EncodeToString(sum[:8])
}

// pooledAs finds a pool; nil when there is none.
func (e *Executor) pooledAs(class pool.Class) *faas.Pool {
	for _, s := range e.pool.Status() {
		if s.Class == class {
			p := e.describePool(s)
			return &p
		}
	}
	return nil
}

// SetPool sets how many sandboxes of a kind are kept warm. The next process on
// the data directory does so too.
func (e *Executor) SetPool(ctx context.Context, want faas.PoolRequest) (*faas.Pool, error) {
	if want.Max == 0 {
		want.Max = want.Min
	}
	if want.Min < 0 || want.Min > faas.MaxPoolSize {
		return nil, faas.InvalidField("min", "must be 0 to %d", faas.MaxPoolSize)
	}
	if want.Max < want.Min || want.Max > faas.MaxPoolSize {
		return nil, faas.InvalidField("max", "must be min to %d", faas.MaxPoolSize)
	}
	class, err := e.poolClass(ctx, want)
	if err != nil {
		return nil, err
	}
	if _, err := e.images.resolve(ctx, class.Runtime, class.Image); err != nil {
		return nil, err
	}
	want.Runtime, want.Image, want.Resources = class.Runtime, class.Image, class.Resources
	e.poolFile.Lock()
	defer e.poolFile.Unlock()
	err = e.keepPools(func(kept []faas.PoolRequest) []faas.PoolRequest {
		return append(slices.DeleteFunc(kept, sameClass(class)), want)
	})
	if err != nil {
		return nil, err
	}
	e.setPool(class, want, faas.PoolSet)
	if p := e.pooledAs(class); p != nil {
		return p, nil
	}
	return nil, errClosing
}

func sameClass(class pool.Class) func(faas.PoolRequest) bool {
	return func(r faas.PoolRequest) bool {
		return r.Runtime == class.Runtime && r.Image == class.Image && r.Resources == class.Resources
	}
}

// RemovePool removes a pool and destroys its warm sandboxes. One that the
// options name is there again in the next process.
func (e *Executor) RemovePool(_ context.Context, id string) error {
	e.poolFile.Lock()
	defer e.poolFile.Unlock()
	for _, s := range e.pool.Status() {
		if poolID(s.Class) != id {
			continue
		}
		err := e.keepPools(func(kept []faas.PoolRequest) []faas.PoolRequest {
			return slices.DeleteFunc(kept, sameClass(s.Class))
		})
		if err != nil {
			return err
		}
		e.pool.Remove(s.Class)
		return nil
	}
	return faas.Errorf(faas.KindNotFound, "there is no pool %q", clip(id))
}

// Prewarm has sandboxes made ahead of requests, which are kept for
// faas.PrewarmPeriod. It does not wait for them.
func (e *Executor) Prewarm(ctx context.Context, want faas.PoolRequest, count int) (*faas.Pool, error) {
	if count < 1 || count > faas.MaxPrewarm {
		return nil, faas.InvalidField("count", "must be 1 to %d", faas.MaxPrewarm)
	}
	class, err := e.poolClass(ctx, want)
	if err != nil {
		return nil, err
	}
	// An image that must be fetched first is fetched by the pool.
	soon, cancel := context.WithTimeout(ctx, resolvePatience)
	defer cancel()
	if _, err := e.images.resolve(soon, class.Runtime, class.Image); err != nil && (soon.Err() == nil || ctx.Err() != nil) {
		return nil, err
	}
	e.pool.Prewarm(class, count)
	if p := e.pooledAs(class); p != nil {
		return p, nil
	}
	return nil, errClosing
}

// keptPools reads the pools that were set by requests.
func (e *Executor) keptPools() ([]faas.PoolRequest, error) {
	content, err := os.ReadFile(filepath.Join(e.opts.DataDir, poolsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var kept []faas.PoolRequest
	if err == nil {
		err = json.Unmarshal(content, &kept)
	}
	return kept, err
}

// keepPools changes them, whole or not at all.
func (e *Executor) keepPools(change func([]faas.PoolRequest) []faas.PoolRequest) error {
	kept, err := e.keptPools()
	if err != nil {
		return faas.Errorf(faas.KindInternal, "read %s: %w", poolsFile, err)
	}
	content, err := json.Marshal(change(kept))
	if err != nil {
		return faas.Errorf(faas.KindInternal, "encode %s: %w", poolsFile, err)
	}
	path := filepath.Join(e.opts.DataDir, poolsFile)
	if err := errors.Join(os.WriteFile(path+".new", content, 0o600), os.Rename(path+".new", path)); err != nil {
		return faas.Errorf(faas.KindInternal, "keep the pools: %w", err)
	}
	return nil
}
