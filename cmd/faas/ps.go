package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/faas-platform/faas"
)

type psCommand struct {
	Server string `help:"Server to ask (default: api.url; without one, this user's own record)." placeholder:"URL"`
	Limit  int    `short:"n" default:"20" help:"Executions to list, at most 1000."`
	JSON   bool   `help:"Print JSON."`
}

// Run implements the command.
func (c *psCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	found, err := c.list(ctx, line)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(found)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATUS\tRUNTIME\tIMAGE\tSTARTED\tEXIT\tCOMMAND")
	for _, e := range found {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, e.Status, e.Runtime, e.Image,
			e.CreatedAt.Local().Format(time.DateTime), exitOf(e), shorten(strings.Join(e.Command, " ")))
	}
	return table.Flush()
}

func (c *psCommand) list(ctx context.Context, line *commands) ([]faas.Execution, error) {
	cfg, err := line.load(flag("--server", "api.url", c.Server)...)
	if err != nil {
		return nil, err
	}
	remote, err := server(cfg)
	if err != nil {
		return nil, err
	}
	if remote != nil {
		page, err := remote.Executions(ctx, c.Limit, "")
		if err != nil {
			return nil, err
		}
		return page.Executions, nil
	}
	engine, closeEngine, err := library(ctx, cfg, "none")
	if err != nil {
		return nil, err
	}
	defer closeEngine()
	found, _, err := engine.Executions(ctx, faas.DefaultProject, c.Limit, "")
	if found == nil {
		found = []faas.Execution{}
	}
	return found, err
}

func exitOf(e faas.Execution) string {
	if e.Result == nil {
		return "-"
	}
	return fmt.Sprint(e.Result.ExitCode)
}

// shorten keeps a line of a command readable in a table.
func shorten(text string) string {
	const longest = 60
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest-1]) + "…"
	}
	return text
}
