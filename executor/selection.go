package executor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// isolations lists the levels, weakest first.
var isolations = []Isolation{IsolationProcess, IsolationUserNS, IsolationKernel, IsolationVM}

// isolationOf is what a runtime puts between a sandbox and the host.
func isolationOf(c *faas.Capabilities) Isolation {
	switch c.Runtime {
	case faas.RuntimeFirecracker, faas.RuntimeQEMU:
		return IsolationVM
	case faas.RuntimeGVisor:
		return IsolationKernel
	}
	if c.Has(faas.FeatureUserNamespace) {
		return IsolationUserNS
	}
	return IsolationProcess
}

func (p Policy) validate() error {
	if p.MinIsolation != "" && !slices.Contains(isolations, p.MinIsolation) {
		return faas.InvalidField("min_isolation", "%q is not one of %s", p.MinIsolation, joinWords(isolations))
	}
	for _, list := range [][]faas.Runtime{p.Allowed, p.Order} {
		for _, runtime := range list {
			if !slices.Contains(faas.Runtimes(), runtime) {
				return faas.InvalidField("runtime", "%q is not one of %s", runtime, joinWords(faas.Runtimes()))
			}
		}
	}
	return nil
}

func (p Policy) allows(runtime faas.Runtime) bool {
	return len(p.Allowed) == 0 || slices.Contains(p.Allowed, runtime)
}

// order is that in which auto tries the runtimes. What a configured order does
// not name is not tried.
func (p Policy) order() []faas.Runtime {
	if len(p.Order) > 0 {
		return p.Order
	}
	return faas.Runtimes()
}

// strongEnough says whether a runtime meets the minimum isolation.
func (p Policy) strongEnough(c *faas.Capabilities) bool {
	return p.MinIsolation == "" ||
		slices.Index(isolations, isolationOf(c)) >= slices.Index(isolations, p.MinIsolation)
}

// need is a feature that a request asks for.
type need struct {
	feature   faas.Feature
	asked     string // in the request's words
	sacrifice bool   // may be left out of a degraded execution
}

// needsOf lists the features that a request needs. Limits count only when the
// request names them: a default that a runtime cannot enforce refuses nothing.
func needsOf(req faas.Request, asked faas.Resources) []need {
	needs := []need{{feature: faas.FeatureExec, asked: "running a command"}}
	add := func(when bool, feature faas.Feature, words string, sacrifice bool) {
		if when {
			needs = append(needs, need{feature, words, sacrifice})
		}
	}
	host := req.Image == faas.HostImage
	add(host, faas.FeatureHostImage, "image host", false)
	add(!host, faas.FeatureOCIImage, "image "+clip(req.Image), false)
	add(req.Network.Mode == faas.NetworkNone, faas.FeatureNetworkNone, "network none", false)
	add(req.Network.Mode == faas.NetworkEgress, faas.FeatureNetworkEgress, "network egress", false)
	add(req.TTY != nil, faas.FeaturePTY, "a terminal", false)
	add(leavesState(req.Mode), faas.FeatureSnapshotFS, "mode "+string(req.Mode), false)
	add(len(req.Files) > 0, faas.FeatureFiles, "files", false)
	add(asked.CPUCores != 0, faas.FeatureLimitCPU, "cpu_cores", true)
	add(asked.MemoryMB != 0, faas.FeatureLimitMemory, "memory_mb", true)
	add(asked.DiskMB != 0, faas.FeatureLimitDisk, "disk_mb", true)
	add(asked.PIDs != 0, faas.FeatureLimitPIDs, "pids", true)
	return needs
}

// candidate is a runtime that can serve a request.
type candidate struct {
	driver   driver.Driver
	missing  int    // features left out
	degraded string // what is weaker than asked, and why; empty: nothing
}

// obstacle is why a runtime cannot serve a request.
type obstacle struct {
	runtime        faas.Runtime
	reason, remedy string
}

// choose returns the runtimes that can serve a request, the one to use first.
// The others are for when it turns out, while the sandbox is being made, that
// the first cannot after all. asked are the limits that the request itself
// named; more are needs that the request does not show.
func (e *Executor) choose(ctx context.Context, req faas.Request, asked faas.Resources, more ...need) ([]candidate, error) {
	if runtime := req.Runtime; runtime != faas.RuntimeAuto && !e.opts.Policy.allows(runtime) {
		return nil, &faas.Error{Kind: faas.KindPermissionDenied, Op: "choose a runtime",
			Detail: fmt.Sprintf("the configuration does not allow the runtime %s", runtime),
			Remedy: "use runtime auto, or allow it in the configuration"}
	}
	needs := append(needsOf(req, asked), more...)
	candidates, obstacles, err := e.survey(ctx, req, needs)
	if err == nil && len(candidates) == 0 && e.probes.renew(ctx) {
		candidates, obstacles, err = e.survey(ctx, req, needs)
	}
	if err != nil {
		return nil, err
	}
	if len(candidates) == 0 {
		return nil, refusal(req, obstacles)
	}
	return candidates, nil
}

// survey asks the runtimes that may be used, in order. Once one has been found
// that does all that is asked, it waits for no further probe.
func (e *Executor) survey(ctx context.Context, req faas.Request, needs []need) ([]candidate, []obstacle, error) {
	var (
		full, degraded []candidate
		obstacles      []obstacle
	)
	for _, runtime := range e.considered(req) {
		entry := e.probes.entry(runtime)
		if entry == nil {
			if runtime == req.Runtime {
				obstacles = append(obstacles, obstacle{runtime, "this installation has no driver for it", "use another runtime"})
			}
			continue
		}
		answer := entry.answer.Load()
		if answer == nil && len(full) > 0 {
			continue
		}
		if answer == nil {
			var ok bool
			if answer, ok = e.probes.known(ctx, entry); !ok {
				return nil, nil, stopped(ctx, "choose a runtime")
			}
		}
		c, problem := e.judge(req, needs, entry.driver, answer)
		switch {
		case problem != nil:
			obstacles = append(obstacles, *problem)
		case c.missing == 0:
			full = append(full, c)
		default:
			degraded = append(degraded, c)
		}
	}
	slices.SortStableFunc(degraded, func(a, b candidate) int { return a.missing - b.missing })
	found := append(full, degraded...)
	if req.Runtime != faas.RuntimeAuto {
		found = preferNamed(req.Runtime, found, obstacles)
	}
	return found, obstacles, nil
}

// considered lists the runtimes that a request may use, in order of
// preference: the one that it names and, where it accepts a substitute, the
// others.
func (e *Executor) considered(req faas.Request) []faas.Runtime {
	var list []faas.Runtime
	if req.Runtime != faas.RuntimeAuto {
		list = append(list, req.Runtime)
		if !req.AllowDegraded {
			return list
		}
	}
	for _, runtime := range e.opts.Policy.order() {
		if e.opts.Policy.allows(runtime) && !slices.Contains(list, runtime) {
			list = append(list, runtime)
		}
	}
	return list
}

// preferNamed puts the runtime that a request names first, even when it lacks
// something that another has, and names the substitution in the others.
func preferNamed(named faas.Runtime, found []candidate, obstacles []obstacle) []candidate {
	reason := "it lacks what was asked"
	for _, o := range obstacles {
		if o.runtime == named {
			reason = o.reason
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		return boolOrder(a.driver.Name() == named, b.driver.Name() == named)
	})
	for i, c := range found {
		if c.driver.Name() != named {
			found[i].degraded = joinSentences(
				fmt.Sprintf("runtime %s instead of %s: %s", c.driver.Name(), named, reason), c.degraded)
		}
	}
	return found
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

func joinSentences(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "":
		return a
	}
	return a + "; " + b
}

// judge compares one runtime with what is needed.
func (e *Executor) judge(req faas.Request, needs []need, d driver.Driver, c *faas.Capabilities) (candidate, *obstacle) {
	if !c.Available {
		return candidate{}, &obstacle{d.Name(), orUnknown(c.Reason), c.Remedy}
	}
	if !e.opts.Policy.strongEnough(c) {
		return candidate{}, &obstacle{d.Name(),
			fmt.Sprintf("its isolation is %s, the configuration asks for %s at least", isolationOf(c), e.opts.Policy.MinIsolation),
			c.Feature(faas.FeatureUserNamespace).Remedy}
	}
	found := candidate{driver: d}
	for _, n := range needs {
		if c.Has(n.feature) {
			continue
		}
		lacking := c.Feature(n.feature)
		if !n.sacrifice || !req.AllowDegraded {
			return candidate{}, &obstacle{d.Name(), n.asked + ": " + orUnknown(lacking.Reason), lacking.Remedy}
		}
		found.missing++
		found.degraded = joinSentences(fmt.Sprintf("%s is not enforced: %s", n.asked, orUnknown(lacking.Reason)), found.degraded)
	}
	return found, nil
}

func orUnknown(reason string) string {
	if reason == "" {
		return "not available"
	}
	return reason
}

// refusal says why no runtime can serve a request and what would help.
func refusal(req faas.Request, obstacles []obstacle) error {
	if len(obstacles) == 0 {
		return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "choose a runtime",
			Detail: "this installation has no driver for any allowed runtime",
			Remedy: "allow another runtime in the configuration"}
	}
	var reasons, remedies []string
	for _, o := range obstacles {
		reasons = append(reasons, fmt.Sprintf("%s: %s", o.runtime, o.reason))
		if o.remedy != "" && !slices.Contains(remedies, o.remedy) {
			remedies = append(remedies, o.remedy)
		}
	}
	detail := "no runtime here can do what is asked"
	if req.Runtime != faas.RuntimeAuto && !req.AllowDegraded {
		detail = "the runtime cannot do what is asked"
	}
	return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "choose a runtime",
		Detail: detail + ": " + strings.Join(reasons, "; "), Remedy: strings.Join(remedies, "; ")}
}

// stopped is the error of a step that its context ended.
func stopped(ctx context.Context, op string) error {
	cause := context.Cause(ctx)
	if cause == nil { // what was waited for ended with the executor
		return errClosing
	}
	return &faas.Error{Kind: faas.KindOf(cause), Op: op, Detail: "stopped before it was done", Err: cause}
}
