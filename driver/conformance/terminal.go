package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

func terminalChecks() []Check {
	pty := []faas.Feature{faas.FeaturePTY}
	return []Check{
		{Name: "terminal/is-one", Features: pty, UserFacing: true, Run: checkTerminal},
		{Name: "terminal/resize", Features: pty, UserFacing: true, Run: checkResize},
		{Name: "terminal/interrupt", Features: pty, Run: checkInterrupt},
		{Name: "terminal/end-of-input", Features: pty, Run: checkTerminalEndOfInput},
		{Name: "terminal/hang-up", Features: pty, Run: checkHangUp},
	}
}

func (b *box) terminal(ctx context.Context, script string) (*running, error) {
	return b.start(ctx, guest.Command{
		Args: []string{"sh", "-c", script}, Stdin: true, TTY: &guest.WindowSize{Cols: 132, Rows: 43},
	})
}

func checkTerminal(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	run, err := b.terminal(ctx, `test -t 0 && test -t 1 && test -t 2 && echo terminal; stty size; echo error >&2; exit 3`)
	if err != nil {
		return err
	}
	defer run.Close()
	exit, err := run.Wait(ctx)
	if err != nil {
		return err
	}
	for _, want := range []string{"terminal\r\n", "43 132\r\n", "error\r\n"} {
		if err := run.await(ctx, want); err != nil {
			return err
		}
	}
	if exit.Code != 3 {
		return fmt.Errorf("exit code %d, want 3", exit.Code)
	}
	return nil
}

func checkResize(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	run, err := b.terminal(ctx, `trap 'echo "window changed"' WINCH; echo ready; while :; do stty size; sleep 0.05; done`)
	if err != nil {
		return err
	}
	defer run.Close()
	if err := run.await(ctx, "ready\r\n43 132\r\n"); err != nil {
		return err
	}
	if err := run.Resize(ctx, guest.WindowSize{Cols: 71, Rows: 19}); err != nil {
		return fmt.Errorf("resize: %w", err)
	}
	if err := run.await(ctx, "window changed\r\n"); err != nil {
		return err
	}
	return run.await(ctx, "19 71\r\n")
}

// checkInterrupt types ^C.
func checkInterrupt(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	run, err := b.terminal(ctx, `trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done`)
	if err != nil {
		return err
	}
	defer run.Close()
	if err := run.await(ctx, "ready\r\n"); err != nil {
		return err
	}
	if _, err := run.Stdin.Write([]byte{3}); err != nil {
		return fmt.Errorf("type ^C: %w", err)
	}
	exit, err := run.Wait(ctx)
	if err != nil {
		return err
	}
	if exit.Code != 9 {
		return fmt.Errorf("after ^C the command ended as %+v, want exit code 9", exit)
	}
	return run.await(ctx, "interrupted\r\n")
}

// checkTerminalEndOfInput types ^D on an empty line.
func checkTerminalEndOfInput(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	run, err := b.terminal(ctx, `echo ready; cat; echo "input ended"`)
	if err != nil {
		return err
	}
	defer run.Close()
	if err := run.await(ctx, "ready\r\n"); err != nil {
		return err
	}
	if _, err := run.Stdin.Write([]byte("line\n\x04")); err != nil {
		return fmt.Errorf("type ^D: %w", err)
	}
	return run.await(ctx, "input ended\r\n")
}

// checkHangUp closes the terminal of a command that ignores being hung up.
func checkHangUp(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	const marker = "hung-up"
	run, err := b.terminal(ctx, fmt.Sprintf(`sh -c 'trap "" HUP; echo ready; while :; do sleep 0.2; done' %s-1`, marker))
	if err != nil {
		return err
	}
	if err := run.await(ctx, "ready\r\n"); err != nil {
		run.Close() //nolint:errcheck // the first error counts
		return err
	}
	closed := make(chan error, 1)
	go func() { closed <- run.Close() }()
	select {
	case err = <-closed:
	case <-time.After(10 * time.Second):
		err = fmt.Errorf("closing a command with a terminal takes longer than 10 s")
	}
	if err != nil {
		return err
	}
	return b.noneCarrying(ctx, marker)
}
