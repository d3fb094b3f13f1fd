// Package launch starts a sandbox without a helper program: it is the half of
// the native runtime that runs inside the new namespaces, before the agent.
//
// The host half clones the agent's executable into new namespaces with the
// argument Command, hands over a Config on ConfigFD and reads the outcome from
// StatusFD. Main then makes the sandbox's root from a few mounts, enters it,
// gives up what the agent does not need and becomes the agent by execve, still
// as process 1 of its namespace. Whatever it mounts lives in the sandbox's own
// mount namespace and ends with it, so a daemon that dies leaves no mount.
//
// The package is linked into the agent and so depends on little.
package launch

// Command is the argument of the agent's executable that runs Main.
const Command = "launch"

// The descriptors that Main expects. Further ones are named in the Config.
const (
	// ConfigFD is read: the length of the Config in decimal and a newline, the
	// Config as Encode writes it, and later one byte Go, once the host has put the process
	// into its control groups. When it ends before that, the host has died
	// and so does the process.
	ConfigFD = 3
	// StatusFD is written: nothing when all went well and the agent has been
	// started (execve closes it), otherwise what failed, in words.
	StatusFD = 4
	// FirstFD is the first descriptor that a Config may name.
	FirstFD = 5
)

// Go is the byte that lets a prepared sandbox start its agent.
const Go = 'G'

// MaxConfig bounds the size of a Config in bytes.
const MaxConfig = 1 << 20

// Config says what to build. All paths inside are absolute and are resolved
// within the new root.
type Config struct {
	Hostname string
	Root     Root
	// Mounts are made in order, below the new root.
	Mounts []Mount
	// Sysctls are written to /proc/sys, with dots for slashes.
	Sysctls map[string]string
	Limits  []Limit
	// CgroupNamespace hides the control groups above the sandbox's own. It is
	// entered last: its root is where the process is at that moment.
	CgroupNamespace bool
	// Capabilities is the mask that the agent keeps, as effective, permitted
	// and bounding set.
	Capabilities uint64
	// Filter is a seccomp program: struct sock_filter in the machine's own
	// byte order. Empty: none.
	Filter []byte
	// Listen is the path of the unix socket that the agent serves. It is
	// bound here, inside, and given to the agent as descriptor ListenFD.
	// Empty: none.
	Listen string
	// Files are written into the new root before the agent starts.
	Files []File
	Args  []string // Args[0] is the executable's path inside
	Env   []string
}

// ListenFD is the descriptor on which the agent finds its listening socket,
// KeptFD the first of those that were kept for it, above all that the process
// may have open before.
const (
	ListenFD = 3
	KeptFD   = 100
)

// Kept is what a process that enters a sandbox takes along.
type Kept struct {
	Descriptors []int // the agent gets them as KeptFD and following
	Messages    int   // where the agent's own messages go; 0: nowhere
}

// Dir is a directory of the host: a detached mount on a descriptor, or, when
// FD is 0, a path that the process can reach by itself.
type Dir struct {
	FD   int
	Path string
}

// Root is the overlay that becomes the sandbox's root.
type Root struct {
	Lower []Dir // topmost first
	// Writable is where changes go; nil for a read-only root.
	Writable *Writable
	// Privileged says that the marks of the overlay are in attributes that
	// only root of the machine has, as they are outside user namespaces.
	Privileged bool
}

// Writable is the layer that holds a sandbox's changes.
type Writable struct {
	// FD is a detached mount that the host made, and UpperFD and WorkFD are
	// its two directories, opened by path only. Without them a tmpfs with the
	// options in Tmpfs is mounted.
	FD      int
	UpperFD int
	WorkFD  int
	Tmpfs   string
	// Dir is used when FD is 0 and Tmpfs empty: a directory of the host with
	// the entries upper and work.
	Dir string
	// Keep is where the layer's mount stays visible inside, for the host to
	// reach it through /proc/PID/root; empty: nowhere.
	Keep string
}

// Mount is one mount below the new root.
type Mount struct {
	Target string
	Type   string // "bind" for From, or a file system type
	From   Dir
	Lower  []Dir  // of a read-only overlay, topmost first
	Flags  uint64 // MS_*
	Data   string
}

// Limit is one resource limit, by the kernel's number of it.
type Limit struct {
	Resource int
	Soft     uint64
	Hard     uint64
}

// File is a small file to write.
type File struct {
	Path    string
	Content []byte
	Mode    uint32
}
