package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/client"
)

// snapshotStore is what these commands ask: a server, or the executor in this
// process.
type snapshotStore interface {
	export(ctx context.Context, id string, kind faas.SnapshotKind, w io.Writer) error
	imported(ctx context.Context, r io.Reader, kind faas.SnapshotKind, name string) (*faas.Snapshot, error)
	verify(ctx context.Context, ids []string) ([]faas.SnapshotProblem, error)
	collect(ctx context.Context) (int64, error)
	key(ctx context.Context) (string, error)
}

// withSnapshots opens the snapshots of a server, or those of this user.
func withSnapshots(line *commands, address string, use func(context.Context, snapshotStore) error) error {
	ctx, stop := interruptible()
	defer stop()
	cfg, err := line.load(flag("--server", "api.url", address)...)
	if err != nil {
		return err
	}
	remote, err := server(cfg)
	if err != nil {
		return err
	}
	if remote != nil {
		return use(ctx, remoteSnapshots{remote})
	}
	engine, closeEngine, err := library(ctx, cfg, faas.RuntimeAuto)
	if err != nil {
		return err
	}
	defer closeEngine()
	return use(ctx, localSnapshots{engine})
}

type exportSnapshotCommand struct {
	Server string `help:"Server that has it (default: api.url; without one, this user's own)." placeholder:"URL"`
	ID     string `arg:"" help:"Snapshot."`
	Output string `short:"o" default:"-" help:"File to write; - for standard output." placeholder:"FILE"`
	Kind   string `enum:"auto,fs,full" default:"auto" help:"fs: without memory and processes."`
	Quiet  bool   `short:"q" help:"Show no progress."`
}

// Run implements the command.
func (c *exportSnapshotCommand) Run(line *commands) error {
	return withSnapshots(line, c.Server, func(ctx context.Context, s snapshotStore) error {
		shown := newProgress(c.Quiet)
		out := &counted{step: "export " + c.ID, progress: shown}
		err := writeWhole(c.Output, func(w io.Writer) error {
			out.w = w
			return s.export(ctx, c.ID, faas.SnapshotKind(c.Kind), out)
		})
		shown.close(err == nil)
		return err
	})
}

// writeWhole writes a file that is there when all of it is, or standard output.
func writeWhole(path string, write func(io.Writer) error) error {
	if path == "-" {
		return write(os.Stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".faas-*")
	if err != nil {
		return err
	}
	err = write(f)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// counted shows how many bytes went through it.
type counted struct {
	w        io.Writer
	r        io.Reader
	step     string
	progress *progress
	done     int64
	total    int64 // 0: not known
}

// Write implements io.Writer.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.done += int64(n)
	c.progress.report(c.step, c.done, c.total)
	return n, err
}

// Read implements io.Reader.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.done += int64(n)
	c.progress.report(c.step, c.done, c.total)
	return n, err
}

type importSnapshotCommand struct {
	Server string `help:"Server to bring it to (default: api.url; without one, this user's own)." placeholder:"URL"`
	Source string `arg:"" help:"File that export wrote; - for standard input."`
	Name   string `help:"Name, in the place of its own." placeholder:"NAME"`
	Kind   string `enum:"auto,fs,full" default:"auto" help:"fs: its files only; full: fail unless memory and processes are taken in."`
	Quiet  bool   `short:"q" help:"Print the id only."`
	JSON   bool   `help:"Print JSON."`
}

// Run implements the command.
func (c *importSnapshotCommand) Run(line *commands) error {
	return withSnapshots(line, c.Server, func(ctx context.Context, s snapshotStore) error {
		in := &counted{r: os.Stdin, step: "import " + c.Source}
		if c.Source != "-" {
			f, err := os.Open(c.Source)
			if err != nil {
				return err
			}
			defer f.Close()
			in.r = f
			if info, err := f.Stat(); err == nil {
				in.total = info.Size()
			}
		}
		in.progress = newProgress(c.Quiet || c.JSON)
		made, err := s.imported(ctx, in, faas.SnapshotKind(c.Kind), c.Name)
		in.progress.close(err == nil)
		switch {
		case err != nil:
			return err
		case c.JSON:
			return printJSON(made)
		case c.Quiet:
			fmt.Println(made.ID)
		default:
			fmt.Printf("%s (%s, %s, image %s, %s)\n", made.ID, made.Kind, made.Runtime, made.Image, bytesText(made.SizeBytes))
		}
		return nil
	})
}

type verifySnapshotCommand struct {
	Server string   `help:"Server that has them (default: api.url; without one, this user's own)." placeholder:"URL"`
	IDs    []string `arg:"" optional:"" help:"Snapshots, with the layers below them (default: all of the project)."`
	JSON   bool     `help:"Print JSON."`
}

// Run implements the command.
func (c *verifySnapshotCommand) Run(line *commands) error {
	return withSnapshots(line, c.Server, func(ctx context.Context, s snapshotStore) error {
		problems, err := s.verify(ctx, c.IDs)
		if err != nil {
			return err
		}
		if c.JSON {
			if err := printJSON(map[string]any{"problems": problems}); err != nil {
				return err
			}
		} else if len(problems) > 0 {
			table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(table, "SNAPSHOT\tTIER\tFILE\tPROBLEM")
			for _, p := range problems {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", p.SnapshotID, p.Tier, p.Path, p.Detail)
			}
			if err := table.Flush(); err != nil {
				return err
			}
		} else {
			fmt.Println("every byte is what was saved")
		}
		if len(problems) > 0 {
			return exitError(exitFailure)
		}
		return nil
	})
}

type collectSnapshotsCommand struct {
	Server string `help:"Server to ask (default: api.url; without one, this user's own)." placeholder:"URL"`
}

// Run implements the command.
func (c *collectSnapshotsCommand) Run(line *commands) error {
	return withSnapshots(line, c.Server, func(ctx context.Context, s snapshotStore) error {
		freed, err := s.collect(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("%s freed in the cold tier\n", bytesText(freed))
		return nil
	})
}

type snapshotKeyCommand struct {
	Server string `help:"Server whose key it is (default: api.url; without one, this user's own)." placeholder:"URL"`
}

// Run implements the command.
func (c *snapshotKeyCommand) Run(line *commands) error {
	return withSnapshots(line, c.Server, func(ctx context.Context, s snapshotStore) error {
		key, err := s.key(ctx)
		if err == nil {
			fmt.Println(key)
		}
		return err
	})
}

// remoteSnapshots are those of a server.
type remoteSnapshots struct{ *client.Client }

func (r remoteSnapshots) export(ctx context.Context, id string, kind faas.SnapshotKind, w io.Writer) error {
	return r.ExportSnapshot(ctx, id, kind, w)
}

func (r remoteSnapshots) imported(ctx context.Context, from io.Reader, kind faas.SnapshotKind, name string) (*faas.Snapshot, error) {
	s, err := r.ImportSnapshot(ctx, from, kind, name)
	if err != nil {
		return nil, err
	}
	return &faas.Snapshot{ID: s.ID, Name: s.Name, Kind: s.Kind, Runtime: s.Runtime, Image: s.Image, ImageDigest: s.ImageDigest,
		CreatedAt: s.CreatedAt, SizeBytes: s.SizeBytes, MemoryBytes: s.MemoryBytes, Depth: s.Depth, Tier: s.Tier}, nil
}

func (r remoteSnapshots) verify(ctx context.Context, ids []string) ([]faas.SnapshotProblem, error) {
	return r.VerifySnapshots(ctx, ids...)
}

func (r remoteSnapshots) collect(ctx context.Context) (int64, error) { return r.CollectSnapshots(ctx) }
func (r remoteSnapshots) key(ctx context.Context) (string, error)    { return r.SnapshotKey(ctx) }
