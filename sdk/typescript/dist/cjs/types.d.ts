/** A value of JSON. */
export type Json = string | number | boolean | null | Json[] | {
    [key: string]: Json;
};
export interface APIKey {
    created_at: string;
    /** Absent: never. */
    expires_at?: string;
    id: string;
    /** To the minute. */
    last_used_at?: string;
    name: string;
    project: string;
    quota: Quota;
    role: "admin" | "user" | "read-only";
    /** Areas of the API that the key is for (its tags), each for everything or, as area:read, for reading. Empty: every area. */
    scopes: string[];
}
export interface APIKeyList {
    api_keys: APIKey[];
    /** Cursor of the next page; empty at the end. */
    next_cursor: string;
}
export interface AuditEvent {
    /** What was done: the id of the API's operation, or another front door's word. */
    action: string;
    at: string;
    /** What else is worth knowing. */
    details?: {
        [key: string]: string;
    };
    id: string;
    /** Key that did it; empty for what the platform did by itself. */
    key_id: string;
    /** What it was done to; empty when it has no id. */
    object: string;
    outcome: "done" | "refused" | "failed";
    project: string;
    /** Address that it came from. */
    remote?: string;
    request_id?: string;
}
export interface AuditList {
    events: AuditEvent[];
    /** Cursor of the next page; empty at the end. */
    next_cursor: string;
}
export interface Branch {
    /** The same as id. */
    branch_id: string;
    /** The same as name. */
    branch_name: string;
    created_at: string;
    head_snapshot_id: string;
    id: string;
    name: string;
    /** When its head moved last. */
    updated_at: string;
}
export interface BranchList {
    branches: Branch[];
}
export interface BranchRequest {
    /** Required. Unique in the project. */
    branch_name?: string;
    /** Alias of branch_name. */
    name?: string;
    /** Required: the snapshot; or a branch, an execution, or an instance, which is saved for it and whose snapshots then move the branch on. */
    parent_snapshot_id?: string;
    /** Alias of parent_snapshot_id. */
    snapshot_id?: string;
}
export interface Capabilities {
    available: boolean;
    detail?: string;
    features: Capability[];
    probe_ms: number;
    probed_at: string;
    reason?: string;
    remedy?: string;
    runtime: string;
    version?: string;
}
export interface Capability {
    available: boolean;
    detail?: string;
    feature: string;
    reason?: string;
    remedy?: string;
}
export interface CreateAPIKeyRequest {
    /** When the key ends. Default: never. */
    expires_at?: string;
    /** What the key is for. */
    name: string;
    /** Project of the key, made when missing. Default: the caller's. Another one only for admins of the project default. */
    project?: string;
    quota?: Quota;
    /** Default: user. */
    role?: "admin" | "user" | "read-only";
    /** Areas of the API (its tags), each for everything or, as area:read, for reading. Default: every area. */
    scopes?: string[];
    /** How long the key lives, in the place of expires_at. */
    ttl_ms?: number;
}
export interface CreateTicketRequest {
    /** Path that the ticket is for. Default: any WebSocket or event stream of the project. */
    path?: string;
}
export interface ExecRequest {
    /** A string, run by sh -c, or an array of arguments, run as it is. */
    command: string | string[];
    /** Alias of env_vars. */
    env?: {
        [key: string]: string;
    } | string[][];
    /** Environment on top of the instance's own: an object, or an array of [name, value] pairs. */
    env_vars?: {
        [key: string]: string;
    } | string[][];
    /** Files written before the command, path to content: a string, {"text": string} or {"base64": string}. A relative path is below working_dir. */
    files?: {
        [key: string]: string | {
            text: string;
        } | {
            base64: string;
        };
    };
    /** Kept with the execution. */
    labels?: {
        [key: string]: string;
    };
    /** An array of bytes given to the command on its standard input, for older clients. Alias of stdin. */
    payload?: number[];
    /** Text given to the command on its standard input. */
    stdin?: string;
    /** Bytes given to the command on its standard input. Alias of stdin. */
    stdin_base64?: string;
    /** Limit on the command's run time. Default: the server's configuration. */
    timeout_ms?: number;
    /** Alias of timeout_ms, in seconds. */
    timeout_secs?: number;
    /** Name or uid[:gid] inside. Default: the image's own, or root inside. */
    user?: string;
    /** Absolute. Default: the image's own, or /. */
    working_dir?: string;
}
export interface ExecuteRequest {
    /** Accept a weaker substitute, named in the answer. */
    allow_degraded?: boolean;
    /** An execution, snapshot or branch to continue from. */
    branch_from?: string;
    /** Cached mode: keep the result of a command that failed, too. */
    cache_failures?: boolean;
    /** Cached mode: a further part of the key, never the whole of it. */
    cache_key?: string;
    /** Cached mode: how long the result may be answered again. */
    cache_ttl_ms?: number;
    /** Alias of snapshot_id, for older clients. */
    checkpoint_id?: string;
    /** A string, run by sh -c, or an array of arguments, run as it is. */
    command: string | string[];
    /** Cores, fractions allowed. */
    cpu_cores?: number;
    /** MiB of the writable layer. */
    disk_mb?: number;
    /** What a start from a full snapshot does about processes whose random generators cannot be renewed: report (default) goes on, strict refuses. */
    entropy?: "report" | "strict";
    /** Alias of env_vars. */
    env?: {
        [key: string]: string;
    } | string[][];
    /** Environment on top of the image's own: an object, or an array of [name, value] pairs. */
    env_vars?: {
        [key: string]: string;
    } | string[][];
    /** Files written before the command, path to content: a string, {"text": string} or {"base64": string}. A relative path is below working_dir. */
    files?: {
        [key: string]: string | {
            text: string;
        } | {
            base64: string;
        };
    };
    /** An OCI reference, an imported image, or host. Default: the server's configuration. */
    image?: string;
    /** Kept with the execution. */
    labels?: {
        [key: string]: string;
    };
    /** MiB of memory. */
    memory_mb?: number;
    /** What becomes of the sandbox afterwards. Default: ephemeral. */
    mode?: "ephemeral" | "cached" | "checkpointed" | "branched" | "persistent";
    /** What the sandbox may reach: {"mode": "none"} (default), {"mode": "egress", "allow": [CIDR …]}, or the bare mode as a string. */
    network?: NetworkPolicy | "none" | "egress";
    /** An array of bytes given to the command on its standard input, for older clients. Alias of stdin. */
    payload?: number[];
    /** Processes and threads. */
    pids?: number;
    /** What isolates. Default: auto, the strongest that offers what the request needs. */
    runtime?: "auto" | "docker" | "native" | "gvisor" | "firecracker" | "qemu";
    /** Start from this snapshot. */
    snapshot_id?: string;
    /** Text given to the command on its standard input. */
    stdin?: string;
    /** Bytes given to the command on its standard input. Alias of stdin. */
    stdin_base64?: string;
    /** Limit on the command's run time. Default: the server's configuration. */
    timeout_ms?: number;
    /** Alias of timeout_ms, in seconds. */
    timeout_secs?: number;
    /** Name or uid[:gid] inside the sandbox. Default: the image's own, or root inside. */
    user?: string;
    /** Absolute. Default: the image's own, or /. */
    working_dir?: string;
}
export interface ExecuteResponse {
    cache_hit: boolean;
    /** What is weaker than asked, and why. */
    degraded?: string;
    /** Of the command inside the sandbox. */
    duration_ms: number;
    /** Null, or why the platform ended the command. */
    error: string | null;
    /** The command's exit code; 128 + signal when a signal ended it. */
    exit_code: number;
    instance_id?: string;
    /** Limits that ended or hindered the command. */
    limits_hit?: ("memory" | "pids" | "disk" | "timeout")[];
    /** The same as stderr, for older clients. */
    logs: string;
    /** The same as stdout, for older clients. */
    output: string;
    /** Before a sandbox was its own. */
    queued_ms: number;
    /** Id of the execution. */
    request_id: string;
    runtime_used: string;
    /** Signal that ended the command. */
    signal?: string;
    snapshot_id?: string;
    /** Standard error, likewise. */
    stderr: string;
    /** Standard error, when it is not UTF-8. */
    stderr_base64?: string;
    /** Standard output; bytes that are not UTF-8 are replaced, and stdout_base64 has them all. */
    stdout: string;
    /** Standard output, when it is not UTF-8. */
    stdout_base64?: string;
    /** The command ran into its time-out. */
    timed_out: boolean;
    /** Output beyond the kept size was dropped. */
    truncated: boolean;
    usage: Usage;
}
export interface Execution {
    command: string[];
    created_at: string;
    error?: string;
    finished_at?: string;
    id: string;
    image: string;
    instance_id?: string;
    mode: string;
    project: string;
    result?: Result;
    runtime: string;
    status: string;
}
export interface ExecutionList {
    executions: Execution[];
    /** Cursor of the next page; empty at the end. */
    next_cursor: string;
}
export interface ExecutorMetrics {
    cold_starts: number;
    /** Sandboxes that are being destroyed behind their answers. */
    dying: number;
    /** Share of claims, 0 to 1, that found a warm sandbox. */
    pool_hit_rate: number;
    pool_hits: number;
    /** Time that the others took to have one made, in all. */
    pool_miss_ms: number;
    /** Executions that wait for their turn. */
    queued: number;
    requests: number;
    running: number;
}
export interface FieldError {
    field: string;
    reason: string;
}
export interface ForkFailure {
    /** Place in the request, from 0. */
    index: number;
    problem: Problem;
}
export interface ForkRequest {
    /** Accept a weaker substitute, named in the answer. */
    allow_degraded?: boolean;
    /** An execution, snapshot or branch to continue from. */
    branch_from?: string;
    /** Cached mode: keep the result of a command that failed, too. */
    cache_failures?: boolean;
    /** Cached mode: a further part of the key, never the whole of it. */
    cache_key?: string;
    /** Cached mode: how long the result may be answered again. */
    cache_ttl_ms?: number;
    /** Alias of snapshot_id, for older clients. */
    checkpoint_id?: string;
    /** A string, run by sh -c, or an array of arguments, run as it is. */
    command?: string | string[];
    /** Alias of instance_id, for older clients. */
    container_id?: string;
    /** Copies. Default: 1, or one for each of variants. */
    count?: number;
    /** Cores, fractions allowed. */
    cpu_cores?: number;
    /** MiB of the writable layer. */
    disk_mb?: number;
    /** What a start from a full snapshot does about processes whose random generators cannot be renewed: report (default) goes on, strict refuses. */
    entropy?: "report" | "strict";
    /** Alias of env_vars. */
    env?: {
        [key: string]: string;
    } | string[][];
    /** Environment on top of the image's own: an object, or an array of [name, value] pairs. */
    env_vars?: {
        [key: string]: string;
    } | string[][];
    /** Fork what this execution left. */
    execution_id?: string;
    /** Files written before the command, path to content: a string, {"text": string} or {"base64": string}. A relative path is below working_dir. */
    files?: {
        [key: string]: string | {
            text: string;
        } | {
            base64: string;
        };
    };
    /** An OCI reference, an imported image, or host. Default: the server's configuration. */
    image?: string;
    /** Fork this instance, which goes on. */
    instance_id?: string;
    /** Kept with the execution. */
    labels?: {
        [key: string]: string;
    };
    /** MiB of memory. */
    memory_mb?: number;
    /** What becomes of the sandbox afterwards. Default: ephemeral. */
    mode?: "ephemeral" | "cached" | "checkpointed" | "branched" | "persistent";
    /** What the sandbox may reach: {"mode": "none"} (default), {"mode": "egress", "allow": [CIDR …]}, or the bare mode as a string. */
    network?: NetworkPolicy | "none" | "egress";
    /** An array of bytes given to the command on its standard input, for older clients. Alias of stdin. */
    payload?: number[];
    /** Processes and threads. */
    pids?: number;
    /** What isolates. Default: auto, the strongest that offers what the request needs. */
    runtime?: "auto" | "docker" | "native" | "gvisor" | "firecracker" | "qemu";
    /** Start from this snapshot. */
    snapshot_id?: string;
    /** Text given to the command on its standard input. */
    stdin?: string;
    /** Bytes given to the command on its standard input. Alias of stdin. */
    stdin_base64?: string;
    /** Limit on the command's run time. Default: the server's configuration. */
    timeout_ms?: number;
    /** Alias of timeout_ms, in seconds. */
    timeout_secs?: number;
    /** Name or uid[:gid] inside the sandbox. Default: the image's own, or root inside. */
    user?: string;
    /** What differs, one for each copy. */
    variants?: ExecuteRequest[];
    /** Absolute. Default: the image's own, or /. */
    working_dir?: string;
}
export interface ForkedExecution {
    cache_hit: boolean;
    /** What is weaker than asked, and why. */
    degraded?: string;
    /** Of the command inside the sandbox. */
    duration_ms: number;
    /** Null, or why the platform ended the command. */
    error: string | null;
    /** The command's exit code; 128 + signal when a signal ended it. */
    exit_code: number;
    instance_id?: string;
    /** Limits that ended or hindered the command. */
    limits_hit?: ("memory" | "pids" | "disk" | "timeout")[];
    /** The same as stderr, for older clients. */
    logs: string;
    /** The same as stdout, for older clients. */
    output: string;
    /** How long the source stood still, for all copies together. */
    pause_ms: number;
    problem?: Problem;
    /** Before a sandbox was its own. */
    queued_ms: number;
    /** Id of the execution. */
    request_id: string;
    runtime_used: string;
    /** Signal that ended the command. */
    signal?: string;
    snapshot_id?: string;
    /** Standard error, likewise. */
    stderr: string;
    /** Standard error, when it is not UTF-8. */
    stderr_base64?: string;
    /** Standard output; bytes that are not UTF-8 are replaced, and stdout_base64 has them all. */
    stdout: string;
    /** Standard output, when it is not UTF-8. */
    stdout_base64?: string;
    /** The command ran into its time-out. */
    timed_out: boolean;
    /** Output beyond the kept size was dropped. */
    truncated: boolean;
    usage: Usage;
}
export interface Health {
    /** Whether the docker runtime is available. */
    docker: boolean;
    /** Whether the firecracker runtime is available. */
    firecracker: boolean;
    /** Runtimes are still being probed: the list may grow. */
    probing: boolean;
    /** Runtimes found available so far. */
    runtimes: string[];
    /** draining while the server shuts down. */
    status: "ok" | "draining";
    uptime_ms: number;
    version: string;
}
export interface Hook {
    exit_code: number;
    output?: string;
    path: string;
}
export interface Image {
    added_at: string;
    digest: string;
    /** Sandboxes and snapshots that hold it. */
    in_use: number;
    layers: number;
    /** References under which the project uses it. */
    names: string[];
    platform: string;
    /** Unpacked; layers that images share are stored once. */
    size_bytes: number;
    source: "pull" | "import" | "host";
}
export interface ImageList {
    images: Image[];
}
export interface Instance {
    /** It is paused or stopped because it was idle: the next command or connection wakes it. */
    asleep?: boolean;
    /** The branch whose head its snapshots become. */
    branch_id?: string;
    /** In the answer to a pause: the snapshot that it left. */
    checkpoint_id?: string;
    /** The same as id, for older clients. */
    container_id: string;
    created_at: string;
    /** What is weaker than asked, and why. */
    degraded?: string;
    /** Why it is failed. */
    error?: string;
    /** When it is deleted. */
    expires_at?: string;
    /** Of a start from a snapshot: the on-restore hooks that ran. */
    hooks?: Hook[];
    id: string;
    /** After this long without use it is put to sleep. */
    idle_timeout_ms?: number;
    image: string;
    /** The same as id. */
    instance_id: string;
    labels: {
        [key: string]: string;
    };
    /** Empty: it has none. */
    name: string;
    network: NetworkPolicy;
    on_idle?: "pause" | "stop";
    /** Of a start from a full snapshot: the random generators found in its processes' memory, and those that could not be renewed. */
    reseeded?: Reseeded[];
    resources: Resources;
    runtime: string;
    /** That it was made of or, later, last saved as. */
    snapshot_id?: string;
    /** Where it is reached by SSH; absent where it is not. */
    ssh_host?: string;
    ssh_port?: number;
    ssh_username?: string;
    /** When its present sandbox began. */
    started_at?: string;
    status: "running" | "paused" | "stopped" | "failed" | "creating" | "pausing" | "resuming" | "stopping" | "starting" | "deleting";
}
export interface InstanceFork {
    /** Those that could not be made; nothing of them is left. */
    failures: ForkFailure[];
    /** The copies that were made. */
    instances: Instance[];
    /** How long the source stood still. */
    pause_ms: number;
}
export interface InstanceForkRequest {
    /** Accept a weaker substitute, named in the answer. */
    allow_degraded?: boolean;
    /** Copies. Default: 1, or one for each of variants. */
    count?: number;
    /** Cores, fractions allowed. */
    cpu_cores?: number;
    /** GiB of the writable layer, fractions allowed. */
    disk_gb?: number;
    /** Alias of disk_gb, in MiB. */
    disk_mb?: number;
    /** true: refuse when no SSH server runs; false: keep the SSH server from it. Absent: SSH reaches it where a server runs. */
    enable_ssh?: boolean;
    /** What a start from a full snapshot does about processes whose random generators cannot be renewed: report (default) names them, strict refuses. */
    entropy?: "report" | "strict";
    /** Alias of env_vars. */
    env?: {
        [key: string]: string;
    } | string[][];
    /** Environment of every command: an object, or an array of [name, value] pairs. */
    env_vars?: {
        [key: string]: string;
    } | string[][];
    /** After this long without a command in it or a connection to it, on_idle is done; the next one wakes it. Default: never. */
    idle_timeout_ms?: number;
    /** To find it by. */
    labels?: {
        [key: string]: string;
    };
    /** MiB of memory. */
    memory_mb?: number;
    /** Unique among the project's instances. */
    name?: string;
    /** What it may reach. Default: none, or as the snapshot's source. */
    network?: NetworkPolicy | "none" | "egress";
    /** pause (default): its processes stand still and keep their memory; stop: its files stay. */
    on_idle?: "pause" | "stop";
    /** Processes and threads. */
    pids?: number;
    /** What isolates. Default: auto, or what made the snapshot. */
    runtime?: "auto" | "docker" | "native" | "gvisor" | "firecracker" | "qemu";
    /** After which it is deleted. Default: never. */
    ttl_ms?: number;
    /** What each copy is to be like, where it differs. */
    variants?: InstanceSettings[];
}
export interface InstanceList {
    instances: Instance[];
    /** Cursor of the next page; empty at the end. */
    next_cursor: string;
}
export interface InstanceLog {
    command: string[];
    created_at: string;
    execution_id: string;
    exit_code?: number;
    finished_at?: string;
    status: "running" | "succeeded" | "failed" | "cancelled" | "lost";
    /** Likewise. */
    stderr: string;
    /** What is on record of it: its beginning. Bytes that are not UTF-8 are replaced. */
    stdout: string;
}
export interface InstanceLogs {
    logs: InstanceLog[];
    /** Cursor of the next page; empty at the end. */
    next_cursor: string;
}
export interface InstanceRequest {
    /** Accept a weaker substitute, named in the answer. */
    allow_degraded?: boolean;
    /** Start from a snapshot, a branch (id or name), an instance or an execution. */
    branch_from?: string;
    /** Alias of snapshot_id, for older clients. */
    checkpoint_id?: string;
    /** Cores, fractions allowed. */
    cpu_cores?: number;
    /** GiB of the writable layer, fractions allowed. */
    disk_gb?: number;
    /** Alias of disk_gb, in MiB. */
    disk_mb?: number;
    /** true: refuse when no SSH server runs; false: keep the SSH server from it. Absent: SSH reaches it where a server runs. */
    enable_ssh?: boolean;
    /** What a start from a full snapshot does about processes whose random generators cannot be renewed: report (default) names them, strict refuses. */
    entropy?: "report" | "strict";
    /** Alias of env_vars. */
    env?: {
        [key: string]: string;
    } | string[][];
    /** Environment of every command: an object, or an array of [name, value] pairs. */
    env_vars?: {
        [key: string]: string;
    } | string[][];
    /** After this long without a command in it or a connection to it, on_idle is done; the next one wakes it. Default: never. */
    idle_timeout_ms?: number;
    /** An OCI reference, an imported image, or host. Default: the server's configuration. */
    image?: string;
    /** To find it by. */
    labels?: {
        [key: string]: string;
    };
    /** MiB of memory. */
    memory_mb?: number;
    /** Unique among the project's instances. */
    name?: string;
    /** What it may reach. Default: none, or as the snapshot's source. */
    network?: NetworkPolicy | "none" | "egress";
    /** pause (default): its processes stand still and keep their memory; stop: its files stay. */
    on_idle?: "pause" | "stop";
    /** Processes and threads. */
    pids?: number;
    /** What isolates. Default: auto, or what made the snapshot. */
    runtime?: "auto" | "docker" | "native" | "gvisor" | "firecracker" | "qemu";
    /** Start from this snapshot. */
    snapshot_id?: string;
    /** After which it is deleted. Default: never. */
    ttl_ms?: number;
}
export interface InstanceSSH {
    command: string;
    host_keys: SSHHostKey[];
    instance_id: string;
    /** Lines for a known_hosts file. */
    known_hosts: string;
    ssh_host: string;
    /** Keys that may log in to it. */
    ssh_keys: SSHKey[];
    ssh_port: number;
    ssh_username: string;
    /** Public key of the server's own certificate authority. */
    user_ca: string;
}
export interface InstanceSettings {
    /** Accept a weaker substitute, named in the answer. */
    allow_degraded?: boolean;
    /** Cores, fractions allowed. */
    cpu_cores?: number;
    /** GiB of the writable layer, fractions allowed. */
    disk_gb?: number;
    /** Alias of disk_gb, in MiB. */
    disk_mb?: number;
    /** true: refuse when no SSH server runs; false: keep the SSH server from it. Absent: SSH reaches it where a server runs. */
    enable_ssh?: boolean;
    /** What a start from a full snapshot does about processes whose random generators cannot be renewed: report (default) names them, strict refuses. */
    entropy?: "report" | "strict";
    /** Alias of env_vars. */
    env?: {
        [key: string]: string;
    } | string[][];
    /** Environment of every command: an object, or an array of [name, value] pairs. */
    env_vars?: {
        [key: string]: string;
    } | string[][];
    /** After this long without a command in it or a connection to it, on_idle is done; the next one wakes it. Default: never. */
    idle_timeout_ms?: number;
    /** To find it by. */
    labels?: {
        [key: string]: string;
    };
    /** MiB of memory. */
    memory_mb?: number;
    /** Unique among the project's instances. */
    name?: string;
    /** What it may reach. Default: none, or as the snapshot's source. */
    network?: NetworkPolicy | "none" | "egress";
    /** pause (default): its processes stand still and keep their memory; stop: its files stay. */
    on_idle?: "pause" | "stop";
    /** Processes and threads. */
    pids?: number;
    /** What isolates. Default: auto, or what made the snapshot. */
    runtime?: "auto" | "docker" | "native" | "gvisor" | "firecracker" | "qemu";
    /** After which it is deleted. Default: never. */
    ttl_ms?: number;
}
export interface InstanceStats {
    /** User and system time since its sandbox began. */
    cpu_ms: number;
    /** In the writable layer. */
    disk_bytes: number;
    max_memory_bytes: number;
    memory_bytes: number;
    /** Processes killed for want of memory. */
    oom_kills: number;
    /** Processes and threads. */
    pids: number;
    /** Forks that were refused. */
    pids_refused: number;
}
export interface InstanceUpdate {
    /** 0: never. */
    idle_timeout_ms?: number;
    /** In the place of those that it has; {} removes them. */
    labels?: {
        [key: string]: string;
    };
    /** Empty: no name. */
    name?: string;
    on_idle?: "pause" | "stop";
    /** From now on, after which it is deleted; 0: never. */
    ttl_ms?: number;
}
export interface MergeConflict {
    branches: string[];
    path: string;
}
export interface MergeRequest {
    /** Branches by id or name, or snapshots. */
    branch_ids: string[];
    description?: string;
    labels?: {
        [key: string]: string;
    };
    /** union (default) takes all changes and refuses when two changed a path differently, intersection keeps what all changed alike, latest lets the newer win. */
    merge_strategy?: "union" | "intersection" | "latest";
    /** Of the snapshot that results. */
    name?: string;
    /** Alias of merge_strategy. */
    strategy?: "union" | "intersection" | "latest";
}
export interface MergeResponse {
    /** Paths that were changed differently, and that the strategy settled. */
    conflicts: MergeConflict[];
    /** The snapshot that results, of kind fs. */
    merged_id: string;
    snapshot: Snapshot;
    /** The same as merged_id. */
    snapshot_id: string;
}
export interface Metrics {
    /** Of the executions that ran. */
    avg_execution_time_ms: number;
    /** Share of total_requests, 0 to 1. */
    cache_hit_rate: number;
    cache_hits: number;
    /** Share of total_requests that could not run, 0 to 1. */
    error_rate: number;
    executions_by_runtime: {
        [key: string]: number;
    };
    /** Counters of the whole installation, for admins. */
    executor?: ExecutorMetrics;
    running: number;
    /** Executions that ended, refused ones included. */
    total_requests: number;
    uptime_ms: number;
}
export interface NetworkPolicy {
    allow?: string[];
    mode: string;
}
export interface NewAPIKey {
    created_at: string;
    /** Absent: never. */
    expires_at?: string;
    id: string;
    /** The plain key. It is not kept: store it now. */
    key: string;
    /** To the minute. */
    last_used_at?: string;
    name: string;
    project: string;
    quota: Quota;
    role: "admin" | "user" | "read-only";
    /** Areas of the API that the key is for (its tags), each for everything or, as area:read, for reading. Empty: every area. */
    scopes: string[];
}
export interface PauseRequest {
    /** Take a snapshot first, which outlives the machine's next start. Default: true where the runtime can. */
    checkpoint?: boolean;
    description?: string;
    /** fs: files; full: files, memory and processes; auto (default): the best that the runtime can. */
    kind?: "auto" | "fs" | "full";
    /** To find it by. */
    labels?: {
        [key: string]: string;
    };
    /** Names need not be unique. */
    name?: string;
}
export interface Pool {
    /** Sandboxes replaced for their age. */
    aged: number;
    cpu_cores: number;
    disk_mb: number;
    /** Why the last attempt to make one failed. */
    error?: string;
    /** Claims that found one. */
    hits: number;
    /** The same for the same runtime, image and limits. */
    id: string;
    /** Sandboxes that are ready. */
    idle: number;
    image: string;
    /** Time to make one ahead, of late. */
    make_ms: number;
    /** Sandboxes under way. */
    making: number;
    /** Sandboxes kept ready at most. */
    max: number;
    memory_mb: number;
    /** Sandboxes kept ready whatever the demand. */
    min: number;
    /** Time that those took to make one, in all. */
    miss_ms: number;
    /** Claims that found none, and had one made. */
    misses: number;
    /** Age of the oldest that is ready. */
    oldest_ms: number;
    pids: number;
    /** The highest is served first when sandboxes or memory are short. */
    priority: number;
    runtime: string;
    /** Where it comes from; one of a prewarm goes when its time is over. */
    source: "configuration" | "api" | "prewarm";
    /** Sandboxes that are to be ready now. */
    target: number;
    /** Why target is what it is. */
    why: string;
}
export interface PoolList {
    pools: Pool[];
}
export interface PoolSettings {
    cpu_cores?: number;
    disk_mb?: number;
    /** Default: that of executions. */
    image?: string;
    /** Sandboxes kept ready at most, as the demand asks; default min. */
    max?: number;
    memory_mb?: number;
    /** Sandboxes kept ready whatever the demand. */
    min: number;
    pids?: number;
    /** The highest is served first when sandboxes or memory are short. */
    priority?: number;
    /** Default: auto. */
    runtime?: "auto" | "docker" | "native" | "gvisor" | "firecracker" | "qemu";
}
export interface Prewarm {
    /** Sandboxes to keep ready for ten minutes. */
    count: number;
    cpu_cores?: number;
    disk_mb?: number;
    /** Default: that of executions. */
    image?: string;
    memory_mb?: number;
    pids?: number;
    /** Default: auto. */
    runtime?: "auto" | "docker" | "native" | "gvisor" | "firecracker" | "qemu";
}
export interface Problem {
    /** The stable class of the error. */
    code: "invalid_argument" | "unauthenticated" | "permission_denied" | "not_found" | "conflict" | "failed_precondition" | "capability_unavailable" | "payload_too_large" | "resource_exhausted" | "deadline_exceeded" | "unavailable" | "internal";
    /** For a refused merge: the paths that branches changed differently. */
    conflicts?: MergeConflict[];
    /** What failed, on what. */
    detail: string;
    /** For invalid input: each field and why. */
    errors?: FieldError[];
    /** What can be done about it. */
    remedy?: string;
    /** Id of the HTTP request, as in the server's log. */
    request_id: string;
    status: number;
    /** The status in words. */
    title: string;
    /** Always about:blank: code tells the problems apart. */
    type: string;
}
export interface Process {
    command: string[];
    cpu_ms: number;
    /** Inside. */
    pid: number;
    ppid: number;
    rss_bytes: number;
    started_at: string;
    /** One letter, as in /proc/PID/stat. */
    state: string;
    /** Inside. */
    uid: number;
}
export interface ProcessList {
    processes: Process[];
}
export interface PullEvent {
    /** Bytes. */
    done?: number;
    error?: Problem;
    image?: Image;
    /** resolve, wait, download DIGEST or unpack DIGEST. */
    step?: string;
    /** Bytes; absent: not known. */
    total?: number;
    type: "progress" | "image" | "error";
}
export interface PullImageRequest {
    /** OCI reference. */
    image: string;
    /** os/arch[/variant]. Default: linux on the server's machine's. */
    platform?: string;
    /** When to ask the registry. Default: always. */
    policy?: "missing" | "always" | "never";
}
export interface Quota {
    /** Requests that may come at once within the rate. 0: one second's. */
    burst?: number;
    /** Executions that run or wait, and instances that are not stopped, at one time. 0: no bound. */
    concurrency?: number;
    /** Disk limits of all of those together, in MiB. 0: no bound. */
    disk_mb?: number;
    /** Executions begun since midnight UTC. 0: no bound. */
    executions_per_day?: number;
    /** Memory limits of all of those together, in MiB. 0: no bound. */
    memory_mb?: number;
    /** Requests a second. 0: no bound. */
    rate_per_second?: number;
}
export interface Removed {
    /** Ids of what was removed. */
    removed: string[];
}
export interface RemovedImage {
    /** 0 while others need its layers. */
    freed_bytes: number;
    image: string;
}
export interface Reseeded {
    command: string;
    done: boolean;
    library?: string;
    method: string;
    pid: number;
    reason?: string;
}
export interface Resources {
    cpu_cores: number;
    /** GiB of the writable layer. */
    disk_gb: number;
    /** The same in MiB. */
    disk_mb: number;
    memory_mb: number;
    pids: number;
}
export interface Result {
    cache_hit: boolean;
    degraded?: string;
    duration_ms: number;
    error?: string;
    exit_code: number;
    instance_id?: string;
    limits_hit?: string[];
    project: string;
    queued_ms: number;
    request_id: string;
    runtime_used: string;
    signal?: string;
    snapshot_id?: string;
    timed_out: boolean;
    truncated: boolean;
    usage: Usage;
}
export interface RuntimeList {
    runtimes: Capabilities[];
}
export interface SSHCertificate {
    /** The line of a -cert.pub file. */
    certificate: string;
    created_at: string;
    /** API key that it was made with. */
    created_by?: string;
    /** After which it cannot log in; absent: never. */
    expires_at?: string;
    fingerprint: string;
    id: string;
    /** Instances that it may log in to; empty: all of the project's. */
    instance_ids: string[];
    kind: "key" | "certificate";
    last_used_at?: string;
    /** Address of the last login. */
    last_used_from?: string;
    /** Connections at one time; 0: as many as the configuration allows. */
    max_sessions: number;
    name?: string;
    origin: "generated" | "imported" | "signed";
    project: string;
    /** In the form of authorized_keys. */
    public_key: string;
    /** Key that a rotation put in this one's place. */
    replaced_by?: string;
    /** Key that a rotation made this one for. */
    replaces?: string;
    /** Of a certificate. */
    serial?: number;
    type: string;
}
export interface SSHHostKey {
    /** Of a key that a rotation has announced: when it takes the place of the old one. */
    counts_from?: string;
    fingerprint: string;
    public_key: string;
    type: string;
}
export interface SSHHostKeysRequest {
    /** How long they are announced before they take the place of the old; absent: a week, 0: at once. */
    overlap_ms?: number;
}
export interface SSHKey {
    created_at: string;
    /** API key that it was made with. */
    created_by?: string;
    /** After which it cannot log in; absent: never. */
    expires_at?: string;
    fingerprint: string;
    id: string;
    /** Instances that it may log in to; empty: all of the project's. */
    instance_ids: string[];
    kind: "key" | "certificate";
    last_used_at?: string;
    /** Address of the last login. */
    last_used_from?: string;
    /** Connections at one time; 0: as many as the configuration allows. */
    max_sessions: number;
    name?: string;
    origin: "generated" | "imported" | "signed";
    project: string;
    /** In the form of authorized_keys. */
    public_key: string;
    /** Key that a rotation put in this one's place. */
    replaced_by?: string;
    /** Key that a rotation made this one for. */
    replaces?: string;
    /** Of a certificate. */
    serial?: number;
    type: string;
}
export interface SSHKeyCreated {
    created_at: string;
    /** API key that it was made with. */
    created_by?: string;
    /** After which it cannot log in; absent: never. */
    expires_at?: string;
    fingerprint: string;
    id: string;
    /** Instances that it may log in to; empty: all of the project's. */
    instance_ids: string[];
    kind: "key" | "certificate";
    last_used_at?: string;
    /** Address of the last login. */
    last_used_from?: string;
    /** Connections at one time; 0: as many as the configuration allows. */
    max_sessions: number;
    name?: string;
    origin: "generated" | "imported" | "signed";
    /** Of a generated key, in OpenSSH's form. It is not shown again, and nothing keeps it. */
    private_key?: string;
    project: string;
    /** In the form of authorized_keys. */
    public_key: string;
    /** Key that a rotation put in this one's place. */
    replaced_by?: string;
    /** Key that a rotation made this one for. */
    replaces?: string;
    /** Of a certificate. */
    serial?: number;
    type: string;
}
export interface SSHKeyList {
    /** Cursor of the next page; empty at the end. */
    next_cursor: string;
    ssh_keys: SSHKey[];
}
export interface SSHKeyRequest {
    /** Of a key to generate: 256, 384 or 521 for ecdsa, 3072 to 8192 for rsa. */
    bits?: number;
    /** After which it cannot log in; absent: never. */
    expires_at?: string;
    /** Instances that it may log in to; absent: all of the project's. */
    instance_ids?: string[];
    /** Connections at one time; 0: as many as the configuration allows. */
    max_sessions?: number;
    /** For people. */
    name?: string;
    /** A key to import, as one line of authorized_keys. */
    public_key?: string;
    /** The same as a time from now. */
    ttl_ms?: number;
    /** Of a key to generate; ed25519 when absent. */
    type?: "ed25519" | "ecdsa" | "rsa";
}
export interface SSHRotateRequest {
    /** How long the old one logs in still; absent: a day. */
    overlap_ms?: number;
    /** The new one; absent: one like the old is generated. */
    public_key?: string;
}
export interface SSHServer {
    host_keys: SSHHostKey[];
    /** Lines for a known_hosts file. */
    known_hosts: string;
    ssh_host: string;
    ssh_port: number;
    /** Public key of the server's own certificate authority. */
    user_ca: string;
}
export interface SSHSignRequest {
    /** Instances that it logs in to; absent: all of the project's. */
    instance_ids?: string[];
    /** Connections at one time; 0: as many as the configuration allows. */
    max_sessions?: number;
    /** For people. */
    name?: string;
    /** That the certificate is for, as one line of authorized_keys. */
    public_key: string;
    /** How long it logs in; absent: five minutes. At most a day. */
    ttl_ms?: number;
}
export interface ServerFrame {
    bytes?: number;
    code?: number;
    data?: string;
    data_base64?: string;
    error?: Problem;
    id?: string;
    result?: ExecuteResponse;
    seq: number;
    signal?: string;
    type: string;
}
export interface Snapshot {
    /** The same as id, for older clients. */
    checkpoint_id: string;
    /** The same as instance_id, for older clients. */
    container_id?: string;
    created_at: string;
    /** File layers above its image. */
    depth: number;
    description: string;
    id: string;
    image: string;
    image_digest: string;
    /** Its source. */
    instance_id?: string;
    kind: "fs" | "full";
    labels: {
        [key: string]: string;
    };
    /** Of them, those that hold memory and processes. */
    memory_bytes: number;
    /** Under way between the tiers: archive or fetch, and how far. */
    move?: SnapshotMove;
    /** Empty: it has none. */
    name: string;
    /** The snapshot that its source was made of or last saved as. */
    parent_id?: string;
    /** In the answer to its making: how long its source stood still. */
    pause_ms?: number;
    /** Of its source. */
    resources: Resources;
    runtime: string;
    /** Of its own files: what it holds besides its parents. */
    size_bytes: number;
    /** The same as id. */
    snapshot_id: string;
    /** What it takes now, in both tiers together; of its cold copy what no earlier one had stored. */
    stored_bytes: number;
    /** Where its bytes are: hot, where restores take them from, or cold, from where they are brought back first. */
    tier: "hot" | "cold" | "hot+cold";
}
export interface SnapshotChange {
    change: string;
    new_size_bytes: number;
    old_size_bytes: number;
    path: string;
}
export interface SnapshotCollected {
    /** In the cold tier. */
    freed_bytes: number;
}
export interface SnapshotDiff {
    changes: SnapshotChange[];
    from: string;
    new_memory_bytes: number;
    old_memory_bytes: number;
    to: string;
}
export interface SnapshotExecRequest {
    /** Accept a weaker substitute, named in the answer. */
    allow_degraded?: boolean;
    /** A string, run by sh -c, or an array of arguments, run as it is. */
    command: string | string[];
    /** Cores, fractions allowed. Default, as of the other limits: as the snapshot's source. */
    cpu_cores?: number;
    /** MiB of the writable layer. */
    disk_mb?: number;
    /** What to do about processes whose random generators cannot be renewed. */
    entropy?: "report" | "strict";
    /** Alias of env_vars. */
    env?: {
        [key: string]: string;
    } | string[][];
    /** Environment on top of the instance's own: an object, or an array of [name, value] pairs. */
    env_vars?: {
        [key: string]: string;
    } | string[][];
    /** Files written before the command, path to content: a string, {"text": string} or {"base64": string}. A relative path is below working_dir. */
    files?: {
        [key: string]: string | {
            text: string;
        } | {
            base64: string;
        };
    };
    /** Kept with the execution. */
    labels?: {
        [key: string]: string;
    };
    /** MiB of memory. */
    memory_mb?: number;
    /** What the sandbox may reach: an object, or the bare mode as a string. Default: as the snapshot's source. */
    network?: NetworkPolicy | "none" | "egress";
    /** An array of bytes given to the command on its standard input, for older clients. Alias of stdin. */
    payload?: number[];
    /** Processes and threads. */
    pids?: number;
    /** Text given to the command on its standard input. */
    stdin?: string;
    /** Bytes given to the command on its standard input. Alias of stdin. */
    stdin_base64?: string;
    /** Limit on the command's run time. Default: the server's configuration. */
    timeout_ms?: number;
    /** Alias of timeout_ms, in seconds. */
    timeout_secs?: number;
    /** Name or uid[:gid] inside. Default: the image's own, or root inside. */
    user?: string;
    /** Absolute. Default: the image's own, or /. */
    working_dir?: string;
}
export interface SnapshotKey {
    /** For snapshots.trusted_keys of another installation. */
    public_key: string;
}
export interface SnapshotList {
    /** Cursor of the next page; empty at the end. */
    next_cursor: string;
    snapshots: Snapshot[];
}
export interface SnapshotMove {
    done_bytes: number;
    phase: string;
    total_bytes: number;
}
export interface SnapshotNode {
    /** Names of the branches of which it is the head. */
    branches: string[];
    /** The same as id, for older clients. */
    checkpoint_id: string;
    children: SnapshotNode[];
    /** The same as instance_id, for older clients. */
    container_id?: string;
    created_at: string;
    /** File layers above its image. */
    depth: number;
    description: string;
    id: string;
    image: string;
    image_digest: string;
    /** Its source. */
    instance_id?: string;
    kind: "fs" | "full";
    labels: {
        [key: string]: string;
    };
    /** Of them, those that hold memory and processes. */
    memory_bytes: number;
    /** Under way between the tiers: archive or fetch, and how far. */
    move?: SnapshotMove;
    /** Empty: it has none. */
    name: string;
    /** The snapshot that its source was made of or last saved as. */
    parent_id?: string;
    /** In the answer to its making: how long its source stood still. */
    pause_ms?: number;
    /** Of its source. */
    resources: Resources;
    runtime: string;
    /** Of its own files: what it holds besides its parents. */
    size_bytes: number;
    /** The same as id. */
    snapshot_id: string;
    /** What it takes now, in both tiers together; of its cold copy what no earlier one had stored. */
    stored_bytes: number;
    /** Where its bytes are: hot, where restores take them from, or cold, from where they are brought back first. */
    tier: "hot" | "cold" | "hot+cold";
}
export interface SnapshotProblem {
    detail: string;
    path?: string;
    snapshot_id: string;
    tier: string;
}
export interface SnapshotRequest {
    /** Alias of instance_id, for older clients. */
    container_id?: string;
    description?: string;
    /** In the place of an instance: a file snapshot of this image as it is. */
    image?: string;
    /** The instance to save; it goes on. */
    instance_id?: string;
    /** fs: files; full: files, memory and processes; auto (default): the best that the runtime can. */
    kind?: "auto" | "fs" | "full";
    /** To find it by. */
    labels?: {
        [key: string]: string;
    };
    /** Names need not be unique. */
    name?: string;
    /** With image: what is to restore it. Default: auto. */
    runtime?: "auto" | "docker" | "native" | "gvisor" | "firecracker" | "qemu";
}
export interface SnapshotSettings {
    description?: string;
    /** fs: files; full: files, memory and processes; auto (default): the best that the runtime can. */
    kind?: "auto" | "fs" | "full";
    /** To find it by. */
    labels?: {
        [key: string]: string;
    };
    /** Names need not be unique. */
    name?: string;
}
export interface SnapshotTree {
    roots: SnapshotNode[];
}
export interface SnapshotUpdate {
    description?: string;
    /** In the place of those that it has; {} removes them. */
    labels?: {
        [key: string]: string;
    };
    name?: string;
}
export interface SnapshotVerified {
    /** Empty: every byte is what was saved. */
    problems: SnapshotProblem[];
}
export interface SnapshotVerify {
    /** Snapshots to verify, with the layers below them. Default: all of the project. */
    ids?: string[];
}
export interface Ticket {
    expires_at: string;
    ticket: string;
}
export interface Usage {
    cpu_ms: number;
    max_memory_bytes: number;
}
export interface UsageRecord {
    /** CPU time of the commands. */
    cpu_ms: number;
    /** Commands that ended. */
    executions: number;
    /** When the hour began, in UTC. */
    hour: string;
    key_id: string;
    /** Memory limit in MiB times seconds, of commands and of running or paused instances. */
    memory_mb_seconds: number;
    project: string;
    /** Bytes of the snapshots taken. */
    snapshot_bytes: number;
}
export interface UsageReport {
    /** By hour, then by key. */
    records: UsageRecord[];
}
