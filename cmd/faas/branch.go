package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

type branchCommand struct {
	Create branchCreateCommand `cmd:"" help:"Name a snapshot the head of a new branch."`
	Ls     branchLsCommand     `cmd:"" help:"List branches by name."`
	Rm     branchRmCommand     `cmd:"" help:"Remove branches; their snapshots stay."`
	Merge  branchMergeCommand  `cmd:"" help:"Merge the files of branches three-way into a new snapshot."`
}

type branchCreateCommand struct {
	target
	Name  string `arg:"" help:"Name of the branch."`
	State string `arg:"" help:"A snapshot, branch, execution, or an instance, which is saved for it."`
}

// Run implements the command.
func (c *branchCreateCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		state := c.State
		if x, err := server.Instance(ctx, state); err == nil {
			state = x.ID
		} else if id, err := snapshotID(ctx, server, state); err == nil {
			state = id
		}
		defer working("making branch " + c.Name)()
		b, err := server.CreateBranch(ctx, c.Name, state)
		if err != nil {
			return err
		}
		fmt.Println(b.ID)
		return nil
	})
}

type branchLsCommand struct {
	target
	JSON bool `help:"Print JSON."`
}

// Run implements the command.
func (c *branchLsCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		found, err := server.Branches(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(found)
		}
		table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tID\tHEAD\tMOVED")
		for _, b := range found {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", b.Name, b.ID, b.HeadSnapshotID, b.UpdatedAt.Local().Format(time.DateTime))
		}
		return table.Flush()
	})
}

type branchRmCommand struct {
	target
	Branches []string `arg:"" help:"Names or ids."`
}

// Run implements the command.
func (c *branchRmCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		return eachOf(c.Branches, func(ref string) error {
			if err := server.DeleteBranch(ctx, ref); err != nil {
				return err
			}
			fmt.Println(ref)
			return nil
		})
	})
}

type branchMergeCommand struct {
	target
	Strategy string   `short:"s" help:"union takes all changes, intersection those that all made alike, latest lets the newer win." enum:"union,intersection,latest" default:"union"`
	Name     string   `help:"Name of the snapshot." placeholder:"NAME"`
	Branches []string `arg:"" help:"Branches by name or id, or snapshots; at least two."`
}

// Run implements the command.
func (c *branchMergeCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		done := working("merging")
		merged, err := server.MergeBranches(ctx, api.MergeRequest{BranchIDs: c.Branches, MergeStrategy: faas.MergeStrategy(c.Strategy), Name: c.Name})
		done()
		var refused *client.MergeError
		if errors.As(err, &refused) {
			printConflicts(refused.Conflicts)
		}
		if err != nil {
			return err
		}
		printConflicts(merged.Conflicts)
		fmt.Println(merged.MergedID)
		return nil
	})
}

func printConflicts(conflicts []faas.MergeConflict) {
	for _, c := range conflicts {
		fmt.Fprintf(os.Stderr, "conflict: %s (%s)\n", c.Path, strings.Join(c.Branches, ", "))
	}
}
