package guest

import (
	"io/fs"
	"time"

	"github.com/faas-platform/faas"
)

// Command asks the agent to run one command.
type Command struct {
	Args  []string    `json:"args"`            // argv; Args[0] is looked up in the command's own PATH
	Env   []string    `json:"env,omitempty"`   // KEY=VALUE, on top of the configured environment
	Dir   string      `json:"dir,omitempty"`   // absolute; made when missing; "/" when empty
	User  string      `json:"user,omitempty"`  // name or uid[:gid], resolved inside; root when empty
	TTY   *WindowSize `json:"tty,omitempty"`   // not nil: run in a terminal; stderr stays empty
	Stdin bool        `json:"stdin,omitempty"` // false: standard input is empty
	// Session says that the command is somebody's session: once its host is
	// gone for good, as in a copy of the sandbox, it is hung up (SIGHUP).
	Session bool          `json:"session,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"` // 0: none; then SIGKILL to everything that the command started
	// Attach, when set, is called by Run with the command as soon as it is on
	// its way, to send it signals and sizes of its terminal. Its streams stay
	// Run's own.
	Attach func(*Exec) `json:"-"`
}

// WindowSize is the size of a terminal in cells.
type WindowSize struct {
	Cols uint16 `json:"cols"`
	Rows uint16 `json:"rows"`
}

// Exit is how a command ended.
type Exit struct {
	Code     int           `json:"code"`             // 128+signal number when a signal ended it
	Signal   string        `json:"signal,omitempty"` // "SIGKILL"
	TimedOut bool          `json:"timed_out,omitempty"`
	Duration time.Duration `json:"duration"`      // from its start to its end, on the agent's monotonic clock
	CPU      time.Duration `json:"cpu"`           // user and system time, waited-for children included
	MaxRSS   int64         `json:"max_rss_bytes"` // largest resident set of one of its processes
}

// Info is what the agent says of itself when a connection opens.
type Info struct {
	Version   int       `json:"version"` // of the protocol, as negotiated
	Build     string    `json:"build"`   // of the agent
	StartedAt time.Time `json:"started_at"`
}

// Configuration makes a sandbox someone's: sent when a pooled sandbox is
// claimed, and after a restore, a fork or a resume. A nil or zero field leaves
// what it names unchanged.
type Configuration struct {
	Identity *Identity         `json:"identity,omitempty"`
	Env      map[string]string `json:"env,omitempty"`     // environment of every later command
	Secrets  map[string]string `json:"secrets,omitempty"` // environment too, kept out of every listing and log
	Network  *Network          `json:"network,omitempty"`
	Secret   []byte            `json:"secret,omitempty"`    // the new channel secret, in force for the next connection
	Clock    *time.Time        `json:"clock,omitempty"`     // set the wall clock, where the agent may
	Entropy  []byte            `json:"entropy,omitempty"`   // mixed into the kernel's pool, where the agent may
	Reseed   bool              `json:"reseed,omitempty"`    // renew the random generators in running programs' memory
	RunHooks bool              `json:"run_hooks,omitempty"` // run /etc/faas/on-restore.d before the answer
}

// Identity is who the sandbox is. It is written to /run/faas/instance.json
// inside, where programs read it.
type Identity struct {
	ID        string            `json:"id"`
	Project   string            `json:"project"`
	Hostname  string            `json:"hostname,omitempty"`
	MachineID string            `json:"machine_id,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Network configures the sandbox's interfaces from inside, where the agent is
// the one who can (microVMs); elsewhere the driver has done it, leaves
// Interface empty and has the name servers written only.
type Network struct {
	Interface string   `json:"interface"`
	MAC       string   `json:"mac,omitempty"`
	Addresses []string `json:"addresses,omitempty"` // CIDR
	Gateway   string   `json:"gateway,omitempty"`
	DNS       []string `json:"dns,omitempty"`
}

// Configured says what of a Configuration was applied.
type Configured struct {
	Skipped map[string]string `json:"skipped,omitempty"` // field → why the agent could not
	Hooks   []HookResult      `json:"hooks,omitempty"`
	// Reseeded holds an outcome for each generator that Reseed found.
	Reseeded []faas.Reseeded `json:"reseeded,omitempty"`
}

// HookResult is the outcome of one on-restore hook.
type HookResult struct {
	Path   string `json:"path"`
	Exit   Exit   `json:"exit"`
	Output string `json:"output,omitempty"` // the first 4 KiB of both streams
}

// FileInfo describes one file inside.
type FileInfo struct {
	Name    string      `json:"name"` // base name; the path asked for in Stat
	Size    int64       `json:"size"`
	Mode    fs.FileMode `json:"mode"`
	ModTime time.Time   `json:"mod_time"`
	UID     int         `json:"uid"`
	GID     int         `json:"gid"`
	Target  string      `json:"target,omitempty"` // of a symbolic link
}

// WriteOptions says how a file is written.
type WriteOptions struct {
	Mode    fs.FileMode `json:"mode,omitempty"`    // 0644 when 0; an existing file keeps its own
	User    string      `json:"user,omitempty"`    // owner; root when empty
	Parents bool        `json:"parents,omitempty"` // make missing directories
	Append  bool        `json:"append,omitempty"`  // otherwise the new content replaces the old atomically
}

// FileEvent is one change under a watched path.
type FileEvent struct {
	Path  string `json:"path"`
	Event string `json:"event"` // created, modified, removed, renamed, overflow
}

// Process is one entry of the process list.
type Process struct {
	PID     int           `json:"pid"`
	PPID    int           `json:"ppid"`
	UID     int           `json:"uid"`
	State   string        `json:"state"` // one letter, as in /proc/PID/stat
	Command []string      `json:"command"`
	CPU     time.Duration `json:"cpu"`
	RSS     int64         `json:"rss_bytes"`
	Started time.Time     `json:"started"`
	Exec    string        `json:"exec,omitempty"` // id of the command it descends from, when the agent knows
}

// Stats is the sandbox's consumption seen from inside.
type Stats struct {
	Uptime      time.Duration `json:"uptime"`
	Processes   int           `json:"processes"`
	MemoryBytes int64         `json:"memory_bytes"` // sum of resident sets
	CPU         time.Duration `json:"cpu"`
	DiskTotal   int64         `json:"disk_total_bytes"` // of the root file system
	DiskFree    int64         `json:"disk_free_bytes"`
	AgentRSS    int64         `json:"agent_rss_bytes"`
}

// OpenOptions says how OpenFile opens a file.
type OpenOptions struct {
	Read, Write bool
	Create      bool        // make it when there is none; with Write
	Exclusive   bool        // with Create: fail when there is one
	Truncate    bool        // with Write: empty it
	Mode        fs.FileMode // of a file that is made; 0644 when 0
	User        string      // owner of a file that is made; root when empty
}

// Attributes are what SetAttributes changes; what is nil stays as it is.
type Attributes struct {
	Mode            *fs.FileMode
	UID, GID        *int
	Size            *int64
	Access, ModTime *time.Time
}

// Space says how full a file system is, in blocks and files.
type Space struct {
	BlockSize   int64  `json:"block_size"`
	Blocks      uint64 `json:"blocks"`
	Free        uint64 `json:"free"`
	Available   uint64 `json:"available"` // to those without privilege
	Files       uint64 `json:"files"`
	FilesFree   uint64 `json:"files_free"`
	LongestName int64  `json:"longest_name"` // bytes
}
