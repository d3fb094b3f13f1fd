package launch

// SpawnCommand is the argument of the agent's executable that runs Spawn.
const SpawnCommand = "spawn"

// SpawnFD is the descriptor on which Spawn finds its socket: SOCK_SEQPACKET,
// one message for each request and one for its answer.
const SpawnFD = 3

// MaxSpawn bounds a message in bytes.
const MaxSpawn = 64 << 10

// SpawnRequest asks for a process. Its descriptors come with the message and
// become those of the process, from 0 on.
type SpawnRequest struct {
	Path       string    `json:"path"`
	Args       []string  `json:"args"`
	Env        []string  `json:"env,omitempty"`
	Cloneflags uintptr   `json:"cloneflags,omitempty"`
	UIDs       []IDRange `json:"uids,omitempty"`
	GIDs       []IDRange `json:"gids,omitempty"`
	SetGroups  bool      `json:"set_groups,omitempty"` // whether it may change its groups
	// Mapped says that the process takes user 0 of the ranges above; otherwise
	// they are written later, by others, and AmbientCaps are kept until then.
	Mapped      bool      `json:"mapped,omitempty"`
	AmbientCaps []uintptr `json:"ambient_caps,omitempty"`
}

// IDRange maps users or groups of the host into a user namespace.
type IDRange struct {
	Inside  int `json:"inside"`
	Outside int `json:"outside"`
	Size    int `json:"size"`
}

// SpawnAnswer tells of the process, whose pidfd comes with the message, or why
// there is none.
type SpawnAnswer struct {
	PID   int    `json:"pid,omitempty"`
	Error string `json:"error,omitempty"`
	Errno int    `json:"errno,omitempty"` // behind Error; 0: none
}
