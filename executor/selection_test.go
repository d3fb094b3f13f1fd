package executor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// capable is a driver of which selection needs the answer to a probe only.
type capable struct {
	driver.Driver
	caps   faas.Capabilities
	probed chan struct{} // when set, Probe waits for it
}

func (c *capable) Name() faas.Runtime { return c.caps.Runtime }

func (c *capable) Probe(ctx context.Context) faas.Capabilities {
	if c.probed != nil {
		select {
		case <-c.probed:
		case <-ctx.Done():
		}
	}
	return c.caps
}

// can is a runtime that does everything but what is named.
func can(runtime faas.Runtime, without ...faas.Feature) *capable {
	caps := faas.Capabilities{Runtime: runtime, Available: true}
	for _, f := range faas.Features() {
		c := faas.Capability{Feature: f, Available: !slices.Contains(without, f)}
		if !c.Available {
			c.Reason, c.Remedy = "no "+string(f)+" on "+string(runtime), "install "+string(f)
		}
		caps.Features = append(caps.Features, c)
	}
	return &capable{caps: caps}
}

func cannot(runtime faas.Runtime) *capable {
	return &capable{caps: faas.Capabilities{Runtime: runtime, Reason: string(runtime) + " is broken", Remedy: "mend " + string(runtime)}}
}

// chooser is an executor with runtimes and a policy and nothing else.
func chooser(t *testing.T, policy Policy, drivers ...*capable) *Executor {
	ctx, stop := context.WithCancel(context.Background())
	var list []driver.Driver
	for _, d := range drivers {
		list = append(list, d)
	}
	e := &Executor{opts: Options{Policy: policy, Default: Defaults{}.withDefaults()}, probes: newProbes(ctx, list, nil)}
	t.Cleanup(func() {
		stop()
		if err := e.probes.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestSelection(t *testing.T) {
	const (
		native, docker, gvisor, fire = faas.RuntimeNative, faas.RuntimeDocker, faas.RuntimeGVisor, faas.RuntimeFirecracker
	)
	memory := func(r *faas.Request) { r.Resources.MemoryMB = 64 }
	degrade := func(r *faas.Request) { r.AllowDegraded = true }
	named := func(runtime faas.Runtime) func(*faas.Request) {
		return func(r *faas.Request) { r.Runtime = runtime }
	}
	tests := map[string]struct {
		policy   Policy
		drivers  []*capable
		request  []func(*faas.Request)
		want     faas.Runtime
		degraded string    // a part of it; empty: not degraded
		kind     faas.Kind // of the refusal
		says     []string  // parts of the refusal
	}{
		"auto takes the strongest":         {drivers: []*capable{can(docker), can(native), can(gvisor)}, want: gvisor},
		"auto passes over what is broken":  {drivers: []*capable{cannot(fire), cannot(gvisor), can(native)}, want: native},
		"the configured order":             {policy: Policy{Order: []faas.Runtime{docker, native}}, drivers: []*capable{can(native), can(docker), can(gvisor)}, want: docker},
		"what the order leaves out is not": {policy: Policy{Order: []faas.Runtime{docker}}, drivers: []*capable{can(native), cannot(docker)}, kind: faas.KindCapabilityUnavailable, says: []string{"docker is broken"}},
		"only the allowed":                 {policy: Policy{Allowed: []faas.Runtime{docker}}, drivers: []*capable{can(native), can(docker)}, want: docker},
		"a named one that is not allowed":  {policy: Policy{Allowed: []faas.Runtime{docker}}, drivers: []*capable{can(native), can(docker)}, request: []func(*faas.Request){named(native)}, kind: faas.KindPermissionDenied},
		"not even degraded":                {policy: Policy{Allowed: []faas.Runtime{docker}}, drivers: []*capable{can(native), can(docker)}, request: []func(*faas.Request){named(native), degrade}, kind: faas.KindPermissionDenied},
		"minimum isolation": {policy: Policy{MinIsolation: IsolationUserNS}, drivers: []*capable{can(native, faas.FeatureUserNamespace), can(docker, faas.FeatureUserNamespace)},
			kind: faas.KindCapabilityUnavailable, says: []string{"native: its isolation is process", "install isolation.userns"}},
		"minimum isolation met":   {policy: Policy{MinIsolation: IsolationKernel, Order: []faas.Runtime{native, gvisor}}, drivers: []*capable{can(native), can(gvisor)}, want: gvisor},
		"never below the minimum": {policy: Policy{MinIsolation: IsolationVM}, drivers: []*capable{can(native), can(gvisor)}, request: []func(*faas.Request){degrade}, kind: faas.KindCapabilityUnavailable},
		"no driver":               {drivers: []*capable{can(native)}, request: []func(*faas.Request){named(fire)}, kind: faas.KindCapabilityUnavailable, says: []string{"no driver"}},
		"a named one":             {drivers: []*capable{can(native), can(gvisor)}, request: []func(*faas.Request){named(native)}, want: native},
		"a named one that is broken": {drivers: []*capable{can(native), cannot(gvisor)}, request: []func(*faas.Request){named(gvisor)},
			kind: faas.KindCapabilityUnavailable, says: []string{"gvisor is broken", "mend gvisor"}},
		"a substitute for the named": {drivers: []*capable{can(native), cannot(gvisor)}, request: []func(*faas.Request){named(gvisor), degrade},
			want: native, degraded: "runtime native instead of gvisor: gvisor is broken"},
		"a limit that is asked for": {drivers: []*capable{can(native), can(gvisor, faas.FeatureLimitMemory)}, request: []func(*faas.Request){memory}, want: native},
		"a limit by default":        {drivers: []*capable{can(native), can(gvisor, faas.FeatureLimitMemory)}, want: gvisor},
		"a limit that nobody has": {drivers: []*capable{can(native, faas.FeatureLimitMemory)}, request: []func(*faas.Request){memory},
			kind: faas.KindCapabilityUnavailable, says: []string{"memory_mb: no limit.memory on native", "install limit.memory"}},
		"without the limit": {drivers: []*capable{can(native, faas.FeatureLimitMemory)}, request: []func(*faas.Request){memory, degrade},
			want: native, degraded: "memory_mb is not enforced: no limit.memory on native"},
		"the named without the limit before another with it": {drivers: []*capable{can(native, faas.FeatureLimitMemory), can(docker)},
			request: []func(*faas.Request){named(native), memory, degrade}, want: native, degraded: "memory_mb"},
		"full before degraded": {drivers: []*capable{can(gvisor, faas.FeatureLimitMemory), can(docker)}, request: []func(*faas.Request){memory, degrade}, want: docker},
		"fewer losses first": {drivers: []*capable{can(gvisor, faas.FeatureLimitMemory, faas.FeatureLimitCPU), can(docker, faas.FeatureLimitMemory)},
			request: []func(*faas.Request){memory, degrade, func(r *faas.Request) { r.Resources.CPUCores = 1 }}, want: docker, degraded: "memory_mb"},
		"network is never given up": {drivers: []*capable{can(native, faas.FeatureNetworkNone)}, request: []func(*faas.Request){degrade},
			kind: faas.KindCapabilityUnavailable, says: []string{"network none"}},
		"an OCI image": {drivers: []*capable{can(native), can(gvisor, faas.FeatureOCIImage)}, request: []func(*faas.Request){func(r *faas.Request) { r.Image = "python:3" }}, want: native},
		"the host image": {drivers: []*capable{can(native, faas.FeatureHostImage), can(docker, faas.FeatureHostImage)},
			kind: faas.KindCapabilityUnavailable, says: []string{"native: image host", "docker: image host"}},
		"a terminal": {drivers: []*capable{can(native), can(gvisor, faas.FeaturePTY)}, request: []func(*faas.Request){func(r *faas.Request) { r.TTY = &faas.TerminalSize{} }}, want: native},
		"egress":     {drivers: []*capable{can(native), can(gvisor, faas.FeatureNetworkEgress)}, request: []func(*faas.Request){func(r *faas.Request) { r.Network.Mode = faas.NetworkEgress }}, want: native},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := chooser(t, test.policy, test.drivers...)
			req := faas.Request{Command: []string{"true"}}
			for _, change := range test.request {
				change(&req)
			}
			asked := req.Resources
			req, err := e.opts.Default.complete(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.choose(t.Context(), req, asked)
			if test.kind != "" {
				if faas.KindOf(err) != test.kind {
					t.Fatalf("got %v, %v, want %s", got, err, test.kind)
				}
				for _, part := range test.says {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q does not say %q", err, part)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got[0].driver.Name() != test.want {
				t.Errorf("chose %s, want %s", got[0].driver.Name(), test.want)
			}
			if (got[0].degraded == "") != (test.degraded == "") || !strings.Contains(got[0].degraded, test.degraded) {
				t.Errorf("degraded: %q, want %q", got[0].degraded, test.degraded)
			}
		})
	}
}

// A runtime whose probe hangs holds up nobody who does not need it.
func TestSelectionWaitsOnlyForWhatItNeeds(t *testing.T) {
	slow := can(faas.RuntimeDocker)
	slow.probed = make(chan struct{})
	defer close(slow.probed)
	e := chooser(t, Policy{}, can(faas.RuntimeNative), slow)
	req, err := e.opts.Default.complete(faas.Request{Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.choose(t.Context(), req, faas.Resources{})
	if err != nil || got[0].driver.Name() != faas.RuntimeNative {
		t.Errorf("got %v, %v", got, err)
	}
	req.Runtime = faas.RuntimeDocker
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.choose(ctx, req, faas.Resources{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
