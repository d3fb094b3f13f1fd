package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

func recoveryChecks() []Check {
	recover := []faas.Feature{faas.FeatureRecover}
	return []Check{
		{Name: "recovery/handle", Features: recover, UserFacing: true, Run: checkHandle},
		{Name: "recovery/destroy-recovered", Features: recover, Run: checkDestroyRecovered},
		{Name: "recovery/paused", Features: []faas.Feature{faas.FeatureRecover, faas.FeaturePause}, Run: checkRecoverPaused},
		{Name: "recovery/bad-handle", Run: checkBadHandle},
		{Name: "recovery/sweep", Features: recover, UserFacing: true, Run: checkSweep},
		{Name: "recovery/sweep-spares-the-living", Run: checkSweepSparesLiving},
	}
}

// reopened gives a second driver of the installation for the time of f, as a
// daemon that was started again has one.
func (e *Env) reopened(ctx context.Context, f func(driver.Driver) error) (err error) {
	if e.Open == nil {
		return skipError("no way to open the driver a second time was given")
	}
	d, err := e.Open(ctx)
	if err != nil {
		return fmt.Errorf("open the driver again: %w", err)
	}
	defer func() {
		if closeErr := d.Close(); closeErr != nil {
			err = errors.Join(err, fmt.Errorf("close the second driver: %w", closeErr))
		}
	}()
	return f(d)
}

// stored returns the handle as it comes back from storage.
func stored(h driver.Handle) (driver.Handle, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return driver.Handle{}, fmt.Errorf("store the handle: %w", err)
	}
	var back driver.Handle
	err = json.Unmarshal(text, &back)
	return back, err
}

// checkHandle recovers a sandbox with a running command by a second driver.
// The command is not disturbed, and what was written is there.
func checkHandle(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	run, err := b.ticking(ctx)
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the command is killed
	if err := b.write(ctx, "/tmp/kept", "kept", guest.WriteOptions{}); err != nil {
		return err
	}
	h, err := stored(b.Handle())
	if err != nil {
		return err
	}
	if h.Runtime != env.Driver.Name() || h.ID != b.ID() {
		return fmt.Errorf("the handle of %s on %s says %s on %s", b.ID(), env.Driver.Name(), h.ID, h.Runtime)
	}
	return env.reopened(ctx, func(d driver.Driver) error {
		again, err := d.Recover(ctx, h)
		if err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		other := &box{Sandbox: again, client: connect(again, again.Channel().Secret)}
		defer other.client.Close() //nolint:errcheck // the check is done with it
		return firstError(
			func() error { return other.wantFile(ctx, "/tmp/kept", 0, -1, "kept") },
			func() error { return other.alive(ctx) },
			func() error { _, err := other.Stats(ctx); return err },
			func() error { return run.await(ctx, "tick\ntick\n") },
			func() error { return b.alive(ctx) },
		)
	})
}

// checkDestroyRecovered destroys by the second driver; the first one's view
// of the sandbox ends too.
func checkDestroyRecovered(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	h, err := stored(b.Handle())
	if err != nil {
		return err
	}
	return env.reopened(ctx, func(d driver.Driver) error {
		again, err := d.Recover(ctx, h)
		if err != nil {
			return err
		}
		waited := make(chan error, 1)
		go func() { waited <- again.Wait(ctx) }()
		if err := again.Destroy(ctx); err != nil {
			return err
		}
		if err := <-waited; err != nil {
			return fmt.Errorf("Wait of a recovered sandbox: %w", err)
		}
		return firstError(
			func() error { return env.gone(ctx, &box{Sandbox: again}) },
			func() error { return b.Destroy(ctx) },
			func() error { return env.gone(ctx, b) },
		)
	})
}

func checkRecoverPaused(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	p, err := b.pauser()
	if err != nil {
		return err
	}
	if err := p.Pause(ctx); err != nil {
		return err
	}
	return env.reopened(ctx, func(d driver.Driver) error {
		again, err := d.Recover(ctx, b.Handle())
		if err != nil {
			return fmt.Errorf("recover a paused sandbox: %w", err)
		}
		resumer, ok := again.(driver.Pauser)
		if !ok {
			return fmt.Errorf("a recovered sandbox is a %T and no driver.Pauser", again)
		}
		if err := resumer.Resume(ctx); err != nil {
			return fmt.Errorf("resume a recovered sandbox: %w", err)
		}
		other := &box{Sandbox: again, client: connect(again, again.Channel().Secret)}
		defer other.client.Close() //nolint:errcheck // the check is done with it
		return other.alive(ctx)
	})
}

func checkBadHandle(ctx context.Context, env *Env) error {
	name := env.Driver.Name()
	never := faas.NewID(faas.PrefixSandbox)
	for what, h := range map[string]driver.Handle{
		"an unknown id":     {Runtime: name, ID: never},
		"empty data":        {Runtime: name, ID: never, Data: json.RawMessage(`{}`)},
		"garbage":           {Runtime: name, ID: never, Data: json.RawMessage(`{"dir": 17, "pid": "x"`)},
		"a path for an id":  {Runtime: name, ID: "../../etc"},
		"another's runtime": {Runtime: "other", ID: never},
	} {
		_, err := env.Driver.Recover(ctx, h)
		if err := wantKind("recover "+what, err, faas.KindNotFound, faas.KindInvalidArgument); err != nil {
			return err
		}
	}
	return nil
}

// checkSweep has a second driver, which knows of no sandbox, keep one of two
// that the first made and then closed.
func checkSweep(ctx context.Context, env *Env) error {
	if env.Open == nil {
		return skipError("no way to open the driver a second time was given")
	}
	first, err := env.Open(ctx)
	if err != nil {
		return err
	}
	kept, err := env.createWith(ctx, first, env.spec())
	if err != nil {
		return errors.Join(err, first.Close())
	}
	lost, err := env.createWith(ctx, first, env.spec())
	if err != nil {
		return errors.Join(err, first.Close())
	}
	kept.client.Close() //nolint:errcheck // it is recovered below
	if err := first.Close(); err != nil {
		return fmt.Errorf("close the first driver: %w", err)
	}
	return env.reopened(ctx, func(d driver.Driver) error {
		removed, err := d.Sweep(ctx, func(id string) bool { return id != lost.ID() })
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		if !slices.Contains(removed, lost.ID()) || slices.Contains(removed, kept.ID()) {
			return fmt.Errorf("sweep removed %q, want %s and not %s", removed, lost.ID(), kept.ID())
		}
		if err := env.NothingLeft(ctx, lost.ID()); err != nil {
			return err
		}
		again, err := d.Recover(ctx, kept.Handle())
		if err != nil {
			return fmt.Errorf("recover what sweep kept: %w", err)
		}
		other := &box{Sandbox: again, client: connect(again, again.Channel().Secret)}
		defer other.client.Close() //nolint:errcheck // the check is done with it
		if err := other.alive(ctx); err != nil {
			return err
		}
		return again.Destroy(ctx)
	})
}

// checkSweepSparesLiving sweeps while Create runs in the same driver: what is
// being made is not a leftover.
func checkSweepSparesLiving(ctx context.Context, env *Env) error {
	type creation struct {
		box *box
		err error
	}
	ids := make(chan string, 1)
	done := make(chan creation, 1)
	go func() {
		spec := env.spec()
		ids <- spec.ID
		b, err := env.createWith(ctx, env.Driver, spec)
		done <- creation{b, err}
	}()
	own := <-ids
	sweep := func() error {
		removed, err := env.Driver.Sweep(ctx, func(id string) bool { return id != own })
		if err == nil && slices.Contains(removed, own) {
			err = fmt.Errorf("a sandbox was swept away while its driver made it")
		}
		return err
	}
	var swept error
	for {
		select {
		case c := <-done:
			if err := errors.Join(c.err, swept); err != nil {
				return err
			}
			return c.box.alive(ctx)
		case <-time.After(2 * time.Millisecond):
			swept = errors.Join(swept, sweep())
		}
	}
}
