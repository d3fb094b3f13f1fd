package executor

import (
	"cmp"
	"io"
	"reflect"
	"sync"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/meta"
)

// outputs receive the two streams of a command. They are what the result and
// the record keep of them and, while the command runs, its log (logs.go).
type outputs struct {
	stdout, stderr capture
	log            log
}

func (o *outputs) open(req faas.Request) {
	o.log.mu.Lock()
	defer o.log.mu.Unlock()
	o.stdout.open(&o.log, stdoutStream, req.Stdout, req.OutputLimit)
	o.stderr.open(&o.log, stderrStream, req.Stderr, req.OutputLimit)
	if req.Stdout != nil && req.Stderr != nil && sameWriter(req.Stdout, req.Stderr) {
		var mu sync.Mutex
		o.stdout.shared, o.stderr.shared = &mu, &mu
	}
}

// failed returns why the caller's writers could not be written; nil when they
// could.
func (o *outputs) failed() error { return cmp.Or(o.stdout.failed, o.stderr.failed) }

func sameWriter(a, b io.Writer) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.TypeOf(a).Comparable() && a == b
}

// capture passes a stream on and keeps its first bytes: what the result
// carries or, where the stream has a reader, what the record keeps.
type capture struct {
	log       *log
	stream    int       // of the log
	to        io.Writer // nil: the result carries the stream
	limit     int
	buffer    []byte // guarded by log.mu, as is truncated
	truncated bool
	failed    error       // why to could not be written
	shared    *sync.Mutex // not nil: to is the other stream's as well
}

func (c *capture) open(l *log, stream int, to io.Writer, limit int64) {
	c.log, c.stream, c.to, c.limit = l, stream, to, int(limit)
	if to != nil {
		c.limit = meta.MaxOutput
	}
}

// Write implements io.Writer. Once what is kept is full the rest is dropped,
// and the command goes on.
func (c *capture) Write(p []byte) (int, error) {
	c.log.mu.Lock()
	keep := min(len(p), c.limit-len(c.buffer))
	c.buffer = append(c.buffer, p[:keep]...)
	if keep < len(p) {
		c.truncated = true
	}
	c.log.wrote(c, p, keep)
	c.log.mu.Unlock()
	if c.to == nil {
		return len(p), nil
	}
	if c.shared != nil {
		c.shared.Lock()
		defer c.shared.Unlock()
	}
	n, err := c.to.Write(p)
	if err != nil {
		c.failed = err
	}
	return n, err
}

// result returns what the Result carries of the stream.
func (c *capture) result() (data []byte, truncated bool) {
	if c.to != nil {
		return nil, false
	}
	return c.buffer, c.truncated
}

// kept returns what was kept of the stream, for the record.
func (c *capture) kept() []byte { return c.buffer }
