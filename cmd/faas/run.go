package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
	"github.com/faas-platform/faas/internal/config"
)

type runCommand struct {
	Server        string            `help:"Run on this server (default: api.url; without one, in this process)." placeholder:"URL"`
	Runtime       string            `short:"r" help:"${enum}." enum:"auto,native,docker,gvisor,firecracker,qemu" default:"auto"`
	Image         string            `help:"OCI reference, imported image or host (default: execution.image)." placeholder:"REF"`
	Mem           int64             `help:"MiB of memory." placeholder:"MIB"`
	Cpus          float64           `help:"Cores, fractions allowed." placeholder:"N"`
	Disk          int64             `help:"MiB of the writable layer." placeholder:"MIB"`
	Pids          int64             `help:"Processes and threads." placeholder:"N"`
	Timeout       time.Duration     `help:"Limit on the command's run time, such as 30s." placeholder:"TIME"`
	Env           []string          `short:"e" help:"Variable for the command; without a value, this process's own." placeholder:"NAME[=VALUE]" sep:"none"`
	Workdir       string            `short:"w" help:"Working directory inside." placeholder:"DIR"`
	User          string            `short:"u" help:"User inside: name or uid[:gid]." placeholder:"USER"`
	Network       string            `help:"${enum}." enum:"none,egress" default:"none"`
	Allow         []string          `help:"With --network egress: only to this network." placeholder:"CIDR"`
	File          []string          `short:"f" help:"Put a file of this machine into the sandbox." placeholder:"INSIDE=LOCAL" sep:"none"`
	Label         map[string]string `help:"Label kept with the execution." placeholder:"NAME=VALUE"`
	Interactive   bool              `short:"i" help:"Give the command this program's standard input (the default)."`
	NoStdin       bool              `short:"n" help:"Give the command an empty standard input."`
	Tty           bool              `short:"t" help:"Give the command a terminal."`
	AllowDegraded bool              `help:"Accept a weaker substitute, which is named on standard error."`

	Command []string `arg:"" passthrough:"partial" help:"The command, run as it is."`
}

// maxFiles bounds what --file reads into memory.
const maxFiles = 48 << 20

// Run implements the command.
func (c *runCommand) Run(line *commands) error {
	command := c.Command
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return faas.InvalidField("command", "is missing: faas run -- CMD…")
	}
	cfg, err := line.load(flag("--server", "api.url", c.Server)...)
	if err != nil {
		return err
	}
	req, err := c.request(command)
	if err != nil {
		return err
	}
	streams, err := openStreams(c.Tty, !c.NoStdin)
	if err != nil {
		return err
	}
	defer streams.close()
	result, err := c.execute(cfg, req, streams)
	streams.close() // the terminal is itself again before anything is printed
	if err != nil {
		if forced := streams.forced(); forced != 0 {
			return exitError(128 + int(forced))
		}
		return err
	}
	return report(result)
}

// execute runs the request on the server that is configured, or here.
func (c *runCommand) execute(cfg *config.Loaded, req faas.Request, s *streams) (*faas.Result, error) {
	remote, err := server(cfg)
	if err != nil {
		return nil, err
	}
	if remote != nil {
		return runRemote(s.ctx, remote, req, s)
	}
	engine, closeEngine, err := library(s.ctx, cfg, req.Runtime)
	if err != nil {
		return nil, err
	}
	defer closeEngine()
	req.Stdin, req.Stdout, req.Stderr = s.stdin, s.stdout, s.stderr
	req.TTY, req.Resize, req.Signals = s.tty, s.resize, s.signals
	return engine.Execute(s.ctx, req)
}

// runRemote runs the request on a server.
func runRemote(ctx context.Context, remote *client.Client, req faas.Request, s *streams) (*faas.Result, error) {
	body := api.ExecuteRequest{
		Command: api.Command{Args: req.Command}, Image: req.Image, Runtime: req.Runtime,
		EnvVars: req.Env, WorkingDir: req.WorkingDir, User: req.User, TimeoutMS: req.Timeout.Milliseconds(),
		CPUCores: req.Resources.CPUCores, MemoryMB: req.Resources.MemoryMB, DiskMB: req.Resources.DiskMB, PIDs: req.Resources.PIDs,
		Network: &req.Network, AllowDegraded: req.AllowDegraded, Labels: req.Labels,
	}
	if len(req.Files) > 0 {
		body.Files = make(map[string]api.File, len(req.Files))
		for path, content := range req.Files {
			body.Files[path] = content
		}
	}
	response, err := remote.Run(ctx, body, client.RunOptions{
		Stdin: s.stdin, Stdout: s.stdout, Stderr: s.stderr, TTY: s.tty, Resize: s.resize, Signals: s.signals,
	})
	if err != nil {
		return nil, err
	}
	return response.Result(), nil
}

// report says what the command itself could not, and exits as it did.
func report(result *faas.Result) error {
	if result.Degraded != "" {
		fmt.Fprintln(os.Stderr, "faas: degraded:", result.Degraded)
	}
	if result.Error != "" {
		fmt.Fprintln(os.Stderr, "faas:", result.Error)
	}
	if result.ExitCode == 0 {
		return nil
	}
	return exitError(result.ExitCode)
}

// request turns the flags into a request without its streams.
func (c *runCommand) request(command []string) (faas.Request, error) {
	req := faas.Request{
		Project: faas.DefaultProject, Command: command, Image: c.Image, Runtime: faas.Runtime(c.Runtime),
		WorkingDir: c.Workdir, User: c.User, Timeout: c.Timeout, AllowDegraded: c.AllowDegraded, Labels: c.Label,
		Resources: faas.Resources{CPUCores: c.Cpus, MemoryMB: c.Mem, DiskMB: c.Disk, PIDs: c.Pids},
		Network:   faas.NetworkPolicy{Mode: faas.NetworkMode(c.Network), Allow: c.Allow},
	}
	for name, wrong := range map[string]bool{
		"--mem": c.Mem < 0, "--cpus": c.Cpus < 0, "--disk": c.Disk < 0, "--pids": c.Pids < 0, "--timeout": c.Timeout < 0,
	} {
		if wrong {
			return req, faas.InvalidField(name, "must not be negative")
		}
	}
	req.Env = environment(c.Env)
	var err error
	req.Files, err = readFiles(c.File)
	return req, err
}

// environment reads NAME=VALUE, and NAME for a variable of this process.
func environment(given []string) map[string]string {
	if len(given) == 0 {
		return nil
	}
	env := make(map[string]string, len(given))
	for _, text := range given {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				continue
			}
		}
		env[name] = value
	}
	return env
}

// readFiles reads the files of INSIDE=LOCAL.
func readFiles(given []string) (map[string][]byte, error) {
	if len(given) == 0 {
		return nil, nil
	}
	files := make(map[string][]byte, len(given))
	left := int64(maxFiles)
	for _, text := range given {
		inside, local, ok := strings.Cut(text, "=")
		if !ok || inside == "" || local == "" {
			return nil, faas.InvalidField("--file", "%q is not INSIDE=LOCAL", text)
		}
		content, err := readFile(local, left)
		if err != nil {
			return nil, err
		}
		left -= int64(len(content))
		files[inside] = content
	}
	return files, nil
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &faas.Error{Kind: faas.KindInvalidArgument, Field: "--file", Detail: "cannot be read", Err: err}
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, &faas.Error{Kind: faas.KindInvalidArgument, Field: "--file", Detail: "cannot be read", Err: err}
	}
	if int64(len(content)) > limit {
		return nil, faas.InvalidField("--file", "files are larger than %d bytes together: give them on standard input, as a tar", maxFiles)
	}
	return content, nil
}
