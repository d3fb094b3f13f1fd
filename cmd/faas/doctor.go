package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/config"
)

type doctorCommand struct {
	Server string `help:"Look at this server's machine (default: api.url; without one, at this machine)." placeholder:"URL"`
	JSON   bool   `help:"Print JSON."`
	Matrix bool   `help:"Print what every runtime does on which platform, as in docs/platforms.md, and look at nothing."`
	Verify bool   `help:"Run the user-facing conformance checks on every runtime that is available here."`
}

// probeTimeout bounds all probes together; the slowest boots a machine.
const probeTimeout = 2 * time.Minute

// Run implements the command.
func (c *doctorCommand) Run(line *commands) error {
	if c.Matrix {
		fmt.Print(matrix())
		return nil
	}
	ctx, stop := interruptible()
	defer stop()
	cfg, err := line.load(flag("--server", "api.url", c.Server)...)
	if err != nil {
		return err
	}
	if c.Verify {
		if c.Server != "" {
			return faas.InvalidField("--verify", "checks this machine: leave --server out")
		}
		return verify(ctx, cfg, c.JSON)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	remote, err := server(cfg)
	if err != nil {
		return err
	}
	var found []faas.Capabilities
	if remote != nil {
		found, err = remote.Runtimes(ctx, true)
	} else {
		found, err = probe(ctx, cfg)
	}
	if err != nil {
		return err
	}
	found = everyRuntime(found)
	if c.JSON {
		return printJSON(map[string]any{"runtimes": found})
	}
	return printCapabilities(os.Stdout, found, term.IsTerminal(int(os.Stdout.Fd())))
}

// probe tries out this machine's runtimes at once, without the state of an
// installation.
func probe(ctx context.Context, cfg *config.Loaded) ([]faas.Capabilities, error) {
	opened := drivers(cfg, slog.New(slog.DiscardHandler), faas.RuntimeAuto)
	found := make([]faas.Capabilities, len(opened))
	var probes sync.WaitGroup
	for i, d := range opened {
		probes.Go(func() { found[i] = d.Probe(ctx) })
	}
	probes.Wait()
	if err := closeDrivers(opened); err != nil {
		return nil, err
	}
	return found, ctx.Err()
}

// everyRuntime puts the runtimes into their order, and those that the policy
// leaves out beside the others.
func everyRuntime(found []faas.Capabilities) []faas.Capabilities {
	var all []faas.Capabilities
	for _, name := range faas.Runtimes() {
		i := slices.IndexFunc(found, func(c faas.Capabilities) bool { return c.Runtime == name })
		if i >= 0 {
			all = append(all, found[i])
			continue
		}
		all = append(all, faas.Capabilities{
			Runtime: name, Features: []faas.Capability{}, ProbedAt: time.Now().UTC(),
			Reason: "the configuration does not allow it", Remedy: "name it in policy.allowed",
		})
	}
	return all
}

// printCapabilities writes one block a runtime: what works, and for the rest
// why it does not and what helps.
func printCapabilities(w io.Writer, all []faas.Capabilities, color bool) error {
	paint := func(code, text string) string {
		if !color {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	mark := func(available bool) string {
		if available {
			return paint("32", "yes")
		}
		return paint("31", "no ")
	}
	for i, c := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		title := strings.TrimSpace(string(c.Runtime) + "  " + c.Version)
		fmt.Fprintf(w, "%s  %s", mark(c.Available), paint("1", title))
		if c.Detail != "" {
			fmt.Fprintf(w, "  (%s)", c.Detail)
		}
		fmt.Fprintln(w)
		if !c.Available {
			printWhy(w, "     ", c.Reason, c.Remedy)
			continue
		}
		for _, f := range faas.Features() {
			have := c.Feature(f)
			fmt.Fprintf(w, "  %s  %-18s", mark(have.Available), f)
			if have.Available {
				fmt.Fprintln(w, have.Detail)
				continue
			}
			fmt.Fprintln(w, have.Reason)
			printWhy(w, "                          ", "", have.Remedy)
		}
	}
	return nil
}

func printWhy(w io.Writer, indent, reason, remedy string) {
	if reason != "" {
		fmt.Fprintln(w, indent+reason)
	}
	if remedy != "" {
		fmt.Fprintln(w, indent+"→ "+remedy)
	}
}
