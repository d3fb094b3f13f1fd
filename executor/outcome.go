package executor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/pool"
)

// Exit codes of commands that never ran, or did not end by themselves, as
// shells have them.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitKilled        = 128 + 9
	signalKilled      = "SIGKILL"
)

// outcome makes the result of a command, or the error for one that did not
// run to an end of its own; beside an error, the result is what is known.
func (e *Executor) outcome(ctx context.Context, x *execution, s *pool.Sandbox, exit guest.Exit, err error) (*faas.Result, error) {
	result := x.newResult(exit)
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errCancelled):
		result.ExitCode, result.Signal, result.Error = exitKilled, signalKilled, errCancelled.Error()
		return result, nil
	case errors.Is(cause, errBackstop):
		result.ExitCode, result.Signal, result.TimedOut = exitKilled, signalKilled, true
		explain(result, x, driver.Stats{}, guest.Stats{})
		return result, nil
	case cause != nil:
		result.ExitCode, result.Signal = exitKilled, signalKilled
		return result, e.causeOf(ctx, err) // the result is for the record
	case errors.Is(err, guest.ErrCommandNotFound):
		result.ExitCode, result.Error = exitNotFound, clip(x.req.Command[0])+": command not found"
		return result, nil
	case errors.Is(err, guest.ErrCommandNotExecutable):
		result.ExitCode, result.Error = exitNotExecutable, clip(x.req.Command[0])+": not executable"
		return result, nil
	case x.outputs.failed() != nil:
		return result, &faas.Error{Kind: faas.KindUnavailable, Op: "execute",
			Detail: "the command was ended because its output could not be written", Err: x.outputs.failed()}
	case err != nil:
		return e.brokenOff(ctx, x, s, result, err)
	}
	stats, statsErr := consumption(s, exit.Code != 0)
	if statsErr != nil {
		e.log.Debug("a sandbox tells no consumption", "sandbox", s.ID(), "error", statsErr)
	}
	result.Usage.CPUMS = max(result.Usage.CPUMS, stats.CPUMS)
	result.Usage.MaxMemoryBytes = max(result.Usage.MaxMemoryBytes, stats.MaxMemoryBytes)
	explain(result, x, stats, e.diskOf(ctx, s, exit))
	return result, nil
}

// newResult holds what is known of a command from its exit alone.
func (x *execution) newResult(exit guest.Exit) *faas.Result {
	stdout, cutOut := x.outputs.stdout.result()
	stderr, cutErr := x.outputs.stderr.result()
	return &faas.Result{
		ID: x.req.ID, Project: x.req.Project, ExitCode: exit.Code, Signal: exit.Signal, TimedOut: exit.TimedOut,
		Stdout: stdout, Stderr: stderr, Truncated: cutOut || cutErr,
		DurationMS: milliseconds(exit.Duration), QueuedMS: milliseconds(x.owned.Sub(x.arrived)),
		RuntimeUsed: x.record.Runtime, Degraded: x.degraded,
		Usage: faas.Usage{CPUMS: exit.CPU.Milliseconds(), MaxMemoryBytes: exit.MaxRSS},
	}
}

// brokenOff explains a command whose agent was lost: killed for want of
// memory, which is the command's own outcome, or gone for another reason,
// which is an error.
func (e *Executor) brokenOff(ctx context.Context, x *execution, s *pool.Sandbox, result *faas.Result, err error) (*faas.Result, error) {
	if kind := faas.KindOf(err); kind != faas.KindUnavailable && kind != faas.KindInternal {
		return nil, err
	}
	if stats, statsErr := consumption(s, true); statsErr == nil && stats.OOMKills > 0 {
		result.ExitCode, result.Signal = exitKilled, signalKilled
		result.DurationMS = milliseconds(time.Since(x.owned))
		explain(result, x, stats, guest.Stats{})
		return result, nil
	}
	ctx, cancel := context.WithTimeout(ctx, sandboxDeathWait)
	defer cancel()
	if s.Wait(ctx) == nil {
		return nil, &faas.Error{Kind: faas.KindUnavailable, Op: "execute", Detail: "the sandbox died while the command ran", Err: err}
	}
	return nil, err
}

// diskOf asks the agent about the disk when a command failed, since nobody
// outside need know that it was full.
func (e *Executor) diskOf(ctx context.Context, s *pool.Sandbox, exit guest.Exit) guest.Stats {
	if exit.Code == 0 {
		return guest.Stats{}
	}
	ctx, cancel := context.WithTimeout(ctx, guestStatsWait)
	defer cancel()
	stats, err := s.Client.Stats(ctx)
	if err != nil {
		e.log.Debug("an agent tells no consumption", "sandbox", s.ID(), "error", err)
		return guest.Stats{}
	}
	return stats
}

// fullDisk is what may be free on a disk that counts as full: less than the
// blocks that a failed write leaves over.
func fullDisk(disk guest.Stats) bool {
	return disk.DiskTotal > 0 && disk.DiskFree < max(256<<10, disk.DiskTotal/1000)
}

// explain names the limits that a command hit and, when it failed, says in
// words what they are and how to raise them.
func explain(result *faas.Result, x *execution, stats driver.Stats, disk guest.Stats) {
	var words []string
	hit := func(limit faas.LimitHit, text string) {
		result.LimitsHit = append(result.LimitsHit, limit)
		words = append(words, text)
	}
	limits := x.req.Resources
	if result.TimedOut {
		hit(faas.LimitTimeout, fmt.Sprintf("time-out of %v reached: the command was killed with everything that it started; raise timeout_ms", x.req.Timeout))
	}
	if stats.OOMKills > 0 {
		hit(faas.LimitMemory, fmt.Sprintf("memory limit of %d MiB reached: the kernel killed %s; raise memory_mb", limits.MemoryMB, counted(stats.OOMKills, "process", "processes")))
	}
	if stats.PIDsRefused > 0 {
		hit(faas.LimitPIDs, fmt.Sprintf("limit of %d processes and threads reached: %s refused; raise pids", limits.PIDs, counted(stats.PIDsRefused, "more was", "more were")))
	}
	if fullDisk(disk) {
		hit(faas.LimitDisk, fmt.Sprintf("disk limit of %d MiB reached: the writable layer is full; raise disk_mb", limits.DiskMB))
	}
	if result.ExitCode != 0 {
		result.Error = strings.Join(words, "; ")
	}
}

func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
