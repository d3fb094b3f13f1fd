package api

import (
	"time"

	"github.com/faas-platform/faas"
)

// PathInstances is the path of the instances; below it are those of one.
const PathInstances = "/api/v1/instances"

// InstanceSettings say what an instance is to be like, whatever it is made of.
// What is absent comes from the state that it starts from, or else from the
// server's configuration.
type InstanceSettings struct {
	Name          string            `json:"name,omitempty" maxLength:"128" doc:"Unique among the project's instances." example:"notebook"`
	Runtime       faas.Runtime      `json:"runtime,omitempty" enum:"auto,docker,native,gvisor,firecracker,qemu" doc:"What isolates. Default: auto, or what made the snapshot."`
	CPUCores      float64           `json:"cpu_cores,omitempty" exclusiveMinimum:"0" maximum:"4096" doc:"Cores, fractions allowed." example:"1"`
	MemoryMB      int64             `json:"memory_mb,omitempty" minimum:"1" maximum:"8796093022207" doc:"MiB of memory." example:"512"`
	DiskGB        float64           `json:"disk_gb,omitempty" exclusiveMinimum:"0" maximum:"1048576" doc:"GiB of the writable layer, fractions allowed." example:"1"`
	DiskMB        int64             `json:"disk_mb,omitempty" minimum:"1" maximum:"1073741824" doc:"Alias of disk_gb, in MiB."`
	PIDs          int64             `json:"pids,omitempty" minimum:"1" doc:"Processes and threads." example:"256"`
	EnvVars       Variables         `json:"env_vars,omitempty" doc:"Environment of every command: an object, or an array of [name, value] pairs."`
	Env           Variables         `json:"env,omitempty" alias:"env_vars" doc:"Alias of env_vars."`
	Network       *Network          `json:"network,omitempty" doc:"What it may reach. Default: none, or as the snapshot's source."`
	TTLMS         int64             `json:"ttl_ms,omitempty" minimum:"1" maximum:"315360000000" doc:"After which it is deleted. Default: never."`
	IdleTimeoutMS int64             `json:"idle_timeout_ms,omitempty" minimum:"1000" maximum:"315360000000" doc:"After this long without a command in it or a connection to it, on_idle is done; the next one wakes it. Default: never."`
	OnIdle        faas.IdleAction   `json:"on_idle,omitempty" enum:"pause,stop" doc:"pause (default): its processes stand still and keep their memory; stop: its files stay."`
	Labels        map[string]string `json:"labels,omitempty" doc:"To find it by."`
	AllowDegraded bool              `json:"allow_degraded,omitempty" doc:"Accept a weaker substitute, named in the answer."`
	EnableSSH     *bool             `json:"enable_ssh,omitempty" doc:"true: refuse when no SSH server runs; false: keep the SSH server from it. Absent: SSH reaches it where a server runs."`
	Entropy       faas.Entropy      `json:"entropy,omitempty" enum:"report,strict" doc:"What a start from a full snapshot does about processes whose random generators cannot be renewed: report (default) names them, strict refuses."`
}

// InstanceRequest asks for an instance: of an image, or of a saved state.
type InstanceRequest struct {
	Image        string `json:"image,omitempty" doc:"An OCI reference, an imported image, or host. Default: the server's configuration." example:"host"`
	SnapshotID   string `json:"snapshot_id,omitempty" doc:"Start from this snapshot."`
	CheckpointID string `json:"checkpoint_id,omitempty" alias:"snapshot_id" doc:"Alias of snapshot_id, for older clients."`
	BranchFrom   string `json:"branch_from,omitempty" doc:"Start from a snapshot, a branch (id or name), an instance or an execution."`
	InstanceSettings
}

// InstanceUpdate changes an instance; what is absent stays as it is.
type InstanceUpdate struct {
	Name   *string           `json:"name,omitempty" maxLength:"128" doc:"Empty: no name."`
	Labels map[string]string `json:"labels,omitempty" doc:"In the place of those that it has; {} removes them."`
	TTLMS  *int64            `json:"ttl_ms,omitempty" minimum:"0" maximum:"315360000000" doc:"From now on, after which it is deleted; 0: never."`

	IdleTimeoutMS *int64          `json:"idle_timeout_ms,omitempty" minimum:"0" maximum:"315360000000" doc:"0: never."`
	OnIdle        faas.IdleAction `json:"on_idle,omitempty" enum:"pause,stop"`
}

// Resources are the limits of a sandbox.
type Resources struct {
	CPUCores float64 `json:"cpu_cores" example:"1"`
	MemoryMB int64   `json:"memory_mb" example:"512"`
	DiskGB   float64 `json:"disk_gb" doc:"GiB of the writable layer." example:"0.25"`
	DiskMB   int64   `json:"disk_mb" doc:"The same in MiB." example:"256"`
	PIDs     int64   `json:"pids" example:"256"`
}

// NewResources puts limits into the form of the wire.
func NewResources(r faas.Resources) Resources {
	return Resources{CPUCores: r.CPUCores, MemoryMB: r.MemoryMB, DiskGB: float64(r.DiskMB) / 1024, DiskMB: r.DiskMB, PIDs: r.PIDs}
}

// Instance is a sandbox that lives until told otherwise.
type Instance struct {
	ID           string              `json:"id" example:"inst-0c7v4g6k1w0003f9a2m5d8r1t6"`
	InstanceID   string              `json:"instance_id" doc:"The same as id."`
	ContainerID  string              `json:"container_id" doc:"The same as id, for older clients."`
	Name         string              `json:"name" doc:"Empty: it has none."`
	Status       faas.InstanceStatus `json:"status" enum:"running,paused,stopped,failed,creating,pausing,resuming,stopping,starting,deleting"`
	Error        string              `json:"error,omitempty" doc:"Why it is failed."`
	Image        string              `json:"image" example:"host"`
	Runtime      faas.Runtime        `json:"runtime" example:"native"`
	Resources    Resources           `json:"resources"`
	Network      faas.NetworkPolicy  `json:"network"`
	Labels       map[string]string   `json:"labels"`
	SnapshotID   string              `json:"snapshot_id,omitempty" doc:"That it was made of or, later, last saved as."`
	CheckpointID string              `json:"checkpoint_id,omitempty" doc:"In the answer to a pause: the snapshot that it left."`
	BranchID     string              `json:"branch_id,omitempty" doc:"The branch whose head its snapshots become."`
	Degraded     string              `json:"degraded,omitempty" doc:"What is weaker than asked, and why."`
	CreatedAt    time.Time           `json:"created_at"`
	StartedAt    *time.Time          `json:"started_at,omitempty" doc:"When its present sandbox began."`
	ExpiresAt    *time.Time          `json:"expires_at,omitempty" doc:"When it is deleted."`
	SSHHost      string              `json:"ssh_host,omitempty" doc:"Where it is reached by SSH; absent where it is not." example:"127.0.0.1"`
	SSHPort      int                 `json:"ssh_port,omitempty" example:"2222"`
	SSHUsername  string              `json:"ssh_username,omitempty" example:"inst-0c7v4g6k1w0003f9a2m5d8r1t6"`

	IdleTimeoutMS int64           `json:"idle_timeout_ms,omitempty" doc:"After this long without use it is put to sleep."`
	OnIdle        faas.IdleAction `json:"on_idle,omitempty" enum:"pause,stop"`
	Asleep        bool            `json:"asleep,omitempty" doc:"It is paused or stopped because it was idle: the next command or connection wakes it."`

	Reseeded []faas.Reseeded `json:"reseeded,omitempty" doc:"Of a start from a full snapshot: the random generators found in its processes' memory, and those that could not be renewed."`
	Hooks    []faas.Hook     `json:"hooks,omitempty" doc:"Of a start from a snapshot: the on-restore hooks that ran."`
}

// NewInstance puts an instance into the form of the wire.
func NewInstance(x *faas.Instance) *Instance {
	labels := x.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return &Instance{
		ID: x.ID, InstanceID: x.ID, ContainerID: x.ID, Name: x.Name, Status: x.Status, Error: x.Error,
		Image: x.Image, Runtime: x.Runtime, Resources: NewResources(x.Resources), Network: x.Network, Labels: labels,
		SnapshotID: x.SnapshotID, BranchID: x.BranchID, Degraded: x.Degraded,
		CreatedAt: x.CreatedAt, StartedAt: x.StartedAt, ExpiresAt: x.ExpiresAt,
		IdleTimeoutMS: x.IdleTimeoutMS, OnIdle: x.OnIdle, Asleep: x.Asleep, Reseeded: x.Reseeded, Hooks: x.Hooks,
	}
}

// InstanceList is one page of instances, newest first.
type InstanceList struct {
	Instances  []*Instance `json:"instances"`
	NextCursor string      `json:"next_cursor" doc:"Cursor of the next page; empty at the end."`
}

// Removed names what is there no more.
type Removed struct {
	Removed []string `json:"removed" doc:"Ids of what was removed."`
}

// InstanceStats is what an instance consumes; all zero when it is stopped.
type InstanceStats struct {
	CPUMS          int64 `json:"cpu_ms" doc:"User and system time since its sandbox began."`
	MemoryBytes    int64 `json:"memory_bytes"`
	MaxMemoryBytes int64 `json:"max_memory_bytes"`
	PIDs           int64 `json:"pids" doc:"Processes and threads."`
	DiskBytes      int64 `json:"disk_bytes" doc:"In the writable layer."`
	OOMKills       int64 `json:"oom_kills" doc:"Processes killed for want of memory."`
	PIDsRefused    int64 `json:"pids_refused" doc:"Forks that were refused."`
}

// Process is one process of an instance.
type Process struct {
	PID       int       `json:"pid" doc:"Inside." example:"7"`
	PPID      int       `json:"ppid"`
	UID       int       `json:"uid" doc:"Inside."`
	State     string    `json:"state" doc:"One letter, as in /proc/PID/stat." example:"S"`
	Command   []string  `json:"command"`
	CPUMS     int64     `json:"cpu_ms"`
	RSSBytes  int64     `json:"rss_bytes"`
	StartedAt time.Time `json:"started_at"`
}

// ProcessList are the processes of an instance.
type ProcessList struct {
	Processes []Process `json:"processes"`
}

// ExecRequest runs a command in an instance: what an ExecuteRequest says of the
// command itself.
type ExecRequest struct {
	Command     Command           `json:"command" doc:"A string, run by sh -c, or an array of arguments, run as it is."`
	Stdin       *string           `json:"stdin,omitempty" doc:"Text given to the command on its standard input."`
	StdinBase64 []byte            `json:"stdin_base64,omitempty" doc:"Bytes given to the command on its standard input. Alias of stdin."`
	Payload     []int             `json:"payload,omitempty" doc:"An array of bytes given to the command on its standard input, for older clients. Alias of stdin."`
	EnvVars     map[string]string `json:"env_vars,omitempty" doc:"Environment on top of the instance's own: an object, or an array of [name, value] pairs."`
	Env         map[string]string `json:"env,omitempty" doc:"Alias of env_vars."`
	WorkingDir  string            `json:"working_dir,omitempty" doc:"Absolute. Default: the image's own, or /." example:"/work"`
	User        string            `json:"user,omitempty" doc:"Name or uid[:gid] inside. Default: the image's own, or root inside." example:"1000:1000"`
	Files       map[string]File   `json:"files,omitempty" doc:"Files written before the command, path to content: a string, {\"text\": string} or {\"base64\": string}. A relative path is below working_dir."`
	TimeoutMS   int64             `json:"timeout_ms,omitempty" minimum:"1" doc:"Limit on the command's run time. Default: the server's configuration."`
	TimeoutSecs float64           `json:"timeout_secs,omitempty" doc:"Alias of timeout_ms, in seconds."`
	Labels      map[string]string `json:"labels,omitempty" doc:"Kept with the execution."`
}

// InstanceLog is what one command in an instance wrote.
type InstanceLog struct {
	ExecutionID string               `json:"execution_id"`
	Status      faas.ExecutionStatus `json:"status" enum:"running,succeeded,failed,cancelled,lost"`
	Command     []string             `json:"command"`
	CreatedAt   time.Time            `json:"created_at"`
	FinishedAt  *time.Time           `json:"finished_at,omitempty"`
	ExitCode    *int                 `json:"exit_code,omitempty"`
	Stdout      string               `json:"stdout" doc:"What is on record of it: its beginning. Bytes that are not UTF-8 are replaced."`
	Stderr      string               `json:"stderr" doc:"Likewise."`
}

// InstanceLogs is one page of what the commands in an instance wrote, newest
// first.
type InstanceLogs struct {
	Logs       []InstanceLog `json:"logs"`
	NextCursor string        `json:"next_cursor" doc:"Cursor of the next page; empty at the end."`
}

// PauseRequest says whether an instance is saved before it stands still, and
// how the snapshot is called.
type PauseRequest struct {
	Checkpoint *bool `json:"checkpoint,omitempty" doc:"Take a snapshot first, which outlives the machine's next start. Default: true where the runtime can."`
	SnapshotSettings
}

// NewInstanceLog puts the record of a command into the form of the wire.
func NewInstanceLog(e *faas.Execution) InstanceLog {
	log := InstanceLog{ExecutionID: e.ID, Status: e.Status, Command: e.Command, CreatedAt: e.CreatedAt, FinishedAt: e.FinishedAt}
	if e.Result != nil {
		log.ExitCode = &e.Result.ExitCode
		log.Stdout, _ = text(e.Result.Stdout)
		log.Stderr, _ = text(e.Result.Stderr)
	}
	return log
}
