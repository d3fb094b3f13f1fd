package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

// remote is what commands share that only a server can do.
type remote struct {
	Server string `help:"Server to ask (default: api.url)." placeholder:"URL"`
}

// dial returns a client of the server.
func (r *remote) dial(line *commands) (*client.Client, error) {
	cfg, err := line.load(flag("--server", "api.url", r.Server)...)
	if err != nil {
		return nil, err
	}
	c, err := server(cfg)
	if err != nil || c != nil {
		return c, err
	}
	cfg.API.URL = client.DefaultURL
	return server(cfg)
}

type logsCommand struct {
	remote

	ID     string `arg:"" help:"Execution."`
	Follow bool   `short:"f" help:"Go on until the execution ends."`
}

// Run implements the command.
func (c *logsCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	from, err := c.dial(line)
	if err != nil {
		return err
	}
	if !c.Follow {
		logs, err := from.Logs(ctx, c.ID)
		if err != nil {
			return err
		}
		return writeLogs(logs)
	}
	for frame, err := range from.FollowLogs(ctx, c.ID) {
		if err != nil {
			return err
		}
		to := os.Stdout
		switch frame.Type {
		case api.FrameStderr:
			to = os.Stderr
		case api.FrameError:
			return frame.Error.Err(0)
		}
		if frame.Lost > 0 {
			fmt.Fprintf(os.Stderr, "faas: %d bytes are not kept\n", frame.Lost)
		}
		if _, err := to.Write(frame.Output()); err != nil {
			return err
		}
	}
	return nil
}

func writeLogs(logs *api.Logs) error {
	stdout, stderr := []byte(logs.Stdout), []byte(logs.Stderr)
	if logs.StdoutBase64 != nil {
		stdout = logs.StdoutBase64
	}
	if logs.StderrBase64 != nil {
		stderr = logs.StderrBase64
	}
	_, outErr := os.Stdout.Write(stdout)
	_, errErr := os.Stderr.Write(stderr)
	if logs.Truncated {
		fmt.Fprintln(os.Stderr, "faas: there was more than is kept")
	}
	return errors.Join(outErr, errErr)
}

type eventsCommand struct {
	remote

	Types []string `help:"Only these, as instance or execution.ended." placeholder:"TYPE"`
	Since int64    `help:"Continue after the event of this number."`
	JSON  bool     `help:"Print JSON, one event a line."`
}

// Run implements the command.
func (c *eventsCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	from, err := c.dial(line)
	if err != nil {
		return err
	}
	for e, err := range from.Events(ctx, client.EventOptions{Since: c.Since, Types: c.Types}) {
		if err != nil {
			return err
		}
		if c.JSON {
			err = json.NewEncoder(os.Stdout).Encode(e)
		} else {
			_, err = fmt.Printf("%s  %-18s  %s  %s\n", e.Time.Local().Format(time.DateTime), e.Type, e.ID, eventStatus(&e))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func eventStatus(e *api.Event) string {
	switch {
	case e.Instance != nil:
		return string(e.Instance.Status)
	case e.Execution != nil:
		return string(e.Execution.Status)
	case e.Snapshot != nil:
		return string(e.Snapshot.Kind)
	}
	return ""
}

type portCommand struct {
	Expose portExposeCommand `cmd:"" help:"Let a port of an instance be reached."`
	Ls     portListCommand   `cmd:"" help:"List exposed ports."`
	Rm     portCloseCommand  `cmd:"" help:"End the exposure of a port."`
}

type portExposeCommand struct {
	remote

	Instance  string `arg:"" help:"Instance, by id or name."`
	Port      int    `arg:"" help:"Port inside."`
	Subdomain string `help:"Name before the server's domain (default: the port and the instance)."`
	Protocol  string `enum:"http,h2c,tcp" default:"http" help:"http, h2c (gRPC) or tcp."`
	Public    bool   `help:"Ask for no key."`
}

// Run implements the command.
func (c *portExposeCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	to, err := c.dial(line)
	if err != nil {
		return err
	}
	request := api.ExposeRequest{InstanceID: c.Instance, InternalPort: c.Port, Subdomain: c.Subdomain, Protocol: faas.PortProtocol(c.Protocol)}
	if c.Public {
		request.Access = faas.PortPublic
	}
	p, err := to.ExposePort(ctx, request)
	if err != nil {
		return err
	}
	fmt.Println(p.PublicURL)
	return nil
}

type portListCommand struct {
	remote

	Instance string `arg:"" optional:"" help:"Only those of this instance."`
	JSON     bool   `help:"Print JSON."`
}

// Run implements the command.
func (c *portListCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	from, err := c.dial(line)
	if err != nil {
		return err
	}
	list, err := from.Ports(ctx, c.Instance)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(list)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tINSTANCE\tPORT\tPROTOCOL\tACCESS\tURL")
	for _, p := range list {
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\n", p.ID, p.InstanceID, p.InternalPort, p.Protocol, p.Access, p.PublicURL)
	}
	return table.Flush()
}

type portCloseCommand struct {
	remote

	ID string `arg:"" help:"Exposed port."`
}

// Run implements the command.
func (c *portCloseCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	at, err := c.dial(line)
	if err != nil {
		return err
	}
	return at.ClosePort(ctx, c.ID)
}
