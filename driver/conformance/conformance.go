// Package conformance is the executable half of the contract in package
// driver: checks that every driver passes, each on a sandbox of its own, on
// the machine where it runs. `faas doctor --verify` runs the user-facing ones
// on the user's machine, and driver/drivertest runs them all as subtests.
//
// A check uses nothing inside but a POSIX shell and tools that busybox has,
// and never trusts a limit with the machine: what it starts to exceed one is
// bounded by itself.
//
// A check is skipped only when the driver's Probe says that a feature which
// the check declares is not available, or when what it needs from outside
// (see Env) was not given; every skip has its reason.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// Check is one property of the contract.
type Check struct {
	Name     string         // group/property
	Features []faas.Feature // what it needs; FeatureExec always
	// UserFacing checks make sense on a user's machine; the others belong to
	// the development of a driver.
	UserFacing bool
	// Isolates is true for checks of what separates a sandbox from the host;
	// see Env.Unsandboxed.
	Isolates bool
	// Program is true for checks that need Env.Program.
	Program bool
	Timeout time.Duration // 0: one minute
	// Run returns nil when the property holds. Sandboxes made through the Env
	// are destroyed afterwards.
	Run func(ctx context.Context, env *Env) error
}

// Env is what a check works on.
type Env struct {
	Driver driver.Driver
	// Open returns another driver of the same installation, as a restarted
	// daemon has one. Checks close what it returns.
	Open func(ctx context.Context) (driver.Driver, error)
	// Image is the image of the sandboxes; faas.HostImage when empty.
	Image string
	// Unsandboxed, when not empty, is why checks of isolation do not apply:
	// the driver is a test double that isolates nothing.
	Unsandboxed string
	// Program is the path of the executable of driver/drivertest/intruder,
	// empty where there is none.
	Program string
	// StateDir is the driver's own directory on this machine, searched for
	// leftovers; empty: not searched.
	StateDir string
	// Leftovers lists what the driver's technology still holds of a sandbox
	// beyond files, mounts, cgroups and processes that carry its id; may be nil.
	Leftovers func(ctx context.Context, id string) ([]string, error)

	// World makes something that sandboxes with a network can reach; nil where
	// the machine's network must be left alone. Checks close it.
	World func() (World, error)

	made *boxes // of the check that runs
}

// World is a server on two public addresses.
type World interface {
	// Addresses returns ADDRESS:PORT of both.
	Addresses() (server, neighbour netip.AddrPort)
	Close() error
}

// Checks returns every check, in the order in which they are run.
func Checks() []Check {
	var all []Check
	for _, group := range [][]Check{
		probeChecks(), execChecks(), endChecks(), terminalChecks(), fileChecks(), treeChecks(),
		portChecks(), insightChecks(), configureChecks(), flowChecks(), limitChecks(), networkChecks(),
		isolationChecks(), lifecycleChecks(), recoveryChecks(), snapshotChecks(), hostileChecks(),
	} {
		all = append(all, group...)
	}
	return all
}

// Outcome is how one check ended.
type Outcome string

// The three outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// Result is the outcome of one check on one runtime.
type Result struct {
	Runtime    faas.Runtime `json:"runtime"`
	Check      string       `json:"check"`
	Outcome    Outcome      `json:"outcome"`
	Reason     string       `json:"reason,omitempty"` // why it failed or was skipped
	DurationMS float64      `json:"duration_ms"`
}

// SkipReason says why a check does not apply, or is empty when it does.
func SkipReason(c Check, env *Env, caps faas.Capabilities) string {
	if !caps.Available {
		return "the runtime is not available: " + caps.Reason
	}
	for _, f := range append([]faas.Feature{faas.FeatureExec}, c.Features...) {
		if have := caps.Feature(f); !have.Available {
			return fmt.Sprintf("%s is not available: %s", f, have.Reason)
		}
	}
	switch {
	case c.Isolates && env.Unsandboxed != "":
		return env.Unsandboxed
	case c.Program && env.Program == "":
		return "needs the intruder program, which only the driver's own tests build"
	}
	return ""
}

// RunCheck runs one check that applies and cleans up after it. What a failed
// clean-up says is part of the check's error.
func RunCheck(ctx context.Context, c Check, env *Env) error {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = time.Minute
	}
	own := *env
	own.made = &boxes{}
	if own.Image == "" {
		own.Image = faas.HostImage
	}
	runCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := c.Run(runCtx, &own)
	if err != nil && runCtx.Err() != nil {
		err = fmt.Errorf("not done within %v: %w", timeout, err)
	}
	return errors.Join(err, own.cleanUp(ctx))
}

// Verify runs the user-facing checks on a driver, reports each as it ends and
// returns all results. It stops early when ctx ends.
func Verify(ctx context.Context, env *Env, report func(Result)) []Result {
	caps := env.Driver.Probe(ctx)
	var results []Result
	for _, c := range Checks() {
		if !c.UserFacing {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		r := verifyOne(ctx, c, env, caps)
		results = append(results, r)
		if report != nil {
			report(r)
		}
	}
	return results
}

func verifyOne(ctx context.Context, c Check, env *Env, caps faas.Capabilities) Result {
	r := Result{Runtime: env.Driver.Name(), Check: c.Name, Outcome: Passed}
	if reason := SkipReason(c, env, caps); reason != "" {
		r.Outcome, r.Reason = Skipped, reason
		return r
	}
	start := time.Now()
	err := RunCheck(ctx, c, env)
	r.DurationMS = float64(time.Since(start).Microseconds()) / 1000
	var skip skipError
	switch {
	case errors.As(err, &skip):
		r.Outcome, r.Reason = Skipped, skip.Error()
	case err != nil:
		r.Outcome, r.Reason = Failed, err.Error()
	}
	return r
}

// skipError ends a check whose means the image does not have.
type skipError string

func (s skipError) Error() string { return string(s) }

// Skip makes the error by which a check says that it lacks a means.
func Skip(reason string) error { return skipError(reason) }

// IsSkip says whether a check ended because the image lacks a means that the
// check declares, and why.
func IsSkip(err error) (string, bool) {
	var skip skipError
	if errors.As(err, &skip) {
		return skip.Error(), true
	}
	return "", false
}
