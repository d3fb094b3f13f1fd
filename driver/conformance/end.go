package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/faas-platform/faas/guest"
)

func endChecks() []Check {
	return []Check{
		{Name: "end/timeout", UserFacing: true, Run: checkTimeout},
		{Name: "end/timeout-kills-descendants", UserFacing: true, Run: checkTimeoutKillsDescendants},
		{Name: "end/cancel-kills-descendants", UserFacing: true, Run: checkCancelKillsDescendants},
		{Name: "end/close-kills", Run: checkCloseKills},
		{Name: "end/neighbours-go-on", Run: checkNeighboursGoOn},
		{Name: "end/orphans-are-reaped", Run: checkOrphansReaped},
	}
}

// descendants starts processes that try to outlive their command: a plain
// child, one in a session of its own, one forked twice whose parents are gone,
// and one that ignores every signal that can be ignored. Each carries the
// marker in its arguments. It prints "ready" when all run.
func descendants(marker string) string {
	loop := func(n int) string {
		return fmt.Sprintf(`sh -c "trap \"\" HUP INT TERM; while :; do sleep 0.2; done" %s-%d`, marker, n)
	}
	session := `$(command -v setsid || true)`
	return strings.Join([]string{
		loop(1) + " &",
		session + " " + loop(2) + " </dev/null >/dev/null 2>&1 &",
		"( ( " + session + " " + loop(3) + " </dev/null >/dev/null 2>&1 & ) & )",
		"( " + loop(4) + " & ) &",
		"sleep 0.3; echo ready; while :; do sleep 0.2; done",
	}, "\n")
}

const wantDescendants = 4

// carrying counts the processes with the marker among their arguments.
func (b *box) carrying(ctx context.Context, marker string) (int, error) {
	list, err := b.client.Processes(ctx)
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	n := 0
	for _, p := range list {
		if slices.ContainsFunc(p.Command, func(arg string) bool { return strings.HasPrefix(arg, marker+"-") }) {
			n++
		}
	}
	return n, nil
}

func checkTimeout(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	cmd := guest.Command{Args: []string{"sh", "-c", "echo before; sleep 600"}, Timeout: 300 * time.Millisecond}
	start := time.Now()
	out, err := b.run(ctx, cmd, nil)
	if err != nil {
		return err
	}
	if !out.TimedOut || out.Code != 137 || out.stdout != "before\n" {
		return fmt.Errorf("a command beyond its time-out ended as %+v with stdout %q", out.Exit, out.stdout)
	}
	if took := time.Since(start); took > 10*time.Second {
		return fmt.Errorf("a time-out of 300 ms took %v", took)
	}
	return b.alive(ctx)
}

func checkTimeoutKillsDescendants(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	const marker = "timeout-descendant"
	cmd := guest.Command{Args: []string{"sh", "-c", descendants(marker)}, Timeout: 2 * time.Second}
	run, err := b.start(ctx, cmd)
	if err != nil {
		return err
	}
	defer run.Close()
	if err := b.awaitDescendants(ctx, run, marker); err != nil {
		return err
	}
	exit, err := run.Wait(ctx)
	if err != nil {
		return err
	}
	if !exit.TimedOut {
		return fmt.Errorf("the command ended as %+v, want a time-out", exit)
	}
	return b.noneCarrying(ctx, marker)
}

func (b *box) awaitDescendants(ctx context.Context, run *running, marker string) error {
	if err := run.await(ctx, "ready"); err != nil {
		return err
	}
	n, err := b.carrying(ctx, marker)
	if err != nil {
		return err
	}
	if n < wantDescendants {
		return fmt.Errorf("%d of %d descendants run (stderr %q)", n, wantDescendants, run.stderr.String())
	}
	return nil
}

// noneCarrying waits a short while until no process carries the marker.
func (b *box) noneCarrying(ctx context.Context, marker string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return eventually(ctx, func() error {
		n, err := b.carrying(ctx, marker)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d descendants live on", n)
		}
		return err
	})
}

func checkCancelKillsDescendants(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	const marker = "cancel-descendant"
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	run, err := b.start(runCtx, guest.Command{Args: []string{"sh", "-c", descendants(marker)}})
	if err != nil {
		return err
	}
	defer run.Close()
	if err := b.awaitDescendants(ctx, run, marker); err != nil {
		return err
	}
	cancel()
	if err := b.noneCarrying(ctx, marker); err != nil {
		return err
	}
	return b.alive(ctx)
}

func checkCloseKills(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	const marker = "closed-descendant"
	run, err := b.start(ctx, guest.Command{Args: []string{"sh", "-c", descendants(marker)}})
	if err != nil {
		return err
	}
	if err := b.awaitDescendants(ctx, run, marker); err != nil {
		run.Close() //nolint:errcheck // the first error counts
		return err
	}
	if err := run.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return b.noneCarrying(ctx, marker)
}

// checkNeighboursGoOn ends one command by its time-out beside another.
func checkNeighboursGoOn(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	run, err := b.start(ctx, guest.Command{Args: []string{"sh", "-c", "echo ready; read line; echo got $line"}, Stdin: true})
	if err != nil {
		return err
	}
	defer run.Close()
	if err := run.await(ctx, "ready\n"); err != nil {
		return err
	}
	out, err := b.run(ctx, guest.Command{Args: []string{"sleep", "600"}, Timeout: 100 * time.Millisecond}, nil)
	if err != nil {
		return err
	}
	if !out.TimedOut {
		return fmt.Errorf("the neighbour ended as %+v, want a time-out", out.Exit)
	}
	if _, err := run.Stdin.Write([]byte("it\n")); err != nil {
		return fmt.Errorf("write to the command that goes on: %w", err)
	}
	return run.await(ctx, "got it\n")
}

func checkOrphansReaped(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.expect(ctx, "i=0; while [ $i -lt 20 ]; do ( sleep 0.05 & ) ; i=$((i+1)); done; echo started", "started"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return eventually(ctx, func() error {
		list, err := b.client.Processes(ctx)
		if err != nil {
			return err
		}
		for _, p := range list {
			// By name: a test double shows the machine's own processes too.
			if p.State == "Z" && strings.Contains(strings.Join(p.Command, " "), "sleep") {
				return fmt.Errorf("process %d (parent %d, %q) stays a zombie", p.PID, p.PPID, p.Command)
			}
		}
		return nil
	})
}
