package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how a pull goes: a bar a step on a terminal, a line at each
// step's begin elsewhere, nothing when quiet.
type progress struct {
	quiet bool
	after time.Time // before, nothing is shown
	mu    sync.Mutex
	bars  *mpb.Progress // nil: no terminal
	steps map[string]*mpb.Bar
}

func newProgress(quiet bool) *progress {
	p := &progress{quiet: quiet, steps: map[string]*mpb.Bar{}}
	if !quiet && term.IsTerminal(int(os.Stderr.Fd())) {
		p.bars = mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(60))
	}
	return p
}

// patience is how long a transfer goes on before its progress is shown.
const patience = time.Second

// newPatientProgress shows what takes long only.
func newPatientProgress(quiet bool) *progress {
	p := newProgress(quiet)
	p.after = time.Now().Add(patience)
	return p
}

// report is a driver.ImageProgress.
func (p *progress) report(step string, done, total int64) {
	if p.quiet || time.Now().Before(p.after) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	bar, known := p.steps[step]
	if p.bars == nil {
		if !known {
			p.steps[step] = nil
			fmt.Fprintln(os.Stderr, shortStep(step))
		}
		return
	}
	if !known {
		bar = p.bars.AddBar(0,
			mpb.PrependDecorators(decor.Name(shortStep(step), decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f")))
		p.steps[step] = bar
	}
	bar.SetTotal(total, total > 0 && done >= total)
	bar.SetCurrent(done)
}

// close ends the display; bars whose size was never known are complete only
// when the pull was.
func (p *progress) close(complete bool) {
	if p.bars == nil {
		return
	}
	p.mu.Lock()
	for _, bar := range p.steps {
		if complete {
			bar.SetTotal(-1, true)
		} else {
			bar.Abort(false)
		}
	}
	p.mu.Unlock()
	p.bars.Wait()
}

// shortStep shortens the digest in a step's name.
func shortStep(step string) string {
	what, digest, ok := strings.Cut(step, " ")
	if !ok {
		return step
	}
	return what + " " + shortDigest(strings.TrimSpace(digest))
}
