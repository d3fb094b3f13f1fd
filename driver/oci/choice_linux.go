package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/faas-platform/faas"
)

const (
	// choiceFile keeps, below Options.Dir, what was found out.
	choiceFile = "launcher.json"
	// comparedStarts are timed of each program, after one that is not: the
	// first reads the program from the disk.
	comparedStarts = 3
)

// choice is the launcher that LauncherAuto stands for on this machine.
type choice struct {
	Launcher string `json:"launcher"`
	Why      string `json:"why,omitempty"` // empty: the first that was tried works
	// For names what the choice depends on; it is made again when that changes.
	For string `json:"for"`
}

// chooser finds the launcher that sandboxes are started with.
type chooser struct {
	fixed   launcher // what Options name; nil: LauncherAuto
	builtin launcher
	// program returns the launcher of crun or runc.
	program func(name string) (launcher, error)

	mu     sync.Mutex
	chosen launcher
	why    string
}

// launcherFor returns the launcher of new sandboxes. With LauncherAuto the
// first call on a machine since its start tries the builtin one and, where
// that does not work, measures the others.
func (n *Native) launcherFor(ctx context.Context) (launcher, error) {
	c := &n.choice
	if c.fixed != nil {
		return c.fixed, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chosen != nil {
		return c.chosen, nil
	}
	key := n.choiceKey()
	if kept, ok := n.keptChoice(key); ok {
		if l, err := c.named(kept.Launcher); err == nil {
			c.chosen, c.why = l, kept.Why
			return l, nil
		}
	}
	l, why, err := n.choose(ctx)
	if err != nil {
		return nil, err
	}
	c.chosen, c.why = l, why
	if err := n.keepChoice(choice{Launcher: l.name(), Why: why, For: key}); err != nil {
		n.log.Warn("the choice of a launcher could not be kept; the next start makes it again", "error", err)
	}
	return l, nil
}

// forgetLauncher has the next launcherFor try anew. It says whether there was
// anything to forget.
func (n *Native) forgetLauncher() bool {
	c := &n.choice
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fixed != nil || c.chosen == nil {
		return false
	}
	c.chosen, c.why = nil, ""
	return ignoreMissing(os.Remove(filepath.Join(n.opts.Dir, choiceFile))) == nil
}

// describe names the launcher and why it is not the builtin one.
func (c *chooser) describe() string {
	if c.fixed != nil {
		return "launcher " + c.fixed.name() + ", as configured"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.chosen == nil:
		return "no launcher"
	case c.why == "":
		return "launcher " + c.chosen.name()
	}
	return "launcher " + c.chosen.name() + " (" + c.why + ")"
}

// named returns the launcher of a record or of a kept choice.
func (c *chooser) named(name string) (launcher, error) {
	if name == LauncherBuiltin {
		return c.builtin, nil
	}
	return c.program(name)
}

// choiceKey names what decides which launchers work, and how fast they are.
func (n *Native) choiceKey() string {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without it the rest must do
	parts := []string{strings.TrimSpace(string(boot)), fmt.Sprint(os.Geteuid()), n.agent.Digest}
	for _, name := range []string{LauncherCrun, LauncherRunc} {
		path, err := exec.LookPath(name)
		if err != nil {
			path = name
		}
		parts = append(parts, stamp(path))
	}
	return strings.Join(parts, "\n")
}

func (n *Native) keptChoice(key string) (choice, bool) {
	var kept choice
	b, err := os.ReadFile(filepath.Join(n.opts.Dir, choiceFile))
	if err != nil || json.Unmarshal(b, &kept) != nil {
		return choice{}, false
	}
	return kept, kept.For == key
}

// keepChoice replaces the file whole: other processes read it meanwhile.
func (n *Native) keepChoice(c choice) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(n.opts.Dir, "."+choiceFile+"-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(n.opts.Dir, choiceFile))
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(tmp.Name())))
	}
	return nil
}

// choose tries the launchers: the builtin one first, which needs no program
// and is several times faster than any; without it the faster of crun and runc.
func (n *Native) choose(ctx context.Context) (l launcher, why string, err error) {
	_, first := n.timed(ctx, n.choice.builtin)
	if first == nil {
		return n.choice.builtin, "", nil
	}
	if ctx.Err() != nil {
		return nil, "", first
	}
	times, said := n.compare(ctx)
	for name, took := range times {
		if l == nil || took < times[l.name()] {
			if l, err = n.choice.program(name); err != nil {
				return nil, "", err
			}
		}
	}
	if l == nil {
		n.log.Warn("no launcher works", "builtin", first, "others", said)
		return nil, "", first
	}
	n.log.Warn("the builtin launcher does not work", "error", first, "instead", l.name())
	return l, fmt.Sprintf("builtin does not work: %v; %s", cause(first), said), nil
}

// compare returns the shortest start of each program that works (what took
// longer was disturbed by something else), and says it in words. The programs
// take turns, so that a busy moment of the machine meets both.
func (n *Native) compare(ctx context.Context) (times map[string]time.Duration, said string) {
	times, failed := map[string]time.Duration{}, map[string]error{}
	names := []string{LauncherCrun, LauncherRunc}
	for round := range 1 + comparedStarts {
		for _, name := range names {
			if failed[name] != nil {
				continue
			}
			took, err := n.timedProgram(ctx, name)
			switch best, measured := times[name]; {
			case err != nil:
				failed[name] = err
				delete(times, name)
			case round == 0: // not counted
			case !measured || took < best:
				times[name] = took
			}
		}
	}
	var words []string
	for _, name := range names {
		if err := failed[name]; err != nil {
			words = append(words, fmt.Sprintf("%s: %v", name, cause(err)))
			continue
		}
		words = append(words, fmt.Sprintf("%s: %.0f ms", name, times[name].Seconds()*1000))
	}
	return times, strings.Join(words, "; ")
}

func (n *Native) timedProgram(ctx context.Context, name string) (time.Duration, error) {
	l, err := n.choice.program(name)
	if err != nil {
		return 0, err
	}
	return n.timed(ctx, l)
}

// cause is what is behind the error of a sandbox that nobody asked for.
func cause(err error) error {
	var e *faas.Error
	if errors.As(err, &e) && e.Err != nil && e.Kind == faas.KindInternal {
		return e.Err
	}
	return err
}

// timed makes a sandbox with a launcher, destroys it, and returns how long the
// making took.
func (n *Native) timed(ctx context.Context, l launcher) (time.Duration, error) {
	begun := time.Now()
	s, err := n.createWith(ctx, l, probeSpec())
	took := time.Since(begun)
	if err != nil {
		return 0, err
	}
	destroy, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := s.Destroy(destroy); err != nil {
		return 0, &faas.Error{Kind: faas.KindOf(err), Op: "try the launcher " + l.name(), Detail: "its sandbox could not be removed", Err: err}
	}
	return took, nil
}
