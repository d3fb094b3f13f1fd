package guest

import (
	"context"
	"io"
	"net"
	"syscall"

	"github.com/faas-platform/faas"
)

// Dialer opens one connection to the agent.
type Dialer func(ctx context.Context) (net.Conn, error)

// Options configures a Client.
type Options struct {
	Secret    []byte // the sandbox's channel secret
	Multiplex bool   // carry every stream over one connection of the Dialer
}

// Client speaks to one agent. It opens connections as it needs them and is
// safe for concurrent use.
type Client struct{}

// NewClient returns a client; nothing is dialled before the first call.
func NewClient(dial Dialer, opts Options) *Client { panic("skeleton") }

// Close closes every connection of the client. Commands inside go on.
func (c *Client) Close() error { panic("skeleton") }

// Hello opens a connection, proves both ends, and returns what the agent says
// of itself. Drivers call it to learn that a new sandbox is ready.
func (c *Client) Hello(ctx context.Context) (Info, error) { panic("skeleton") }

// Configure applies a configuration.
func (c *Client) Configure(ctx context.Context, cfg Configuration) (Configured, error) {
	panic("skeleton")
}

// Start runs a command and returns with its streams open. When ctx ends before
// the command does, everything that it started is killed.
func (c *Client) Start(ctx context.Context, cmd Command) (*Exec, error) { panic("skeleton") }

// Run runs a command to its end, copying its streams. Nil readers and writers
// stand for empty input and discarded output. It returns when the command has
// ended and its output is written.
func (c *Client) Run(ctx context.Context, cmd Command, stdin io.Reader, stdout, stderr io.Writer) (Exit, error) {
	panic("skeleton")
}

// Exec is a running command.
type Exec struct {
	ID     string
	PID    int            // inside
	Stdin  io.WriteCloser // nil unless Command.Stdin
	Stdout io.Reader      // io.EOF at its end; a neglected reader stops the command's writes to it, and nothing else
	Stderr io.Reader
}

// Wait returns how the command ended. It does not wait for the streams.
func (e *Exec) Wait(ctx context.Context) (Exit, error) { panic("skeleton") }

// Signal sends a signal to the command's process group.
func (e *Exec) Signal(ctx context.Context, sig syscall.Signal) error { panic("skeleton") }

// Resize changes the size of the command's terminal.
func (e *Exec) Resize(ctx context.Context, size WindowSize) error { panic("skeleton") }

// Close releases the command's streams without waiting for it; a command that
// still runs is killed with everything that it started.
func (e *Exec) Close() error { panic("skeleton") }

// ReadFile opens a file for reading from an offset; length < 0 reads to its
// end. The caller closes the reader.
func (c *Client) ReadFile(ctx context.Context, path string, offset, length int64) (io.ReadCloser, FileInfo, error) {
	panic("skeleton")
}

// WriteFile writes a file from r and returns what then is there.
func (c *Client) WriteFile(ctx context.Context, path string, r io.Reader, opts WriteOptions) (FileInfo, error) {
	panic("skeleton")
}

// Stat describes a path without following a last symbolic link.
func (c *Client) Stat(ctx context.Context, path string) (FileInfo, error) { panic("skeleton") }

// List describes the entries of a directory, sorted by name.
func (c *Client) List(ctx context.Context, path string) ([]FileInfo, error) { panic("skeleton") }

// Mkdir makes a directory and its missing parents.
func (c *Client) Mkdir(ctx context.Context, path string, opts WriteOptions) error { panic("skeleton") }

// Remove removes a file, or a directory with all below it when recursive.
func (c *Client) Remove(ctx context.Context, path string, recursive bool) error { panic("skeleton") }

// Rename moves a file or directory.
func (c *Client) Rename(ctx context.Context, from, to string) error { panic("skeleton") }

// TarOut streams the tree below path as a tar archive with names relative to it.
func (c *Client) TarOut(ctx context.Context, path string) (io.ReadCloser, error) { panic("skeleton") }

// TarIn unpacks a tar archive below path.
func (c *Client) TarIn(ctx context.Context, path string, r io.Reader) error { panic("skeleton") }

// Watch reports changes below path, recursively when asked, until ctx ends.
// The channel is closed then; a reader that is too slow gets an "overflow"
// event in place of what was dropped.
func (c *Client) Watch(ctx context.Context, path string, recursive bool) (<-chan FileEvent, error) {
	panic("skeleton")
}

// DialPort connects to a port inside: network is "tcp" or "unix".
func (c *Client) DialPort(ctx context.Context, network, address string) (net.Conn, error) {
	panic("skeleton")
}

// Processes lists what runs inside, the agent included.
func (c *Client) Processes(ctx context.Context) ([]Process, error) { panic("skeleton") }

// Stats reads the sandbox's consumption from inside.
func (c *Client) Stats(ctx context.Context) (Stats, error) { panic("skeleton") }

// Quiesce makes the agent end every host connection in an orderly way, with
// all output that was under way delivered first, so that a checkpoint finds
// none open. Running commands go on; their Exec streams resume by themselves
// on new connections when the agent answers again.
func (c *Client) Quiesce(ctx context.Context) error { panic("skeleton") }

// Shutdown asks the agent to end every process and then itself.
func (c *Client) Shutdown(ctx context.Context) error { panic("skeleton") }

var _ = faas.KindInternal // errors of every method are *faas.Error
