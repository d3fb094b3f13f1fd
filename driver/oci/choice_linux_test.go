package oci

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver/pidfd"
)

// unable is a launcher that a machine has no use for. It counts its attempts.
type unable struct {
	launcher
	tried int
}

func (u *unable) start(context.Context, *plan) (*pidfd.Handle, error) {
	u.tried++
	return nil, errors.New("clone is forbidden here")
}

// delayed is the builtin launcher under another name, and slower.
type delayed struct {
	builtin
	named   string
	by      time.Duration
	started int
}

func (d *delayed) name() string { return d.named }

func (d *delayed) start(ctx context.Context, p *plan) (*pidfd.Handle, error) {
	d.started++
	select {
	case <-time.After(d.by):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return d.builtin.start(ctx, p)
}

func TestAutoTakesTheBuiltinLauncher(t *testing.T) {
	n := newNative(t, "")
	c := n.Probe(t.Context())
	if !c.Available {
		notHere(t, c.Reason)
	}
	if !strings.Contains(c.Detail, "launcher builtin,") {
		t.Errorf("the probe tells %q", c.Detail)
	}
}

func TestAutoMeasuresTheProgramsWhereBuiltinFails(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP native all: the programs' launchers need root")
	}
	for _, name := range []string{LauncherCrun, LauncherRunc} {
		if _, err := exec.LookPath(name); err != nil {
			notHere(t, name+" is not installed")
		}
	}
	n := newNative(t, LauncherAuto)
	broken := &unable{launcher: n.choice.builtin}
	n.choice.builtin = broken
	c := n.Probe(t.Context())
	if !c.Available {
		t.Fatalf("%s (%s)", c.Reason, c.Remedy)
	}
	for _, want := range []string{"builtin does not work", "clone is forbidden here", "crun: ", "runc: ", " ms"} {
		if !strings.Contains(c.Detail, want) {
			t.Errorf("the probe tells %q, without %q", c.Detail, want)
		}
	}
	t.Log(c.Detail)
	kept, ok := n.keptChoice(n.choiceKey())
	if !ok || !strings.Contains(c.Detail, "launcher "+kept.Launcher+" ") {
		t.Errorf("kept is %+v (%v), told %q", kept, ok, c.Detail)
	}
	s := create(t, n, testSpec())
	if s.record.Launcher != kept.Launcher {
		t.Errorf("a sandbox was started with %s, not %s", s.record.Launcher, kept.Launcher)
	}
	if out, code := run(t, s, "echo $GREETING"); out != "hello" || code != 0 {
		t.Errorf("%q, exit code %d", out, code)
	}
	if broken.tried != 1 {
		t.Errorf("builtin was tried %d times", broken.tried)
	}
	// The next process reads what this one found out.
	n.choice.chosen, n.choice.why = nil, ""
	if l, err := n.launcherFor(t.Context()); err != nil || l.name() != kept.Launcher || broken.tried != 1 {
		t.Errorf("%v, %v after %d attempts", l, err, broken.tried)
	}
}

func TestTheFasterProgramIsTaken(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP native all: a sandbox is made for root here")
	}
	n := newNative(t, "")
	if c := n.Probe(t.Context()); !c.Available {
		notHere(t, c.Reason)
	}
	n.forgetLauncher()
	n.choice.builtin = &unable{launcher: n.choice.builtin}
	starts := map[string]*delayed{}
	n.choice.program = func(name string) (launcher, error) {
		if starts[name] == nil {
			starts[name] = &delayed{builtin: builtin{n.spawner}, named: name, by: map[string]time.Duration{LauncherCrun: 200 * time.Millisecond}[name]}
		}
		return starts[name], nil
	}
	l, err := n.launcherFor(t.Context())
	if err != nil || l.name() != LauncherRunc {
		t.Fatalf("%v, %v", l, err)
	}
	for name, s := range starts {
		if s.started != comparedStarts+1 {
			t.Errorf("%s was started %d times", name, s.started)
		}
	}
}

func TestNoLauncherWorks(t *testing.T) {
	n := newNative(t, "")
	n.choice.builtin = &unable{launcher: n.choice.builtin}
	n.choice.program = func(name string) (launcher, error) { return nil, errors.New(name + " is not installed") }
	c := n.Probe(t.Context())
	if c.Available || !strings.Contains(c.Reason, "clone is forbidden here") {
		t.Errorf("%+v", c)
	}
	if _, err := os.Stat(filepath.Join(n.opts.Dir, choiceFile)); err == nil {
		t.Error("a choice is kept though there is none")
	}
}

func TestAKeptChoiceEndsWithWhatItDependsOn(t *testing.T) {
	n := newNative(t, "")
	if err := n.keepChoice(choice{Launcher: LauncherRunc, For: "another machine start"}); err != nil {
		t.Fatal(err)
	}
	if _, ok := n.keptChoice(n.choiceKey()); ok {
		t.Error("what held before the machine's start is taken for true")
	}
}

func TestUnknownLauncherIsRefused(t *testing.T) {
	n := newNative(t, "")
	_, err := NewNative(Options{Dir: t.TempDir(), Images: n.images, Launcher: "docker"})
	if faas.KindOf(err) != faas.KindInvalidArgument {
		t.Errorf("%v", err)
	}
}

// A program's processes are nobody on the host and must reach their root.
func TestProgramNeedsAWayToTheDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP native all: the programs' launchers need root")
	}
	if _, err := exec.LookPath(LauncherCrun); err != nil {
		notHere(t, LauncherCrun+" is not installed")
	}
	n := newNative(t, LauncherCrun)
	if err := os.Chmod(filepath.Dir(n.opts.Dir), 0o700); err != nil {
		t.Fatal(err)
	}
	c := n.Probe(t.Context())
	if c.Available || !strings.Contains(c.Reason, "cannot pass through "+filepath.Dir(n.opts.Dir)) || !strings.Contains(c.Remedy, "chmod o+x") {
		t.Errorf("%+v", c)
	}
}
