package executor

import (
	"bytes"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/meta"
)

// Cache bounds the results that mode cached keeps. Those on disk are bounded
// by Retention.ResultBytes.
type Cache struct {
	MemoryBytes int64         // of results held in memory; 0: 64 MiB
	TTL         time.Duration // of a result whose request names none; 0: 24 hours
}

const (
	// maxCachedStdin bounds the standard input of a cached execution, which
	// is part of its key, in bytes.
	maxCachedStdin = 16 << 20
	// maxCachedResult is the largest result that is kept, in bytes.
	maxCachedResult = 16 << 20
	// unwrittenResults is how many results may wait for the database; a
	// further one is kept in memory only.
	unwrittenResults = 256
)

func (c Cache) withDefaults() Cache {
	if c.MemoryBytes <= 0 {
		c.MemoryBytes = 64 << 20
	}
	if c.TTL <= 0 {
		c.TTL = 24 * time.Hour
	}
	return c
}

// cache holds successful results: the recent ones in memory, all in the
// database, which is written to by a goroutine of the cache alone.
type cache struct {
	opts  Cache
	store *meta.Store
	log   *slog.Logger

	mu      sync.Mutex
	entries map[string]*list.Element
	recent  *list.List // of *meta.CachedResult, the one used last in front
	bytes   int64
	flights map[string]chan struct{} // keys that an execution is at work on

	unwritten chan meta.CachedResult
	stop      context.CancelFunc
	written   chan struct{} // closed when the writer has ended
}

func newCache(opts Cache, store *meta.Store, log *slog.Logger) *cache {
	ctx, stop := context.WithCancel(context.Background())
	c := &cache{
		opts: opts, store: store, log: log, entries: map[string]*list.Element{}, recent: list.New(),
		flights: map[string]chan struct{}{}, unwritten: make(chan meta.CachedResult, unwrittenResults),
		stop: stop, written: make(chan struct{}),
	}
	go c.write(ctx)
	return c
}

// write carries results into the database, several in one transaction, and
// when the cache is closed what is left.
func (c *cache) write(ctx context.Context) {
	defer close(c.written)
	for {
		var batch []meta.CachedResult
		select {
		case r := <-c.unwritten:
			batch = append(batch, r)
		case <-ctx.Done():
		}
		for more := true; more && len(batch) < unwrittenResults; {
			select {
			case r := <-c.unwritten:
				batch = append(batch, r)
			default:
				more = false
			}
		}
		if len(batch) == 0 {
			return // closed, and nothing is left
		}
		limited, cancel := context.WithTimeout(context.Background(), recordTimeout)
		if err := c.store.PutResults(limited, batch); err != nil {
			c.log.Error("cached results are kept in memory only", "results", len(batch), "error", err)
		}
		cancel()
	}
}

func (c *cache) close(ctx context.Context) error {
	c.stop()
	select {
	case <-c.written:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// find returns the result of a key, nil when there is none.
func (c *cache) find(ctx context.Context, key string) *meta.CachedResult {
	now := time.Now()
	c.mu.Lock()
	if entry := c.entries[key]; entry != nil {
		r := entry.Value.(*meta.CachedResult)
		if r.ExpiresAt.After(now) {
			c.recent.MoveToFront(entry)
			c.mu.Unlock()
			return r
		}
		c.evict(entry)
	}
	c.mu.Unlock()
	r, err := c.store.Result(ctx, key, now)
	if err != nil {
		c.log.Warn("a cached result cannot be read", "error", err)
	}
	if r != nil {
		c.remember(r)
	}
	return r
}

// remember holds a result in memory, in the place of those used least lately.
func (c *cache) remember(r *meta.CachedResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.entries[r.Key]; old != nil {
		c.evict(old)
	}
	if r.Size() > c.opts.MemoryBytes/4 {
		return
	}
	c.entries[r.Key] = c.recent.PushFront(r)
	c.bytes += r.Size()
	for c.bytes > c.opts.MemoryBytes {
		c.evict(c.recent.Back())
	}
}

// evict drops an entry; the caller holds mu.
func (c *cache) evict(entry *list.Element) {
	r := c.recent.Remove(entry).(*meta.CachedResult)
	delete(c.entries, r.Key)
	c.bytes -= r.Size()
}

// put keeps a result.
func (c *cache) put(r meta.CachedResult) {
	if r.Size() > maxCachedResult {
		return
	}
	c.remember(&r)
	select {
	case c.unwritten <- r:
	default:
		c.log.Warn("a cached result is kept in memory only: the database is behind")
	}
}

// lead makes the caller the one who works on a key, or returns a channel that
// is closed when the one who does is done. The caller calls land then.
func (c *cache) lead(key string) (wait <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if flight := c.flights[key]; flight != nil {
		return flight
	}
	c.flights[key] = make(chan struct{})
	return nil
}

func (c *cache) land(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.flights[key])
	delete(c.flights, key)
}

// cacheKey is what stands for a request: all that can change its result.
func (e *Executor) cacheKey(ctx context.Context, x *execution, runtime faas.Runtime) (string, error) {
	req := &x.req
	image, err := e.images.resolve(ctx, runtime, req.Image)
	if err != nil {
		return "", err
	}
	stdin, err := digestStdin(req)
	if err != nil {
		return "", err
	}
	files := make(map[string]string, len(req.Files))
	for name, content := range req.Files {
		files[name] = digestOf(content)
	}
	var snapshot string
	if x.origin != nil {
		snapshot = x.origin.manifest.ID
	}
	form, err := json.Marshal(struct {
		Version                                  int
		Project, Image, Digest, Stdin, Dir, User string
		Runtime                                  faas.Runtime
		Command                                  []string
		Env, Files                               map[string]string
		Resources                                faas.Resources
		Timeout                                  time.Duration
		Network                                  faas.NetworkPolicy
		TTY                                      *faas.TerminalSize
		Snapshot, CacheKey                       string
		Degraded                                 bool
	}{
		1, req.Project, req.Image, image.Digest, stdin, req.WorkingDir, req.User, runtime, req.Command, req.Env, files,
		req.Resources, req.Timeout, req.Network, req.TTY, snapshot, req.CacheKey, req.AllowDegraded,
	})
	if err != nil {
		return "", faas.Errorf(faas.KindInternal, "encode the key of a cached execution: %w", err)
	}
	return digestOf(form), nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// digestStdin reads the standard input, which is the command's afterwards.
func digestStdin(req *faas.Request) (string, error) {
	if req.Stdin == nil {
		return "", nil
	}
	content, err := io.ReadAll(io.LimitReader(req.Stdin, maxCachedStdin+1))
	if err != nil {
		return "", faas.InvalidField("stdin", "cannot be read: %v", err)
	}
	if len(content) > maxCachedStdin {
		return "", &faas.Error{Kind: faas.KindPayloadTooLarge, Op: "execute", Field: "stdin",
			Detail: "mode cached takes at most 16 MiB of standard input", Remedy: "use mode ephemeral"}
	}
	req.Stdin = bytes.NewReader(content)
	return digestOf(content), nil
}
