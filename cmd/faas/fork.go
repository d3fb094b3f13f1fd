package main

import (
	"context"
	"fmt"
	"os"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

type forkCommand struct {
	target
	instanceFlags
	Count   int      `short:"n" default:"1" help:"Copies."`
	State   string   `arg:"" help:"An instance (id or name), snapshot, branch or execution."`
	Command []string `arg:"" optional:"" passthrough:"partial" help:"Run this in every copy, and keep what it leaves as a snapshot; without it the copies are instances."`
}

// Run implements the command.
func (c *forkCommand) Run(line *commands) error {
	if c.Count < 1 {
		return faas.InvalidField("--count", "must be at least 1")
	}
	settings, err := c.settings()
	if err != nil {
		return err
	}
	command := c.Command
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		if len(command) > 0 {
			return c.execute(ctx, server, command, settings)
		}
		return c.copies(ctx, server, settings)
	})
}

// copies makes instances. Of an instance they are made at once, of what is
// saved already one after the other.
func (c *forkCommand) copies(ctx context.Context, server *client.Client, settings api.InstanceSettings) error {
	defer working(fmt.Sprintf("forking %s %d times", c.State, c.Count))()
	if c.Count > 1 && settings.Name != "" {
		return faas.InvalidField("--name", "is one copy's")
	}
	if x, err := server.Instance(ctx, c.State); err == nil {
		forked, err := server.ForkInstance(ctx, x.ID, api.InstanceForkRequest{Count: c.Count, InstanceSettings: settings})
		if err != nil {
			return err
		}
		for _, x := range forked.Instances {
			printMade(x)
		}
		fmt.Fprintf(os.Stderr, "faas: the source stood still for %.0f ms\n", forked.PauseMS)
		for _, f := range forked.Failures {
			fmt.Fprintf(os.Stderr, "faas: copy %d: %v\n", f.Index+1, f.Problem.Err(0))
		}
		if len(forked.Failures) > 0 {
			return exitError(exitFailure)
		}
		return nil
	}
	state := c.State
	if id, err := snapshotID(ctx, server, state); err == nil {
		state = id
	}
	for range c.Count {
		made, err := server.CreateInstance(ctx, api.InstanceRequest{BranchFrom: state, InstanceSettings: settings})
		if err != nil {
			return err
		}
		printMade(made)
	}
	return nil
}

// execute runs a command in every copy; the exit code is that of the first that
// failed.
func (c *forkCommand) execute(ctx context.Context, server *client.Client, command []string, s api.InstanceSettings) error {
	state := c.State
	if x, err := server.Instance(ctx, state); err == nil {
		state = x.ID
	} else if id, err := snapshotID(ctx, server, state); err == nil {
		state = id
	}
	req := api.ForkRequest{Count: c.Count, ExecuteRequest: api.ExecuteRequest{
		Command: api.Command{Args: command}, BranchFrom: state, Runtime: s.Runtime, EnvVars: s.EnvVars, Network: s.Network.Policy(),
		CPUCores: s.CPUCores, MemoryMB: s.MemoryMB, DiskMB: s.DiskMB, PIDs: s.PIDs, Labels: s.Labels, AllowDegraded: s.AllowDegraded, Entropy: s.Entropy,
	}}
	done := working(fmt.Sprintf("running %d copies", c.Count))
	results, err := server.Fork(ctx, req)
	done()
	if err != nil {
		return err
	}
	code := 0
	for i, r := range results {
		switch {
		case r.Problem != nil:
			fmt.Fprintf(os.Stderr, "faas: copy %d: %v\n", i+1, r.Problem.Err(0))
			code = max(code, exitRun)
		default:
			result := r.ExecuteResponse.Result()
			_, _ = os.Stdout.Write(result.Stdout) //nolint:errcheck // the reader is gone
			_, _ = os.Stderr.Write(result.Stderr) //nolint:errcheck // the reader is gone
			fmt.Fprintf(os.Stderr, "faas: copy %d: exit code %d, saved as %s\n", i+1, r.ExitCode, r.SnapshotID)
			if code == 0 {
				code = r.ExitCode
			}
		}
	}
	if code != 0 {
		return exitError(code)
	}
	return nil
}
