/** A value of JSON. */
export type Json = string | number | boolean | null | Json[] | {
    [key: string]: Json;
};
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
export interface ExecuteRequest {
    /** Accept a weaker substitute, named in the answer. */
    allow_degraded?: boolean;
    /** An execution, snapshot or branch to continue from. */
    branch_from?: string;
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
    pool_hits: number;
    requests: number;
    running: number;
}
export interface FieldError {
    field: string;
    reason: string;
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
export interface Problem {
    /** The stable class of the error. */
    code: "invalid_argument" | "unauthenticated" | "permission_denied" | "not_found" | "conflict" | "failed_precondition" | "capability_unavailable" | "payload_too_large" | "resource_exhausted" | "deadline_exceeded" | "unavailable" | "internal";
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
export interface Usage {
    cpu_ms: number;
    max_memory_bytes: number;
}
