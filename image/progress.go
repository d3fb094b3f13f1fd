package image

import (
	"sync"
	"time"
)

// progressInterval is how often one step is reported at most.
const progressInterval = 50 * time.Millisecond

// reporter calls a progress function from one goroutine at a time, and not
// more often than a display can follow. A nil reporter is silent.
type reporter struct {
	mu   sync.Mutex
	call Progress
	last map[string]time.Time
}

func newReporter(call Progress) *reporter {
	if call == nil {
		return nil
	}
	return &reporter{call: call, last: map[string]time.Time{}}
}

func (r *reporter) report(step string, done, total int64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if done != total && time.Since(r.last[step]) < progressInterval {
		return
	}
	r.last[step] = time.Now()
	r.call(step, done, total)
}

// step returns the report of one step with a known total.
func (r *reporter) step(step string, total int64) func(done int64) {
	if r == nil {
		return func(int64) {}
	}
	return func(done int64) { r.report(step, done, total) }
}

// short is a digest as people recognise it.
func short(digest string) string {
	if len(digest) > 19 {
		return digest[7:19]
	}
	return digest
}
