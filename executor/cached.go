package executor

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/meta"
)

// executeCached answers from the cache or runs the request, once for all that
// ask for the same at the same time. What reaches a network is cached only
// when the request asks for it by a key of its own.
func (e *Executor) executeCached(ctx context.Context, x *execution, candidates []candidate) (*faas.Result, error) {
	if x.req.Network.Mode != faas.NetworkNone && x.req.CacheKey == "" {
		return e.executeAdmitted(ctx, x, candidates)
	}
	runtime := candidates[0].driver.Name()
	key, err := e.cacheKey(ctx, x, runtime)
	if err != nil {
		return nil, err
	}
	for alone := false; ; {
		if hit := e.cache.find(ctx, key); hit != nil {
			return e.answerCached(ctx, x, hit)
		}
		if alone {
			// The one that was waited for had no result to keep; neither may
			// this one: nobody waits for another's again.
			return e.fill(ctx, x, key, candidates)
		}
		wait := e.cache.lead(key)
		if wait == nil {
			defer e.cache.land(key)
			if hit := e.cache.find(ctx, key); hit != nil { // by one that has just landed
				return e.answerCached(ctx, x, hit)
			}
			return e.fill(ctx, x, key, candidates)
		}
		select {
		case <-wait:
			alone = true
		case <-ctx.Done():
			return nil, stopped(ctx, "wait for the same execution")
		}
	}
}

// fill runs a request and keeps its result when it succeeded or, where the
// request asks for that, when its command failed by itself.
func (e *Executor) fill(ctx context.Context, x *execution, key string, candidates []candidate) (*faas.Result, error) {
	e.counters.misses.Add(1)
	stdout, stderr := keepBoth(&x.req)
	result, err := e.executeAdmitted(ctx, x, candidates)
	if err != nil || ctx.Err() != nil || result.ExitCode != 0 && !x.req.CacheFailures || result.TimedOut || result.Truncated || len(result.LimitsHit) > 0 ||
		stdout.over() || stderr.over() || result.RuntimeUsed != candidates[0].driver.Name() {
		return result, err
	}
	ttl := x.req.CacheTTL
	if ttl == 0 {
		ttl = e.opts.Cache.TTL
	}
	now := time.Now().UTC()
	kept := *result
	if stdout != nil {
		kept.Stdout = stdout.kept
	}
	if stderr != nil {
		kept.Stderr = stderr.kept
	}
	e.cache.put(meta.CachedResult{Key: key, Project: x.req.Project, CreatedAt: now, ExpiresAt: now.Add(ttl), Result: kept})
	return result, nil
}

// answerCached answers a request with what an earlier one gave.
func (e *Executor) answerCached(ctx context.Context, x *execution, hit *meta.CachedResult) (*faas.Result, error) {
	if err := e.begin(ctx, x, hit.Result.RuntimeUsed); err != nil {
		return nil, err
	}
	e.counters.cacheHits.Add(1)
	result := hit.Result
	result.ID, result.CacheHit, result.Usage, result.SnapshotID = x.req.ID, true, faas.Usage{}, ""
	result.QueuedMS = milliseconds(time.Since(x.arrived))
	x.outputs.open(x.req)
	_, err := x.outputs.stdout.Write(hit.Result.Stdout)
	if err == nil {
		_, err = x.outputs.stderr.Write(hit.Result.Stderr)
	}
	if err != nil {
		return e.end(ctx, x, nil, &faas.Error{Kind: faas.KindUnavailable, Op: "execute", Detail: "the output could not be written", Err: err})
	}
	var cutOut, cutErr bool
	result.Stdout, cutOut = x.outputs.stdout.result()
	result.Stderr, cutErr = x.outputs.stderr.result()
	result.Truncated = cutOut || cutErr
	return e.end(ctx, x, &result, nil)
}

// keeper passes a stream on and keeps all of it, up to a limit.
type keeper struct {
	to    io.Writer
	limit int
	mu    *sync.Mutex // of both streams, which may go to one writer
	kept  []byte
	lost  bool
}

// keepBoth puts keepers before the writers of a request; nil for a stream that
// the result carries.
func keepBoth(req *faas.Request) (stdout, stderr *keeper) {
	mu := new(sync.Mutex)
	if req.Stdout != nil {
		stdout = &keeper{to: req.Stdout, limit: int(req.OutputLimit), mu: mu}
		req.Stdout = stdout
	}
	if req.Stderr != nil {
		stderr = &keeper{to: req.Stderr, limit: int(req.OutputLimit), mu: mu}
		req.Stderr = stderr
	}
	return stdout, stderr
}

// over says whether more came than is kept.
func (k *keeper) over() bool { return k != nil && k.lost }

// Write implements io.Writer.
func (k *keeper) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lost = k.lost || len(k.kept)+len(p) > k.limit; !k.lost {
		k.kept = append(k.kept, p...)
	}
	return k.to.Write(p)
}
