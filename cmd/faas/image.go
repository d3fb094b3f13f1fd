package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/faas-platform/faas/image"
)

type imageCommand struct {
	Pull   pullCommand        `cmd:"" help:"Fetch an image from a registry."`
	Import importCommand      `cmd:"" help:"Take in a root file system tar, an OCI layout or a docker save tar."`
	Ls     listImagesCommand  `cmd:"" help:"List images."`
	Rm     removeImageCommand `cmd:"" help:"Remove images."`
	Kernel kernelCommand      `cmd:"" help:"Manage the kernels of microVMs."`
}

type pullCommand struct {
	Ref      string `arg:"" help:"OCI reference, such as ghcr.io/you/app:1."`
	Platform string `help:"os/arch[/variant] (default: linux on this machine's)." placeholder:"PLATFORM"`
	Policy   string `enum:"missing,always,never" default:"always" help:"When to ask the registry: ${enum}."`
	Quiet    bool   `short:"q" help:"Print the digest only."`
}

// Run implements the command.
func (c *pullCommand) Run(line *commands) error {
	return withImages(line, func(ctx context.Context, store *image.Store) error {
		progress := newProgress(c.Quiet)
		pulled, err := store.Pull(ctx, c.Ref, image.PullOptions{
			Platform: c.Platform, Policy: image.Policy(c.Policy), Progress: progress.report,
		})
		progress.close(err == nil)
		if err != nil {
			return err
		}
		printImage(c.Ref, pulled, c.Quiet)
		return nil
	})
}

type importCommand struct {
	Source string `arg:"" help:"File or directory; - for standard input."`
	Name   string `arg:"" optional:"" help:"Name to give it, such as app:1 (default: what the archive says)."`
}

// Run implements the command.
func (c *importCommand) Run(line *commands) error {
	return withImages(line, func(ctx context.Context, store *image.Store) error {
		var imported *image.Image
		var err error
		if c.Source == "-" {
			imported, err = store.Import(ctx, io.Reader(os.Stdin), c.Name)
		} else {
			imported, err = store.ImportPath(ctx, c.Source, c.Name)
		}
		if err != nil {
			return err
		}
		printImage(c.Name, imported, false)
		return nil
	})
}

// printImage says what there is now.
func printImage(asked string, i *image.Image, quiet bool) {
	if quiet {
		fmt.Println(i.Digest)
		return
	}
	name := asked
	if name == "" && len(i.Names) > 0 {
		name = i.Names[0]
	}
	fmt.Printf("%s %s (%s, %s, %d layers)\n", name, i.Digest, i.Platform, bytesText(i.SizeBytes), len(i.Layers))
	for _, limitation := range i.Limitations {
		fmt.Fprintln(os.Stderr, "faas: note:", limitation)
	}
}

type listImagesCommand struct {
	JSON bool `help:"Print JSON."`
}

// Run implements the command.
func (c *listImagesCommand) Run(line *commands) error {
	return withImages(line, func(ctx context.Context, store *image.Store) error {
		found, err := store.List(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			if found == nil {
				found = []*image.Image{}
			}
			return printJSON(map[string]any{"images": found})
		}
		table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tDIGEST\tPLATFORM\tSIZE\tIN USE\tSOURCE")
		for _, i := range found {
			names := i.Names
			if len(names) == 0 {
				names = []string{"-"}
			}
			for _, name := range names {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\n", name, shortDigest(i.Digest), i.Platform, bytesText(i.SizeBytes), i.InUse, i.Source)
			}
		}
		return table.Flush()
	})
}

type removeImageCommand struct {
	Refs []string `arg:"" help:"References or digests."`
}

// Run implements the command.
func (c *removeImageCommand) Run(line *commands) error {
	return withImages(line, func(ctx context.Context, store *image.Store) error {
		for _, ref := range c.Refs {
			freed, err := store.Remove(ctx, ref)
			if err != nil {
				return err
			}
			fmt.Printf("removed %s, %s freed\n", ref, bytesText(freed))
		}
		return nil
	})
}

// withImages opens the image store of this installation for one command.
func withImages(line *commands, use func(context.Context, *image.Store) error) error {
	ctx, stop := interruptible()
	defer stop()
	cfg, err := line.load()
	if err != nil {
		return err
	}
	if cfg.API.URL != "" {
		fmt.Fprintln(os.Stderr, "faas: images are those of this machine, not of", cfg.API.URL)
	}
	store, err := openImages(cfg, logger(cfg))
	if err != nil {
		return err
	}
	return use(ctx, store)
}

// bytesText writes a size for people.
func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n)/unit, 0
	for value >= unit && i < 4 {
		value /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[i])
}

// shortDigest keeps as much of a digest as tells images apart.
func shortDigest(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok || len(hex) < 12 {
		return digest
	}
	return hex[:12]
}
