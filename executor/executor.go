// Package executor runs requests: it chooses a runtime, owns the lifecycle of
// sandboxes and executions, and keeps the record of both. It is a library: a
// program that embeds it needs no gateway.
package executor

import (
	"context"
	"log/slog"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// Options configures an Executor. The zero value of every field but DataDir
// and Drivers is usable.
type Options struct {
	DataDir string          // durable state; made when missing
	Drivers []driver.Driver // what this installation can isolate with; the executor closes them
	Policy  Policy
	Default Defaults
	Pools   []PoolOptions
	Logger  *slog.Logger // nil: discard
}

// Policy restricts and orders the runtimes that `auto` and requests may use.
type Policy struct {
	Allowed []faas.Runtime // empty: all
	Order   []faas.Runtime // empty: faas.Runtimes()
	// MinIsolation refuses weaker ones: process (docker, native without a user
	// namespace), userns, sandboxed kernel (gvisor), vm. Empty: any.
	MinIsolation Isolation
}

// Isolation orders runtimes by what stands between a sandbox and the host.
type Isolation string

// Weakest first.
const (
	IsolationProcess Isolation = "process"
	IsolationUserNS  Isolation = "userns"
	IsolationKernel  Isolation = "kernel"
	IsolationVM      Isolation = "vm"
)

// Defaults fill the fields that a request leaves empty.
type Defaults struct {
	Image     string         // faas.HostImage when empty
	Resources faas.Resources // 1 core, 512 MiB memory, 256 MiB disk, 256 pids when zero
	Timeout   time.Duration  // 5 minutes when 0
}

// PoolOptions asks for warm sandboxes of one kind.
type PoolOptions struct {
	Runtime   faas.Runtime
	Image     string
	Resources faas.Resources
	Size      int // warm sandboxes kept ready
}

// Executor runs requests.
type Executor struct{}

// New opens the data directory, recovers what an earlier process left in it
// and starts the pools.
func New(ctx context.Context, opts Options) (*Executor, error) { panic("skeleton") }

// Execute runs one request to its end. When ctx ends first the command is
// killed with everything that it started. A command that ran, whatever its
// exit code, is a Result; an error says why it could not run.
func (e *Executor) Execute(ctx context.Context, req faas.Request) (*faas.Result, error) {
	panic("skeleton")
}

// Runtimes probes every driver (cached for a minute; refresh forces).
func (e *Executor) Runtimes(ctx context.Context, refresh bool) []faas.Capabilities { panic("skeleton") }

// Execution returns the record of one execution of a project.
func (e *Executor) Execution(ctx context.Context, project, id string) (*faas.Execution, error) {
	panic("skeleton")
}

// Executions lists a project's executions, newest first, and the cursor of the
// next page ("" at the end). limit is 1 to 1000; 0 means 50.
func (e *Executor) Executions(ctx context.Context, project string, limit int, cursor string) ([]faas.Execution, string, error) {
	panic("skeleton")
}

// Cancel ends a running execution; it returns when its processes are gone.
func (e *Executor) Cancel(ctx context.Context, project, id string) error { panic("skeleton") }

// Stats counts what the executor did since it started.
type Stats struct {
	Requests   int64 // executions begun
	Running    int64
	PoolHits   int64
	ColdStarts int64 // executions that found no warm sandbox
}

// Stats returns the counters.
func (e *Executor) Stats() Stats { panic("skeleton") }

// Close stops accepting requests, waits for running executions until ctx ends,
// then cancels the rest; it destroys what is ephemeral and closes the drivers.
func (e *Executor) Close(ctx context.Context) error { panic("skeleton") }
