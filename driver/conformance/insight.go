package conformance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

func insightChecks() []Check {
	return []Check{
		{Name: "insight/hello", UserFacing: true, Run: checkHello},
		{Name: "insight/processes", UserFacing: true, Run: checkProcesses},
		{Name: "insight/stats-inside", Run: checkStatsInside},
		{Name: "insight/stats-outside", Features: []faas.Feature{faas.FeatureLimitMemory}, UserFacing: true, Run: checkStatsOutside},
		{Name: "insight/clock", Run: checkClock},
	}
}

func checkHello(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	info, err := b.client.Hello(ctx)
	if err != nil {
		return err
	}
	if info.Version <= 0 || info.StartedAt.IsZero() || time.Since(info.StartedAt).Abs() > 10*time.Minute {
		return fmt.Errorf("the agent says of itself %+v", info)
	}
	return nil
}

func checkProcesses(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	run, err := b.start(ctx, guest.Command{Args: []string{"sh", "-c", "echo ready; sleep 300; :"}, User: "1234:1234"})
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the command is killed
	if err := run.await(ctx, "ready\n"); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		list, err := b.client.Processes(ctx)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(list, func(p guest.Process) bool {
			return slices.Equal(p.Command, []string{"sleep", "300"})
		})
		if at < 0 {
			return fmt.Errorf("`sleep 300` is not among %d processes", len(list))
		}
		p := list[at]
		if p.PPID != run.PID || p.UID != 1234 || p.Exec != run.ID || p.PID <= 1 || time.Since(p.Started).Abs() > 10*time.Minute {
			return fmt.Errorf("`sleep 300` of command %s (process %d) is listed as %+v", run.ID, run.PID, p)
		}
		return nil
	})
}

func checkStatsInside(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	stats, err := b.client.Stats(ctx)
	if err != nil {
		return err
	}
	if stats.Processes < 1 || stats.MemoryBytes <= 0 || stats.AgentRSS <= 0 || stats.DiskTotal <= 0 || stats.Uptime <= 0 {
		return fmt.Errorf("consumption seen from inside is %+v", stats)
	}
	return nil
}

func checkStatsOutside(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	before, err := b.Stats(ctx)
	if err != nil {
		return err
	}
	run, err := b.start(ctx, guest.Command{Args: []string{"sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo ready; sleep 300"}})
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the command is killed
	if err := run.await(ctx, "ready\n"); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		after, err := b.Stats(ctx)
		if err != nil {
			return err
		}
		if after.MemoryBytes <= 0 || after.MaxMemoryBytes < after.MemoryBytes/2 || after.CPUMS <= before.CPUMS || after.PIDs < 1 {
			return fmt.Errorf("consumption was %+v and is %+v", before, after)
		}
		if after.OOMKills != 0 || after.PIDsRefused != 0 {
			return fmt.Errorf("limits were hit by a modest command: %+v", after)
		}
		return nil
	})
}

func checkClock(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	out, err := b.shell(ctx, "date +%s")
	if err != nil {
		return err
	}
	var seconds int64
	if _, err := fmt.Sscan(out.stdout, &seconds); err != nil {
		return fmt.Errorf("date +%%s printed %q", out.stdout)
	}
	if off := time.Since(time.Unix(seconds, 0)); off.Abs() > 5*time.Second {
		return fmt.Errorf("the clock inside is off by %v", off)
	}
	return nil
}
