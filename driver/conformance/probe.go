package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/faas-platform/faas"
)

func probeChecks() []Check {
	return []Check{
		{Name: "probe/answers-everything", UserFacing: true, Run: checkProbe},
		{Name: "probe/honours-its-context", Run: checkProbeCancelled},
		{Name: "image/resolve", UserFacing: true, Run: checkResolve},
		{Name: "image/missing", Run: checkImageMissing},
	}
}

func checkProbe(ctx context.Context, env *Env) error {
	start := time.Now()
	caps := env.Driver.Probe(ctx)
	if took := time.Since(start); took > 35*time.Second {
		return fmt.Errorf("the probe took %v", took)
	}
	if caps.Runtime != env.Driver.Name() || caps.ProbedAt.IsZero() {
		return fmt.Errorf("driver %s was probed as %q at %v", env.Driver.Name(), caps.Runtime, caps.ProbedAt)
	}
	answered := map[faas.Feature]bool{}
	for _, c := range caps.Features {
		if answered[c.Feature] {
			return fmt.Errorf("%s is answered twice", c.Feature)
		}
		answered[c.Feature] = true
		if !c.Available && c.Reason == "" {
			return fmt.Errorf("%s is unavailable without a reason", c.Feature)
		}
	}
	for _, f := range faas.Features() {
		if !answered[f] {
			return fmt.Errorf("the probe does not answer for %s", f)
		}
	}
	return nil
}

func checkProbeCancelled(ctx context.Context, env *Env) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		env.Driver.Probe(ended)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		return fmt.Errorf("a probe whose context has ended goes on for 10 s")
	}
	if caps := env.Driver.Probe(ctx); !caps.Available {
		return fmt.Errorf("after a cancelled probe the runtime is told unavailable: %s", caps.Reason)
	}
	return nil
}

func checkResolve(ctx context.Context, env *Env) error {
	first, err := env.Driver.ResolveImage(ctx, env.Image, nil)
	if err != nil {
		return err
	}
	second, err := env.Driver.ResolveImage(ctx, env.Image, nil)
	if err != nil {
		return err
	}
	if first.Ref != env.Image || first.Digest == "" || first.Digest != second.Digest {
		return fmt.Errorf("image %s is resolved as %+v, then as %+v", env.Image, first, second)
	}
	return nil
}

func checkImageMissing(ctx context.Context, env *Env) error {
	for _, ref := range []string{"127.0.0.1:1/no/such:image", "NOT a reference"} {
		_, err := env.Driver.ResolveImage(ctx, ref, nil)
		err = wantKind("resolve "+ref, err, faas.KindInvalidArgument, faas.KindNotFound, faas.KindUnavailable, faas.KindCapabilityUnavailable)
		if err != nil {
			return err
		}
		spec := env.spec(func(s *faas.Spec) { s.Image = ref })
		_, err = env.Driver.Create(ctx, spec)
		err = wantKind("create from "+ref, err, faas.KindInvalidArgument, faas.KindNotFound, faas.KindUnavailable, faas.KindCapabilityUnavailable)
		if err != nil {
			return err
		}
		if err := env.NothingLeft(ctx, spec.ID); err != nil {
			return err
		}
	}
	return nil
}
