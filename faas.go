// Package faas is the domain of the platform: the words that every other
// package speaks (requests, results, sandboxes, capabilities, errors) and the
// rules that they follow. It imports the standard library only, so that
// drivers, front ends and programs that embed the executor can share it
// without pulling one another in.
//
// One request goes straight down: a front door (HTTP, CLI, SSH) decodes and
// authenticates it, the executor chooses a runtime and owns the lifecycle, a
// driver makes the sandbox, and the guest protocol does everything that
// happens inside it. Results and errors come back the same way; an error is
// always an *Error with one of a closed set of kinds.
package faas

import (
	"io"
	"syscall"
	"time"
)

// DefaultProject owns every object whose caller names no project.
const DefaultProject = "default"

// HostImage is the image name of this machine's own /usr, read-only. It needs
// no download and is the default where nothing else is configured.
const HostImage = "host"

// MaxTimeout is the longest that one command may run.
const MaxTimeout = 24 * time.Hour

// Runtime names what isolates a sandbox.
type Runtime string

// The runtimes of the platform. RuntimeAuto lets the executor choose the
// strongest one that offers what a request needs.
const (
	RuntimeAuto        Runtime = "auto"
	RuntimeNative      Runtime = "native"
	RuntimeDocker      Runtime = "docker"
	RuntimeGVisor      Runtime = "gvisor"
	RuntimeFirecracker Runtime = "firecracker"
	RuntimeQEMU        Runtime = "qemu"
)

// Runtimes lists the runtimes that can be named, strongest isolation first:
// the order in which RuntimeAuto tries them unless configured otherwise.
func Runtimes() []Runtime {
	return []Runtime{RuntimeFirecracker, RuntimeGVisor, RuntimeNative, RuntimeDocker, RuntimeQEMU}
}

// Mode says what becomes of a sandbox after its command, and where it starts.
type Mode string

// The five execution modes.
const (
	ModeEphemeral    Mode = "ephemeral"
	ModeCached       Mode = "cached"
	ModeCheckpointed Mode = "checkpointed"
	ModeBranched     Mode = "branched"
	ModePersistent   Mode = "persistent"
)

// SnapshotKind says what a snapshot holds.
type SnapshotKind string

// SnapshotAuto asks for the best that the sandbox's runtime can; a snapshot
// that was taken is always one of the other two.
const (
	SnapshotAuto SnapshotKind = "auto"
	SnapshotFS   SnapshotKind = "fs"   // files
	SnapshotFull SnapshotKind = "full" // files, memory and processes
)

// NetworkMode says what a sandbox may reach.
type NetworkMode string

// NetworkNone is the default: a loopback interface and nothing else.
// NetworkEgress lets connections out, to the networks of NetworkPolicy.Allow
// when it is not empty, never to the host's own addresses, to link-local and
// metadata addresses, or to other sandboxes.
const (
	NetworkNone   NetworkMode = "none"
	NetworkEgress NetworkMode = "egress"
)

// NetworkPolicy is an object rather than a word so that policy can grow.
type NetworkPolicy struct {
	Mode  NetworkMode `json:"mode"`
	Allow []string    `json:"allow,omitempty"` // CIDRs; empty allows every public address
}

// Resources limits one sandbox. A zero field takes the configured default.
type Resources struct {
	CPUCores float64 `json:"cpu_cores,omitempty"` // cores, fractions allowed
	MemoryMB int64   `json:"memory_mb,omitempty"` // MiB of memory, page cache of its files included
	DiskMB   int64   `json:"disk_mb,omitempty"`   // MiB of the writable layer
	PIDs     int64   `json:"pids,omitempty"`      // processes and threads
}

// Spec describes a sandbox to make. Drivers receive it complete: the executor
// has filled in every default.
type Spec struct {
	ID        string            `json:"id"`      // DNS label, unique on this node
	Project   string            `json:"project"` // tenant
	Image     string            `json:"image"`   // HostImage or a reference the driver's image source resolves
	Resources Resources         `json:"resources"`
	Network   NetworkPolicy     `json:"network"`
	Hostname  string            `json:"hostname"` // inside; the id when empty
	Env       map[string]string `json:"env,omitempty"`
	ReadOnly  bool              `json:"read_only,omitempty"` // root file system without a writable layer
	Labels    map[string]string `json:"labels,omitempty"`
}

// Request asks for one execution.
type Request struct {
	KeyID string // API key that asks; empty: none
	// ID is the execution's, from NewID(PrefixExecution); empty: a new one. A
	// front door sets it to name the execution before its end.
	ID string
	// Started, when set, is called once, when the execution is on record and
	// before its command can have any effect. It must not block.
	Started    func(Execution)
	Project    string            // tenant; DefaultProject when empty
	Key        string            // whose request it is, for taking turns when there is a queue; empty: the project's
	Command    []string          // argv, run as it is; a front door turns a string into sh -c
	Image      string            // empty: the configured default
	Runtime    Runtime           // empty: RuntimeAuto
	Mode       Mode              // empty: ModeEphemeral
	Env        map[string]string // added to the image's own
	WorkingDir string            // absolute; empty: the image's own, or /
	User       string            // name or uid[:gid]; empty: the image's own, or root inside
	Files      map[string][]byte // absolute or relative to WorkingDir; written before the command, mode 0644
	Timeout    time.Duration     // of the command; 0: the configured default
	Resources  Resources
	Network    NetworkPolicy
	TTY        *TerminalSize // not nil: the command gets a terminal and Stderr stays empty
	Stdin      io.Reader     // nil: empty
	// Stdout and Stderr, when set, receive the output as it comes, without
	// limit, and Result carries none. When nil, the first OutputLimit bytes of
	// each stream are kept in Result.
	Stdout, Stderr io.Writer
	OutputLimit    int64               // bytes kept per stream; 0: 10 MiB
	Resize         <-chan TerminalSize // new sizes of the terminal; nil: none
	// Signals are sent to the command's process group, by Linux's numbers
	// whatever this program runs on; nil: none. The sender does not wait
	// longer than the execution lasts.
	Signals       <-chan syscall.Signal
	AllowDegraded bool // accept a weaker substitute, named in Result.Degraded
	CacheKey      string
	CacheTTL      time.Duration
	CacheFailures bool    // mode cached: keep the result of a command that failed, too
	SnapshotID    string  // state to start from
	BranchFrom    string  // the same, or an execution, branch (id or name) or instance to fork
	InstanceID    string  // mode persistent: run in this one instead of a new one
	Entropy       Entropy // of a start from a state; empty: EntropyReport
	Labels        map[string]string
}

// TerminalSize is the size of a terminal in character cells.
type TerminalSize struct {
	Cols uint16 `json:"cols"`
	Rows uint16 `json:"rows"`
}

// Usage is what an execution consumed.
type Usage struct {
	CPUMS          int64 `json:"cpu_ms"`           // user and system time of the command and what it started
	MaxMemoryBytes int64 `json:"max_memory_bytes"` // peak of the sandbox
}

// LimitHit names a limit that ended or hindered a command.
type LimitHit string

// The limits that are told apart.
const (
	LimitMemory  LimitHit = "memory"  // the kernel killed a process for want of memory
	LimitPIDs    LimitHit = "pids"    // a fork was refused
	LimitDisk    LimitHit = "disk"    // the writable layer is full
	LimitTimeout LimitHit = "timeout" // the command ran into its time-out
)

// Result is the outcome of one execution that ran. A command that fails is a
// Result with a non-zero ExitCode, not an error.
type Result struct {
	ID          string     `json:"request_id"` // exec-…
	Project     string     `json:"project"`
	ExitCode    int        `json:"exit_code"` // 128+signal when a signal ended it
	Signal      string     `json:"signal,omitempty"`
	Stdout      []byte     `json:"-"`
	Stderr      []byte     `json:"-"`
	Truncated   bool       `json:"truncated"` // output beyond the kept size was dropped
	TimedOut    bool       `json:"timed_out"`
	LimitsHit   []LimitHit `json:"limits_hit,omitempty"`
	Error       string     `json:"error,omitempty"` // in words, when the platform ended it
	DurationMS  float64    `json:"duration_ms"`     // of the command inside the sandbox
	QueuedMS    float64    `json:"queued_ms"`       // before a sandbox was its own
	CacheHit    bool       `json:"cache_hit"`
	RuntimeUsed Runtime    `json:"runtime_used"`
	Degraded    string     `json:"degraded,omitempty"` // what is weaker than asked, and why
	SnapshotID  string     `json:"snapshot_id,omitempty"`
	InstanceID  string     `json:"instance_id,omitempty"`
	Usage       Usage      `json:"usage"`
}

// ExecutionStatus is where an execution stands.
type ExecutionStatus string

// An execution ends in exactly one of the last four. ExecutionLost is one
// whose daemon died while it ran: its command may have had effects, its
// result is not known.
const (
	ExecutionRunning   ExecutionStatus = "running"
	ExecutionSucceeded ExecutionStatus = "succeeded" // exit code 0
	ExecutionFailed    ExecutionStatus = "failed"    // any other end of the command, or it never ran
	ExecutionCancelled ExecutionStatus = "cancelled"
	ExecutionLost      ExecutionStatus = "lost"
)

// Execution is the durable record of one request.
type Execution struct {
	ID         string          `json:"id"`
	Project    string          `json:"project"`
	Status     ExecutionStatus `json:"status"`
	Command    []string        `json:"command"`
	Image      string          `json:"image"`
	Runtime    Runtime         `json:"runtime"`
	Mode       Mode            `json:"mode"`
	InstanceID string          `json:"instance_id,omitempty"` // that it ran in, when that was there before
	CreatedAt  time.Time       `json:"created_at"`
	FinishedAt *time.Time      `json:"finished_at,omitempty"`
	Result     *Result         `json:"result,omitempty"`
	Error      string          `json:"error,omitempty"`
}
