package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

type snapshotCommand struct {
	Create  snapshotCreateCommand  `cmd:"" help:"Save an instance, which goes on, or an image as it is."`
	Ls      snapshotLsCommand      `cmd:"" help:"List snapshots, newest first."`
	Rm      snapshotRmCommand      `cmd:"" help:"Remove snapshots."`
	Restore snapshotRestoreCommand `cmd:"" help:"Make an instance of a snapshot."`
	Diff    snapshotDiffCommand    `cmd:"" help:"List how a snapshot's files differ from another's, or from its image's."`
	Tree    snapshotTreeCommand    `cmd:"" help:"Draw the tree of snapshots."`

	Export exportSnapshotCommand   `cmd:"" help:"Write a snapshot as one file for another machine."`
	Import importSnapshotCommand   `cmd:"" help:"Take in an exported snapshot."`
	Verify verifySnapshotCommand   `cmd:"" help:"Read all that snapshots hold and compare it with what was saved."`
	GC     collectSnapshotsCommand `cmd:"" name:"gc" help:"Free what no snapshot and no sandbox needs."`
	Key    snapshotKeyCommand      `cmd:"" help:"Print the key that exports are signed with, for snapshots.trusted_keys elsewhere."`
}

type snapshotCreateCommand struct {
	target
	Image       string            `help:"In the place of an instance: a file snapshot of this image." placeholder:"REF"`
	Name        string            `help:"Name." placeholder:"NAME"`
	Description string            `help:"Description." placeholder:"TEXT"`
	Kind        string            `help:"fs: files; full: files, memory and processes; auto: the best that the runtime can." enum:"auto,fs,full" default:"auto"`
	Label       map[string]string `short:"l" help:"Label to find it by." placeholder:"NAME=VALUE"`
	Instance    string            `arg:"" optional:"" help:"Id or name."`
}

// Run implements the command.
func (c *snapshotCreateCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		done := working("saving " + c.Instance + c.Image)
		made, err := server.CreateSnapshot(ctx, api.SnapshotRequest{
			InstanceID: c.Instance, Image: c.Image,
			SnapshotSettings: api.SnapshotSettings{Name: c.Name, Description: c.Description, Kind: faas.SnapshotKind(c.Kind), Labels: c.Label},
		})
		done()
		if err != nil {
			return err
		}
		fmt.Println(made.ID)
		fmt.Fprintf(os.Stderr, "faas: kind %s, %s, its source stood still for %.0f ms\n", made.Kind, bytesText(made.SizeBytes), made.PauseMS)
		return nil
	})
}

type snapshotLsCommand struct {
	target
	Name     string            `help:"Only those of this name." placeholder:"NAME"`
	Instance string            `help:"Only those of this instance." placeholder:"ID"`
	Parent   string            `help:"Only the children of this snapshot." placeholder:"ID"`
	Kind     string            `help:"Only those of this kind." enum:",fs,full" default:"" placeholder:"KIND"`
	Label    map[string]string `short:"l" help:"Only those with this label." placeholder:"NAME=VALUE"`
	Quiet    bool              `short:"q" help:"Print ids only."`
	JSON     bool              `help:"Print JSON."`
}

// Run implements the command.
func (c *snapshotLsCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		found := []*api.Snapshot{}
		for s, err := range server.AllSnapshots(ctx, client.SnapshotFilter{
			Name: c.Name, InstanceID: c.Instance, ParentID: c.Parent, Kind: faas.SnapshotKind(c.Kind), Labels: c.Label,
		}) {
			if err != nil {
				return err
			}
			found = append(found, s)
		}
		switch {
		case c.JSON:
			return printJSON(found)
		case c.Quiet:
			for _, s := range found {
				fmt.Println(s.ID)
			}
			return nil
		}
		table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tNAME\tKIND\tRUNTIME\tIMAGE\tSIZE\tCREATED\tPARENT")
		for _, s := range found {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, dash(s.Name), s.Kind, s.Runtime, s.Image,
				bytesText(s.SizeBytes), s.CreatedAt.Local().Format(time.DateTime), dash(s.ParentID))
		}
		return table.Flush()
	})
}

// snapshotID finds the snapshot that a command line names by id or, where only
// one has it, by name.
func snapshotID(ctx context.Context, server *client.Client, ref string) (string, error) {
	if faas.ValidID(faas.PrefixSnapshot, ref) {
		return ref, nil
	}
	page, err := server.Snapshots(ctx, client.SnapshotFilter{Name: ref, ListOptions: client.ListOptions{Limit: 2}})
	switch {
	case err != nil:
		return "", err
	case len(page.Snapshots) == 0:
		return "", faas.Errorf(faas.KindNotFound, "there is no snapshot %q", ref)
	case len(page.Snapshots) > 1:
		return "", faas.Errorf(faas.KindInvalidArgument, "several snapshots are called %q: name one by its id", ref)
	}
	return page.Snapshots[0].ID, nil
}

type snapshotRmCommand struct {
	target
	Cascade   bool     `help:"With all that descend from them."`
	Snapshots []string `arg:"" help:"Ids or names."`
}

// Run implements the command.
func (c *snapshotRmCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		return eachOf(c.Snapshots, func(ref string) error {
			id, err := snapshotID(ctx, server, ref)
			if err != nil {
				return err
			}
			removed, err := server.DeleteSnapshot(ctx, id, c.Cascade)
			for _, id := range removed {
				fmt.Println(id)
			}
			return err
		})
	})
}

type snapshotRestoreCommand struct {
	target
	instanceFlags
	Snapshot string `arg:"" help:"Id or name."`
}

// Run implements the command.
func (c *snapshotRestoreCommand) Run(line *commands) error {
	settings, err := c.settings()
	if err != nil {
		return err
	}
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		id, err := snapshotID(ctx, server, c.Snapshot)
		if err != nil {
			return err
		}
		done := working("restoring " + c.Snapshot)
		made, err := server.RestoreSnapshot(ctx, id, settings)
		done()
		if err != nil {
			return err
		}
		printMade(made)
		return nil
	})
}

type snapshotDiffCommand struct {
	target
	JSON     bool   `help:"Print JSON."`
	Snapshot string `arg:"" help:"Id or name."`
	Against  string `arg:"" optional:"" help:"Snapshot to compare with (default: the image)."`
}

// Run implements the command.
func (c *snapshotDiffCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		id, err := snapshotID(ctx, server, c.Snapshot)
		if err != nil {
			return err
		}
		against := c.Against
		if against != "" {
			if against, err = snapshotID(ctx, server, against); err != nil {
				return err
			}
		}
		done := working("comparing")
		diff, err := server.SnapshotDiff(ctx, id, against)
		done()
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(diff)
		}
		return printDiff(diff)
	})
}

func printDiff(diff *faas.SnapshotDiff) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	for _, change := range diff.Changes {
		size := bytesText(change.NewSize)
		switch change.Change {
		case "removed":
			size = bytesText(change.OldSize)
		case "changed":
			size = bytesText(change.OldSize) + " → " + size
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", change.Change, change.Path, size)
	}
	if diff.OldMemory != 0 || diff.NewMemory != 0 {
		fmt.Fprintf(table, "memory\t\t%s → %s\n", bytesText(diff.OldMemory), bytesText(diff.NewMemory))
	}
	return table.Flush()
}

type snapshotTreeCommand struct {
	target
	JSON     bool   `help:"Print JSON."`
	Snapshot string `arg:"" optional:"" help:"Id or name of the one to start at (default: all)."`
}

// Run implements the command.
func (c *snapshotTreeCommand) Run(line *commands) error {
	return c.with(line, func(ctx context.Context, server *client.Client) error {
		id := c.Snapshot
		if id != "" {
			var err error
			if id, err = snapshotID(ctx, server, id); err != nil {
				return err
			}
		}
		roots, err := server.SnapshotTree(ctx, id)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(roots)
		}
		for _, root := range roots {
			drawTree(os.Stdout, root, "", "")
		}
		return nil
	})
}
