package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

// instanceFlags say what an instance is to be like.
type instanceFlags struct {
	Name          string            `help:"Name, unique among the instances." placeholder:"NAME"`
	Runtime       string            `short:"r" help:"${enum}." enum:"auto,native,docker,gvisor,firecracker,qemu" default:"auto"`
	Mem           int64             `help:"MiB of memory." placeholder:"MIB"`
	Cpus          float64           `help:"Cores, fractions allowed." placeholder:"N"`
	Disk          int64             `help:"MiB of the writable layer." placeholder:"MIB"`
	Pids          int64             `help:"Processes and threads." placeholder:"N"`
	Env           []string          `short:"e" help:"Variable for every command; without a value, this process's own." placeholder:"NAME[=VALUE]" sep:"none"`
	Network       string            `help:"none, egress (default: none, or as the saved state's source)." enum:",none,egress" default:"" placeholder:"MODE"`
	Allow         []string          `help:"With --network egress: only to this network." placeholder:"CIDR"`
	TTL           time.Duration     `name:"ttl" help:"Delete it after this time, such as 2h." placeholder:"TIME"`
	IdleTimeout   time.Duration     `help:"Let it sleep after this time without use; the next use wakes it." placeholder:"TIME"`
	OnIdle        string            `help:"How it sleeps: ${enum}." enum:"pause,stop" default:"pause"`
	Label         map[string]string `short:"l" help:"Label to find it by." placeholder:"NAME=VALUE"`
	AllowDegraded bool              `help:"Accept a weaker substitute, which is named on standard error."`
	Strict        bool              `help:"Refuse a start from memory when a process's random generators cannot be renewed."`
}

// settings turns the flags into the wire's terms.
func (f *instanceFlags) settings() (api.InstanceSettings, error) {
	for name, wrong := range map[string]bool{
		"--mem": f.Mem < 0, "--cpus": f.Cpus < 0, "--disk": f.Disk < 0, "--pids": f.Pids < 0, "--ttl": f.TTL < 0, "--idle-timeout": f.IdleTimeout < 0,
	} {
		if wrong {
			return api.InstanceSettings{}, faas.InvalidField(name, "must not be negative")
		}
	}
	s := api.InstanceSettings{
		Name: f.Name, Runtime: faas.Runtime(f.Runtime), CPUCores: f.Cpus, MemoryMB: f.Mem, DiskMB: f.Disk, PIDs: f.Pids,
		EnvVars: environment(f.Env), TTLMS: f.TTL.Milliseconds(), IdleTimeoutMS: f.IdleTimeout.Milliseconds(),
		Labels: f.Label, AllowDegraded: f.AllowDegraded,
	}
	if s.Runtime == faas.RuntimeAuto {
		s.Runtime = "" // a saved state brings its own
	}
	if s.IdleTimeoutMS != 0 {
		s.OnIdle = faas.IdleAction(f.OnIdle)
	}
	if f.Network != "" {
		s.Network = &api.Network{Mode: faas.NetworkMode(f.Network), Allow: f.Allow}
	} else if len(f.Allow) > 0 {
		return s, faas.InvalidField("--allow", "needs --network egress")
	}
	if f.Strict {
		s.Entropy = faas.EntropyStrict
	}
	return s, nil
}

type createCommand struct {
	target
	instanceFlags
	From  string `help:"Start from a snapshot, a branch, an instance or an execution." placeholder:"STATE"`
	Image string `arg:"" optional:"" help:"OCI reference, imported image or host (default: execution.image)."`
}

// Run implements the command.
func (c *createCommand) Run(line *commands) error {
	settings, err := c.settings()
	if err != nil {
		return err
	}
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		done := working("making an instance")
		made, err := server.CreateInstance(ctx, api.InstanceRequest{Image: c.Image, BranchFrom: c.From, InstanceSettings: settings})
		done()
		if err != nil {
			return err
		}
		printMade(made)
		return nil
	})
}

// printMade prints the id of a new instance, and what is to be known of it.
func printMade(x *api.Instance) {
	fmt.Println(x.ID)
	if x.Degraded != "" {
		fmt.Fprintln(os.Stderr, "faas: degraded:", x.Degraded)
	}
	for _, r := range x.Reseeded {
		if !r.Done {
			fmt.Fprintf(os.Stderr, "faas: the random numbers of process %d (%s) may repeat: %s\n", r.PID, r.Command, r.Reason)
		}
	}
	for _, h := range x.Hooks {
		if h.ExitCode != 0 {
			fmt.Fprintf(os.Stderr, "faas: hook %s ended with exit code %d: %s\n", h.Path, h.ExitCode, strings.TrimSpace(h.Output))
		}
	}
}

type lsCommand struct {
	target
	Status string            `help:"Only those: ${enum}." enum:",running,paused,stopped,failed" default:"" placeholder:"STATUS"`
	Label  map[string]string `short:"l" help:"Only those with this label." placeholder:"NAME=VALUE"`
	Quiet  bool              `short:"q" help:"Print ids only."`
	JSON   bool              `help:"Print JSON."`
}

// Run implements the command.
func (c *lsCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		found := []*api.Instance{}
		for x, err := range server.AllInstances(ctx, client.InstanceFilter{Status: faas.InstanceStatus(c.Status), Labels: c.Label}) {
			if err != nil {
				return err
			}
			found = append(found, x)
		}
		switch {
		case c.JSON:
			return printJSON(found)
		case c.Quiet:
			for _, x := range found {
				fmt.Println(x.ID)
			}
			return nil
		}
		table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tNAME\tSTATUS\tRUNTIME\tIMAGE\tCORES\tMEMORY\tCREATED")
		for _, x := range found {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%v\t%d MiB\t%s\n", x.ID, dash(x.Name), statusText(x), x.Runtime, x.Image,
				x.Resources.CPUCores, x.Resources.MemoryMB, x.CreatedAt.Local().Format(time.DateTime))
		}
		return table.Flush()
	})
}

func statusText(x *api.Instance) string {
	if x.Asleep {
		return string(x.Status) + " (asleep)"
	}
	return string(x.Status)
}

type infoCommand struct {
	target
	Instance string `arg:"" help:"Id or name."`
}

// Run implements the command.
func (c *infoCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		x, err := server.Instance(ctx, c.Instance)
		if err != nil {
			return err
		}
		return printJSON(x)
	})
}

// severalInstances names the instances that something is done to.
type severalInstances struct {
	target
	Instances []string `arg:"" help:"Ids or names."`
}

// each does something to each instance and prints its id.
func (s *severalInstances) each(line *commands, what string, do func(ctx context.Context, server *client.Client, ref string) error) error {
	return s.with(line, func(ctx context.Context, server *client.Client) error {
		return eachOf(s.Instances, func(ref string) error {
			done := working(what + " " + ref)
			err := do(ctx, server, ref)
			done()
			if err != nil {
				return err
			}
			fmt.Println(ref)
			return nil
		})
	})
}

type stopCommand struct{ severalInstances }

// Run implements the command.
func (c *stopCommand) Run(line *commands) error {
	return c.each(line, "stopping", func(ctx context.Context, server *client.Client, ref string) error {
		_, err := server.StopInstance(ctx, ref)
		return err
	})
}

type startCommand struct{ severalInstances }

// Run implements the command.
func (c *startCommand) Run(line *commands) error {
	return c.each(line, "starting", func(ctx context.Context, server *client.Client, ref string) error {
		_, err := server.StartInstance(ctx, ref)
		return err
	})
}

type pauseCommand struct {
	severalInstances
	Checkpoint bool `help:"Take a snapshot first."`
}

// Run implements the command.
func (c *pauseCommand) Run(line *commands) error {
	return c.each(line, "pausing", func(ctx context.Context, server *client.Client, ref string) error {
		x, err := server.PauseInstance(ctx, ref, api.PauseRequest{Checkpoint: &c.Checkpoint})
		if err == nil && c.Checkpoint {
			fmt.Fprintln(os.Stderr, "faas: saved as", x.CheckpointID)
		}
		return err
	})
}

type resumeCommand struct{ severalInstances }

// Run implements the command.
func (c *resumeCommand) Run(line *commands) error {
	return c.each(line, "resuming", func(ctx context.Context, server *client.Client, ref string) error {
		_, err := server.ResumeInstance(ctx, ref)
		return err
	})
}

type rmCommand struct{ severalInstances }

// Run implements the command.
func (c *rmCommand) Run(line *commands) error {
	return c.each(line, "removing", func(ctx context.Context, server *client.Client, ref string) error {
		return server.DeleteInstance(ctx, ref)
	})
}

type topCommand struct {
	target
	Instance string `arg:"" help:"Id or name."`
	JSON     bool   `help:"Print JSON."`
}

// Run implements the command.
func (c *topCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		processes, err := server.Processes(ctx, c.Instance)
		if err != nil {
			return err
		}
		stats, err := server.InstanceStats(ctx, c.Instance)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(map[string]any{"stats": stats, "processes": processes})
		}
		fmt.Printf("cpu %v, memory %s (at most %s), disk %s, %d processes and threads\n", time.Duration(stats.CPUMS)*time.Millisecond,
			bytesText(stats.MemoryBytes), bytesText(stats.MaxMemoryBytes), bytesText(stats.DiskBytes), stats.PIDs)
		table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
		fmt.Fprintln(table, "PID\tPPID\tUID\tSTATE\tCPU\tMEMORY\tCOMMAND")
		for _, p := range processes {
			fmt.Fprintf(table, "%d\t%d\t%d\t%s\t%v\t%s\t%s\n", p.PID, p.PPID, p.UID, p.State,
				time.Duration(p.CPUMS)*time.Millisecond, bytesText(p.RSSBytes), shorten(strings.Join(p.Command, " ")))
		}
		return table.Flush()
	})
}
