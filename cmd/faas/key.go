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

type keyCommand struct {
	Create createKeyCommand `cmd:"" help:"Make an API key and print it; it is shown this once."`
	Ls     listKeysCommand  `cmd:"" help:"List API keys."`
	Rm     removeKeyCommand `cmd:"" help:"Revoke API keys."`
}

// remoteFlags say which server a command is for.
type remoteFlags struct {
	Server string `help:"Server to ask (default: api.url, then this machine's)." placeholder:"URL"`
	JSON   bool   `help:"Print JSON."`
}

// client returns a client of the server, by default this machine's.
func (r remoteFlags) client(line *commands) (*client.Client, error) {
	cfg, err := line.load(flag("--server", "api.url", r.Server)...)
	if err != nil {
		return nil, err
	}
	if cfg.API.URL == "" {
		cfg.API.URL = scheme(cfg) + "://" + cfg.Server.Listen
	}
	return server(cfg)
}

type createKeyCommand struct {
	remoteFlags
	Name        string        `arg:"" help:"What the key is for."`
	Project     string        `help:"Project of the key (default: that of the key that asks)."`
	Role        string        `enum:"admin,user,read-only" default:"user" help:"What it may do: ${enum}."`
	Scope       []string      `help:"Areas of the API that it is for, such as execute or images:read (default: all)."`
	TTL         time.Duration `help:"How long it lives (default: for ever)."`
	Executions  int64         `help:"Executions a day."`
	Concurrency int64         `help:"Executions and instances at one time."`
	MemoryMB    int64         `name:"memory-mb" help:"MiB of memory at one time."`
	DiskMB      int64         `name:"disk-mb" help:"MiB of disk at one time."`
	Rate        float64       `help:"Requests a second."`
}

// Run implements the command.
func (c *createKeyCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	remote, err := c.client(line)
	if err != nil {
		return err
	}
	made, err := remote.CreateAPIKey(ctx, api.CreateAPIKeyRequest{
		Name: c.Name, Project: c.Project, Role: c.Role, Scopes: c.Scope, TTLMS: c.TTL.Milliseconds(),
		Quota: &api.Quota{ExecutionsPerDay: c.Executions, Concurrency: c.Concurrency, MemoryMB: c.MemoryMB, DiskMB: c.DiskMB, RatePerSecond: c.Rate},
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(made)
	}
	fmt.Fprintf(os.Stderr, "faas: %s is the %s key %s of the project %s; it is shown this once\n", made.ID, made.Role, made.Name, made.Project)
	fmt.Println(made.Key)
	return nil
}

type listKeysCommand struct {
	remoteFlags
	Project string `help:"Keys of this project; * means all."`
}

// Run implements the command.
func (c *listKeysCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	remote, err := c.client(line)
	if err != nil {
		return err
	}
	keys := []api.APIKey{}
	for cursor := ""; ; {
		page, err := remote.APIKeys(ctx, c.Project, cursor)
		if err != nil {
			return err
		}
		keys = append(keys, page.APIKeys...)
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if c.JSON {
		return printJSON(map[string]any{"api_keys": keys})
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tPROJECT\tROLE\tSCOPES\tEXPIRES\tLAST USED")
	for _, k := range keys {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, k.Project, k.Role, dash(strings.Join(k.Scopes, ",")), timeOrDash(k.ExpiresAt), timeOrDash(k.LastUsedAt))
	}
	return table.Flush()
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func timeOrDash(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

type removeKeyCommand struct {
	remoteFlags
	IDs []string `arg:"" help:"Ids of keys."`
}

// Run implements the command.
func (c *removeKeyCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	remote, err := c.client(line)
	if err != nil {
		return err
	}
	for _, id := range c.IDs {
		if _, err := remote.DeleteAPIKey(ctx, id); err != nil {
			return err
		}
		fmt.Println("revoked", id)
	}
	return nil
}

type auditCommand struct {
	remoteFlags
	Project string        `help:"Events of this project; * means all."`
	Key     string        `help:"Only what this key did." placeholder:"ID"`
	Action  string        `help:"Only this action, such as create-api-key."`
	Object  string        `help:"Only what was done to this." placeholder:"ID"`
	Since   time.Duration `help:"Only as long ago as this."`
	Limit   int           `short:"n" default:"50" help:"Events to list."`
}

// Run implements the command.
func (c *auditCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	remote, err := c.client(line)
	if err != nil {
		return err
	}
	events, err := c.list(ctx, remote)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(map[string]any{"events": events})
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "TIME\tPROJECT\tKEY\tFROM\tACTION\tOBJECT\tOUTCOME")
	for _, e := range events {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.At.Local().Format(time.DateTime), e.Project, dash(e.KeyID), dash(e.Remote), e.Action, dash(e.Object), e.Outcome)
	}
	return table.Flush()
}

func (c *auditCommand) list(ctx context.Context, remote *client.Client) ([]api.AuditEvent, error) {
	if c.Limit < 1 {
		return nil, faas.InvalidField("--limit", "must be at least 1")
	}
	q := client.AuditQuery{Project: c.Project, KeyID: c.Key, Action: c.Action, Object: c.Object}
	if c.Since > 0 {
		q.Since = time.Now().Add(-c.Since)
	}
	events := []api.AuditEvent{}
	for {
		q.Limit = min(c.Limit-len(events), 1000)
		page, err := remote.Audit(ctx, q)
		if err != nil {
			return nil, err
		}
		events = append(events, page.Events...)
		if q.Cursor = page.NextCursor; q.Cursor == "" || len(events) >= c.Limit {
			return events, nil
		}
	}
}

type usageCommand struct {
	remoteFlags
	Project string        `help:"Use of this project; * means all."`
	Key     string        `help:"Only what this key used." placeholder:"ID"`
	Since   time.Duration `default:"720h" help:"As long ago as this."`
}

// Run implements the command.
func (c *usageCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	remote, err := c.client(line)
	if err != nil {
		return err
	}
	records, err := remote.Usage(ctx, client.UsageQuery{Project: c.Project, KeyID: c.Key, Since: time.Now().Add(-c.Since)})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(map[string]any{"records": records})
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "HOUR\tPROJECT\tKEY\tEXECUTIONS\tCPU MS\tMEMORY MB·S\tSNAPSHOTS")
	for _, u := range records {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%.0f\t%s\n", u.Hour.Local().Format("2006-01-02 15:00"), u.Project, dash(u.KeyID), u.Executions, u.CPUMS, u.MemoryMBSeconds, bytesText(u.SnapshotBytes))
	}
	return table.Flush()
}
