// Command faas runs commands in sandboxes, and serves the HTTP API that does.
//
// It is the one place that names concrete drivers (drivers.go); everything
// else is wiring between the command line, the configuration and packages that
// know nothing of either.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is stamped by the build.
var version = "dev"

// commands is the command line.
type commands struct {
	Config string   `help:"Configuration file (default: FAAS_CONFIG, then the usual place)." placeholder:"FILE"`
	Set    []string `help:"Override a setting, such as execution.memory_mb=256." placeholder:"KEY=VALUE" sep:"none"`

	Run        runCommand        `cmd:"" help:"Run a command in a sandbox."`
	Serve      serveCommand      `cmd:"" help:"Serve the HTTP API."`
	Doctor     doctorCommand     `cmd:"" help:"Show what every runtime can do on this machine, and what to do about the rest."`
	Image      imageCommand      `cmd:"" help:"Manage images."`
	Pool       poolCommand       `cmd:"" help:"Keep sandboxes warm."`
	Logs       logsCommand       `cmd:"" help:"Show what an execution has written."`
	Events     eventsCommand     `cmd:"" help:"Follow what changes in the project."`
	Port       portCommand       `cmd:"" help:"Reach ports of instances."`
	Cp         cpCommand         `cmd:"" help:"Copy files and directories between this machine and an instance."`
	SSH        sshCommand        `cmd:"" name:"ssh" help:"Log in to an instance, or run a command in it, by SSH."`
	SSHConfig  sshConfigCommand  `cmd:"" name:"ssh-config" help:"Print a block for ssh_config, with a key and known hosts that work."`
	SSHKey     sshKeyCommand     `cmd:"" name:"ssh-key" help:"Manage the keys that log in to instances."`
	Key        keyCommand        `cmd:"" help:"Manage API keys of a server."`
	Audit      auditCommand      `cmd:"" help:"Show who changed what on a server."`
	Usage      usageCommand      `cmd:"" help:"Show what API keys used on a server."`
	Ps         psCommand         `cmd:"" help:"List executions, newest first (ls lists instances)."`
	Create     createCommand     `cmd:"" help:"Make an instance: a sandbox that lives until told otherwise."`
	Ls         lsCommand         `cmd:"" help:"List instances, newest first."`
	Info       infoCommand       `cmd:"" help:"Show an instance as JSON."`
	Exec       execCommand       `cmd:"" help:"Run a command in an instance."`
	Stop       stopCommand       `cmd:"" help:"Stop instances: their files stay."`
	Start      startCommand      `cmd:"" help:"Start stopped instances from their files."`
	Pause      pauseCommand      `cmd:"" help:"Let the processes of instances stand still."`
	Resume     resumeCommand     `cmd:"" help:"Let the processes of paused instances go on."`
	Rm         rmCommand         `cmd:"" help:"Remove instances."`
	Top        topCommand        `cmd:"" help:"Show what an instance consumes, and its processes."`
	Snapshot   snapshotCommand   `cmd:"" help:"Save instances, and start from what was saved."`
	Fork       forkCommand       `cmd:"" help:"Make copies of an instance or of a saved state."`
	Branch     branchCommand     `cmd:"" help:"Manage named heads in the tree of snapshots."`
	Settings   configCommand     `cmd:"" name:"config" help:"Show the configuration."`
	Completion completionCommand `cmd:"" help:"Print the completion script of a shell."`
	Version    versionCommand    `cmd:"" help:"Print the version."`
	Complete   completeCommand   `cmd:"" hidden:"" help:"Complete a command line."`
	OpenAPI    openapiCommand    `cmd:"" name:"openapi" hidden:"" help:"Print the description of the HTTP API."`
}

// Exit codes of the program's own.
const (
	exitFailure = 1
	exitUsage   = 2
	exitRun     = 125 // of run and exec, which otherwise exit as their command did
)

// exitError ends the program with a code, saying nothing more.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() { os.Exit(execute(os.Args[1:])) }

// execute runs one command line and returns the exit code.
func execute(args []string) int {
	line := &commands{}
	parser, err := kong.New(line, kong.Name("faas"), kong.UsageOnError(),
		kong.Description("Run commands in sandboxes."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Bind(line))
	if err != nil {
		fmt.Fprintln(os.Stderr, "faas:", err)
		return exitFailure
	}
	failure := exitUsage
	if len(args) > 0 && (args[0] == "run" || args[0] == "exec") {
		failure = exitRun
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(sshFlag(args))
	if err != nil {
		fmt.Fprintf(os.Stderr, "faas: %v\nTry faas --help.\n", err)
		return failure
	}
	if failure == exitUsage {
		failure = exitFailure
	}
	return exitCode(parsed.Run(), failure)
}

// exitCode says what went wrong and turns it into a code.
func exitCode(err error, failure int) int {
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "faas: interrupted")
	default:
		fmt.Fprintln(os.Stderr, "faas:", err)
	}
	return failure
}

// interruptible returns a context that ends at the first interrupt. A second
// one ends the program.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

type versionCommand struct {
	JSON bool `help:"Print JSON."`
}

// Run implements the command.
func (c *versionCommand) Run() error {
	if c.JSON {
		return printJSON(map[string]string{"version": version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH})
	}
	fmt.Println("faas", version, runtime.GOOS+"/"+runtime.GOARCH)
	return nil
}
