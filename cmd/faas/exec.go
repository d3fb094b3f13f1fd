package main

import (
	"context"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

type execCommand struct {
	target
	Timeout     time.Duration     `help:"Limit on the command's run time, such as 30s." placeholder:"TIME"`
	Env         []string          `short:"e" help:"Variable for the command; without a value, this process's own." placeholder:"NAME[=VALUE]" sep:"none"`
	Workdir     string            `short:"w" help:"Working directory inside." placeholder:"DIR"`
	User        string            `short:"u" help:"User inside: name or uid[:gid]." placeholder:"USER"`
	File        []string          `short:"f" help:"Put a file of this machine into the instance." placeholder:"INSIDE=LOCAL" sep:"none"`
	Label       map[string]string `help:"Label kept with the execution." placeholder:"NAME=VALUE"`
	Interactive bool              `short:"i" help:"Give the command this program's standard input (the default)."`
	NoStdin     bool              `short:"n" help:"Give the command an empty standard input."`
	Tty         bool              `short:"t" help:"Give the command a terminal."`

	Instance string   `arg:"" help:"Id or name."`
	Command  []string `arg:"" passthrough:"partial" help:"The command, run as it is."`
}

// Run implements the command.
func (c *execCommand) Run(line *commands) error {
	command := c.Command
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return faas.InvalidField("command", "is missing: faas exec INSTANCE -- CMD…")
	}
	if c.Timeout < 0 {
		return faas.InvalidField("--timeout", "must not be negative")
	}
	files, err := readFiles(c.File)
	if err != nil {
		return err
	}
	req := api.ExecRequest{
		Command: api.Command{Args: command}, EnvVars: environment(c.Env), WorkingDir: c.Workdir, User: c.User,
		TimeoutMS: c.Timeout.Milliseconds(), Labels: c.Label,
	}
	if len(files) > 0 {
		req.Files = make(map[string]api.File, len(files))
		for path, content := range files {
			req.Files[path] = content
		}
	}
	server, done, err := c.connect(context.Background(), line)
	if err != nil {
		return err
	}
	defer done()
	return c.run(server, req)
}

// run joins the command to this process's streams and exits as it does.
func (c *execCommand) run(server *client.Client, req api.ExecRequest) error {
	s, err := openStreams(c.Tty, !c.NoStdin)
	if err != nil {
		return err
	}
	defer s.close()
	response, err := server.RunIn(s.ctx, c.Instance, req, client.RunOptions{
		Stdin: s.stdin, Stdout: s.stdout, Stderr: s.stderr, TTY: s.tty, Resize: s.resize, Signals: s.signals,
	})
	s.close() // the terminal is itself again before anything is printed
	if err != nil {
		if forced := s.forced(); forced != 0 {
			return exitError(128 + int(forced))
		}
		return err
	}
	return report(response.Result())
}
