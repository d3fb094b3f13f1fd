package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

func lifecycleChecks() []Check {
	pause := []faas.Feature{faas.FeaturePause}
	return []Check{
		{Name: "lifecycle/pause-and-resume", Features: pause, UserFacing: true, Run: checkPause},
		{Name: "lifecycle/destroy", UserFacing: true, Run: checkDestroy},
		{Name: "lifecycle/destroy-at-once", Run: checkDestroyAtOnce},
		{Name: "lifecycle/destroy-busy", UserFacing: true, Run: checkDestroyBusy},
		{Name: "lifecycle/destroy-paused", Features: pause, Run: checkDestroyPaused},
		{Name: "lifecycle/agent-ends", Run: checkAgentEnds},
		{Name: "lifecycle/wait-honours-its-context", Run: checkWaitContext},
		{Name: "lifecycle/create-many", Timeout: 2 * time.Minute, Run: checkCreateMany},
		{Name: "lifecycle/create-same-id", Run: checkCreateSameID},
		{Name: "lifecycle/create-cancelled", Timeout: 3 * time.Minute, UserFacing: true, Run: checkCreateCancelled},
	}
}

// pauser returns the sandbox's Pauser, which FeaturePause promises.
func (b *box) pauser() (driver.Pauser, error) {
	p, ok := b.Sandbox.(driver.Pauser)
	if !ok {
		return nil, fmt.Errorf("the probe tells %s available, but a sandbox is a %T and no driver.Pauser", faas.FeaturePause, b.Sandbox)
	}
	return p, nil
}

// ticking starts a command that notes every tenth of a second in a file.
func (b *box) ticking(ctx context.Context) (*running, error) {
	return b.start(ctx, guest.Command{Args: []string{"sh", "-c", "echo ready; while :; do echo tick; sleep 0.1; done"}})
}

func checkPause(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	p, err := b.pauser()
	if err != nil {
		return err
	}
	run, err := b.ticking(ctx)
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the command is killed
	if err := run.await(ctx, "ready\ntick\n"); err != nil {
		return err
	}
	if err := errors.Join(p.Pause(ctx), p.Pause(ctx)); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	if err := pausedStaysStill(ctx, run); err != nil {
		return err
	}
	if err := errors.Join(p.Resume(ctx), p.Resume(ctx)); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	if err := run.await(ctx, "tick\ntick\n"); err != nil {
		return fmt.Errorf("after resume: %w", err)
	}
	return b.alive(ctx)
}

// pausedStaysStill compares the output over a second, once what was on its
// way has arrived.
func pausedStaysStill(ctx context.Context, run *running) error {
	lengths := [2]int{}
	for i := range lengths {
		select {
		case <-time.After(600 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		lengths[i] = len(run.stdout.String())
	}
	if lengths[0] != lengths[1] {
		return fmt.Errorf("a paused command printed %d bytes more", lengths[1]-lengths[0])
	}
	return nil
}

// gone says what the contract promises after Destroy.
func (e *Env) gone(ctx context.Context, b *box) error {
	waitCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := b.Wait(waitCtx); err != nil {
		return fmt.Errorf("Wait after Destroy: %w", err)
	}
	if conn, err := b.Dial(waitCtx); err == nil {
		conn.Close() //nolint:errcheck // it should not be there
		return fmt.Errorf("Dial after Destroy succeeds")
	}
	if _, err := e.Driver.Recover(ctx, b.Handle()); !errors.Is(err, faas.ErrNotFound) {
		return fmt.Errorf("Recover after Destroy: %v, want %s", err, faas.KindNotFound)
	}
	return e.NothingLeft(ctx, b.ID())
}

func checkDestroy(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.alive(ctx); err != nil {
		return err
	}
	waited := make(chan error, 1)
	go func() { waited <- b.Wait(ctx) }()
	for range 3 {
		if err := b.Destroy(ctx); err != nil {
			return fmt.Errorf("destroy: %w", err)
		}
	}
	if err := <-waited; err != nil {
		return fmt.Errorf("Wait while the sandbox is destroyed: %w", err)
	}
	return env.gone(ctx, b)
}

func checkDestroyAtOnce(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := parallel(8, func(int) error { return b.Destroy(ctx) }); err != nil {
		return fmt.Errorf("eight calls of Destroy at once: %w", err)
	}
	return env.gone(ctx, b)
}

func checkDestroyBusy(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	const marker = "destroyed-descendant"
	run, err := b.start(ctx, guest.Command{Args: []string{"sh", "-c", descendants(marker)}})
	if err != nil {
		return err
	}
	if err := b.awaitDescendants(ctx, run, marker); err != nil {
		run.Close() //nolint:errcheck // the first error counts
		return err
	}
	start := time.Now()
	if err := b.Destroy(ctx); err != nil {
		return err
	}
	if took := time.Since(start); took > 15*time.Second {
		return fmt.Errorf("destroying a busy sandbox took %v", took)
	}
	if _, err := run.Wait(ctx); err == nil {
		return fmt.Errorf("a command whose sandbox was destroyed has no error")
	}
	run.Close() //nolint:errcheck // nothing to close is left
	return env.gone(ctx, b)
}

func checkDestroyPaused(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	p, err := b.pauser()
	if err != nil {
		return err
	}
	run, err := b.ticking(ctx)
	if err != nil {
		return err
	}
	if err := p.Pause(ctx); err != nil {
		return err
	}
	if err := b.Destroy(ctx); err != nil {
		return err
	}
	run.Close() //nolint:errcheck // nothing to close is left
	return env.gone(ctx, b)
}

func checkAgentEnds(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.client.Shutdown(ctx); err != nil {
		return fmt.Errorf("shut the agent down: %w", err)
	}
	waitCtx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if err := b.Wait(waitCtx); err != nil {
		return fmt.Errorf("Wait for an agent that was shut down: %w", err)
	}
	if _, err := connect(b.Sandbox, b.Channel().Secret).Hello(waitCtx); err == nil {
		return fmt.Errorf("an agent that was shut down answers")
	}
	if _, err := b.Stats(ctx); err != nil && faas.KindOf(err) == faas.KindInternal {
		return fmt.Errorf("Stats of an ended sandbox: %w", err)
	}
	if err := b.Destroy(ctx); err != nil {
		return err
	}
	return env.gone(ctx, b)
}

func checkWaitContext(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := b.Wait(short); !errors.Is(err, context.DeadlineExceeded) && faas.KindOf(err) != faas.KindDeadlineExceeded {
		return fmt.Errorf("Wait beyond its context: %v, want its error", err)
	}
	return b.alive(ctx)
}

func checkCreateMany(ctx context.Context, env *Env) error {
	return parallel(6, func(i int) error {
		b, err := env.create(ctx)
		if err != nil {
			return err
		}
		want := fmt.Sprintf("number %d", i)
		if err := b.write(ctx, "/tmp/own", want, guest.WriteOptions{}); err != nil {
			return err
		}
		if err := b.expect(ctx, "cat tmp/own", want); err != nil {
			return err
		}
		return b.Destroy(ctx)
	})
}

func checkCreateSameID(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	second, err := env.Driver.Create(ctx, env.spec(func(s *faas.Spec) { s.ID = b.ID() }))
	if err == nil {
		env.adopt(second)
	}
	if err := wantKind("a second sandbox with the id of a first", err, faas.KindConflict); err != nil {
		return err
	}
	return b.alive(ctx)
}

// checkCreateCancelled cancels Create at moments spread over its duration.
func checkCreateCancelled(ctx context.Context, env *Env) error {
	start := time.Now()
	whole, err := env.create(ctx)
	if err != nil {
		return err
	}
	duration := time.Since(start)
	if err := whole.Destroy(ctx); err != nil {
		return err
	}
	const moments = 12
	cancelled := 0
	for i := range moments {
		spec := env.spec()
		createCtx, cancel := context.WithTimeout(ctx, duration*time.Duration(i)/moments)
		made, err := env.Driver.Create(createCtx, spec)
		cancel()
		if err == nil {
			if err := made.Destroy(ctx); err != nil {
				return err
			}
		} else {
			cancelled++
			if err := wantKind("a Create whose context ended", err, faas.KindDeadlineExceeded, faas.KindUnavailable); err != nil {
				return err
			}
		}
		if err := env.NothingLeft(ctx, spec.ID); err != nil {
			return fmt.Errorf("after a Create cancelled at %d/%d of its duration: %w", i, moments, err)
		}
	}
	if cancelled == 0 {
		return fmt.Errorf("none of %d calls of Create noticed that its context had ended", moments)
	}
	return nil
}
