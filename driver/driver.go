// Package driver is the contract between the executor and what isolates: one
// Driver per runtime, a Sandbox for what it made, and small optional
// interfaces for what only some of them can do.
//
// # Lifecycle
//
// Create returns a sandbox whose agent answers on Dial. From the first thing
// that Create leaves on the machine (a directory, a cgroup, a container) the
// driver can find it again by the sandbox's id: a Create that fails or is
// cancelled undoes it before it returns, and one that dies with the daemon is
// undone by Sweep after the restart. Handle is serialisable and enough for
// Recover in a new process to return an equal Sandbox, without disturbing what
// runs in it. Destroy ends every process of the sandbox and removes all that
// Create left; it may be called in any state, more than once, and on a sandbox
// that was never recovered fully.
//
// # Who may call what when
//
// All methods may be called concurrently. After Destroy began, Dial fails and
// Wait returns. Every method honours its context; a method that starts
// something that outlives the call says so.
//
// # Errors
//
// Errors are *faas.Error. What the machine cannot do is
// KindCapabilityUnavailable with the remedy that Probe shows; a bad image
// reference or impossible limits are KindInvalidArgument with the field; an
// exhausted machine is KindResourceExhausted.
//
// The conformance suite in driver/drivertest is the executable half of this
// contract.
package driver

import (
	"context"
	"encoding/json"
	"net"

	"github.com/faas-platform/faas"
)

// Driver is the code behind one runtime.
type Driver interface {
	// Name is the runtime that the driver serves.
	Name() faas.Runtime
	// Probe tries out what works on this machine and, for what does not, says
	// why and how to get it. It is bounded in time (a few seconds; the microVM
	// runtimes up to 30) and may cache; a Probe never leaves anything behind.
	Probe(ctx context.Context) faas.Capabilities
	// ResolveImage makes the image available to Create (pulling it if it is
	// missing) and returns what is known about it. The progress function may
	// be nil; it is called from one goroutine at a time.
	ResolveImage(ctx context.Context, ref string, progress ImageProgress) (Image, error)
	// Create makes a sandbox of a complete Spec and returns when its agent
	// answers.
	Create(ctx context.Context, spec faas.Spec) (Sandbox, error)
	// Recover returns the sandbox of a handle after a restart of the daemon.
	// It returns faas.ErrNotFound when nothing of it is left running.
	Recover(ctx context.Context, h Handle) (Sandbox, error)
	// Sweep removes what belongs to this installation and to no sandbox in
	// keep: leftovers of a daemon that died. It returns the ids that it
	// removed. It touches nothing that another live process owns.
	Sweep(ctx context.Context, keep func(id string) bool) ([]string, error)
	// Close releases what the driver itself holds. Sandboxes live on.
	Close() error
}

// Image is what a driver knows of an image once it is at hand.
type Image struct {
	Ref    string            `json:"ref"`    // as given
	Digest string            `json:"digest"` // identifies the content; also for HostImage
	Config ImageConfig       `json:"config"`
	Labels map[string]string `json:"labels,omitempty"`
}

// ImageConfig holds the image's own defaults for commands run in it.
type ImageConfig struct {
	Env        []string `json:"env,omitempty"` // KEY=VALUE
	WorkingDir string   `json:"working_dir,omitempty"`
	User       string   `json:"user,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
}

// ImageProgress reports on one pull: bytes done of total (0: not known) for
// one layer or step.
type ImageProgress func(step string, done, total int64)

// Handle is a sandbox in serialisable form. Data belongs to the driver.
type Handle struct {
	Runtime faas.Runtime    `json:"runtime"`
	ID      string          `json:"id"`
	Data    json.RawMessage `json:"data"`
}

// Sandbox is one isolated process tree with the guest agent as its PID 1.
type Sandbox interface {
	ID() string
	Handle() Handle
	// Channel says how the connections of Dial are to be spoken to.
	Channel() Channel
	// Dial connects to the agent. Whoever calls it closes the connection.
	Dial(ctx context.Context) (net.Conn, error)
	// Wait returns when the sandbox's PID 1 has ended, nil whatever the
	// reason, or the context's error.
	Wait(ctx context.Context) error
	// Stats reads the sandbox's consumption from outside.
	Stats(ctx context.Context) (Stats, error)
	// Destroy ends and removes the sandbox.
	Destroy(ctx context.Context) error
}

// Channel describes the way to a sandbox's agent.
type Channel struct {
	Secret []byte // authenticates both ends; 32 bytes
	// Multiplex is true where connections are dear or there is only one
	// (virtio-serial, an exec'd shim, an agent that dials out): the guest
	// client then carries all its streams over one.
	Multiplex bool
}

// Stats is what a sandbox consumes. A field that the runtime cannot tell is 0.
type Stats struct {
	CPUMS          int64 `json:"cpu_ms"`
	MemoryBytes    int64 `json:"memory_bytes"`
	MaxMemoryBytes int64 `json:"max_memory_bytes"`
	PIDs           int64 `json:"pids"`
	DiskBytes      int64 `json:"disk_bytes"` // in the writable layer
	// OOMKills counts the processes that the kernel killed for want of
	// memory, PIDsRefused the forks that were refused, both since Create.
	OOMKills    int64 `json:"oom_kills"`
	PIDsRefused int64 `json:"pids_refused"`
}

// Pauser is implemented by sandboxes whose processes can be stopped and
// continued in place. While paused, Dial may fail or block until its context
// ends. Both are idempotent.
type Pauser interface {
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
}

// Pooled is implemented by drivers that profit from preparing what every
// sandbox needs (namespaces, started agents) ahead of demand. It is off the
// path of requests; the pool calls it.
type Pooled interface {
	// Adopt turns a sandbox made ahead of time into that of a request: it
	// applies what can change after Create (limits, labels, project) and
	// fails with KindFailedPrecondition for what cannot.
	Adopt(ctx context.Context, s Sandbox, spec faas.Spec) error
}

// Fingerprinter is implemented by drivers whose Probe takes long enough to be
// worth keeping its answer from one process to the next.
type Fingerprinter interface {
	// Fingerprint names the circumstances that the answer depends on, as far
	// as they can be seen without trying anything (the programs and sockets
	// that are used and when they changed, the user, the control group). It
	// takes well under a millisecond and never fails: what cannot be seen is
	// part of the answer.
	Fingerprint() string
}
