package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

type poolCommand struct {
	Ls      listPoolsCommand  `cmd:"" help:"List the pools, their sizes and why."`
	Set     setPoolCommand    `cmd:"" help:"Set how many sandboxes of a kind are kept warm."`
	Rm      removePoolCommand `cmd:"" help:"Remove pools."`
	Prewarm prewarmCommand    `cmd:"" help:"Have sandboxes made ahead of requests, for ten minutes."`
}

// poolServer is the server that a command asks: pools are a server's.
type poolServer struct {
	Server string `help:"Server to ask (default: api.url, then this machine's)." placeholder:"URL"`
	JSON   bool   `help:"Print JSON."`
}

// with calls f with a client of the server.
func (c poolServer) with(line *commands, f func(context.Context, *client.Client) error) error {
	ctx, stop := interruptible()
	defer stop()
	cfg, err := line.load(flag("--server", "api.url", c.Server)...)
	if err != nil {
		return err
	}
	if cfg.API.URL == "" {
		cfg.API.URL = client.DefaultURL
	}
	remote, err := server(cfg)
	if err != nil {
		return err
	}
	return f(ctx, remote)
}

// poolKind are the flags that name the sandboxes of a pool.
type poolKind struct {
	Image    string  `arg:"" optional:"" help:"Image (default: that of executions)."`
	Runtime  string  `help:"Runtime (default: auto)."`
	CPUCores float64 `name:"cpu-cores" help:"Cores, fractions allowed (default: as executions)."`
	MemoryMB int64   `name:"memory-mb" help:"MiB of memory (default: as executions)."`
	DiskMB   int64   `name:"disk-mb" help:"MiB of the writable layer (default: as executions)."`
}

func (k poolKind) api() api.PoolKind {
	return api.PoolKind{Image: k.Image, Runtime: faas.Runtime(k.Runtime), CPUCores: k.CPUCores, MemoryMB: k.MemoryMB, DiskMB: k.DiskMB}
}

type listPoolsCommand struct{ poolServer }

// Run implements the command.
func (c *listPoolsCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, remote *client.Client) error {
		pools, err := remote.Pools(ctx)
		if err != nil {
			return err
		}
		return c.print(pools)
	})
}

// print prints pools.
func (c poolServer) print(pools []api.Pool) error {
	if c.JSON {
		return printJSON(pools)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tRUNTIME\tIMAGE\tSIZE\tMIN-MAX\tREADY\tHITS\tMISSES\tWHY")
	for _, p := range pools {
		why := p.Why
		if p.Error != "" {
			why = p.Error
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d-%d\t%d/%d\t%d\t%d\t%s\n", p.ID, p.Runtime, p.Image, sizeText(p),
			p.Min, p.Max, p.Idle, p.Target, p.Hits, p.Misses, shorten(why))
	}
	return table.Flush()
}

func sizeText(r api.Pool) string {
	return strings.Join([]string{strconv.FormatFloat(r.CPUCores, 'g', -1, 64) + " cores", strconv.FormatInt(r.MemoryMB, 10) + " MiB"}, ", ")
}

type setPoolCommand struct {
	poolServer
	poolKind
	Min      int `help:"Sandboxes kept ready whatever the demand."`
	Max      int `help:"Sandboxes kept ready at most, as the demand asks (default: --min)."`
	Priority int `help:"The highest is served first when sandboxes or memory are short."`
}

// Run implements the command.
func (c *setPoolCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, remote *client.Client) error {
		p, err := remote.SetPool(ctx, api.PoolSettings{PoolKind: c.api(), Min: c.Min, Max: c.Max, Priority: c.Priority})
		if err != nil {
			return err
		}
		return c.print([]api.Pool{*p})
	})
}

type removePoolCommand struct {
	poolServer
	IDs []string `arg:"" name:"id" help:"Ids of pools."`
}

// Run implements the command.
func (c *removePoolCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, remote *client.Client) error {
		for _, id := range c.IDs {
			if err := remote.RemovePool(ctx, id); err != nil {
				return err
			}
		}
		return nil
	})
}

type prewarmCommand struct {
	poolServer
	poolKind
	Count int `short:"n" default:"1" help:"Sandboxes to keep ready."`
}

// Run implements the command.
func (c *prewarmCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, remote *client.Client) error {
		p, err := remote.Prewarm(ctx, api.Prewarm{PoolKind: c.api(), Count: c.Count})
		if err != nil {
			return err
		}
		return c.print([]api.Pool{*p})
	})
}
