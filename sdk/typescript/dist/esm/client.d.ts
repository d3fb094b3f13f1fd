import type { ClientEvents } from "./emitter.js";
import { type Command, type ExecuteOptions, ExecutionStream, RunningCommand, type RunOptions, type Sink, type TerminalSize } from "./execution.js";
import { Executions, type ForkOptions, type LogStream } from "./executions.js";
import { Images, SSHKeys } from "./images.js";
import { Instances } from "./instances.js";
import { Keys } from "./keys.js";
import { Pools } from "./pools.js";
import { Branches, Snapshots } from "./snapshots.js";
import { type ClientMetrics } from "./stats.js";
import { type ClientOptions, type RequestOptions } from "./transport.js";
import type { Capabilities, ExecuteResponse, ForkedExecution, Health, Metrics, Pool, Prewarm, Snapshot, SnapshotRequest } from "./types.js";
/**
 * A client of one server.
 *
 * Without options the server is FAAS_API_URL or http://127.0.0.1:8080, and the
 * key FAAS_API_KEY or the key file of the user who runs the server here.
 *
 *     const client = new Client();
 *     const result = await client.execute("echo hello");
 *     console.log(result.stdout);
 *
 * Errors are FaasError and its subclasses; a command that fails is a result
 * with an exit code.
 */
export declare class Client implements AsyncDisposable {
    #private;
    /** Executions on record. */
    readonly executions: Executions;
    /** Sandboxes that live until told otherwise. */
    readonly instances: Instances;
    /** Saved states. */
    readonly snapshots: Snapshots;
    /** Named heads in the tree of snapshots. */
    readonly branches: Branches;
    /** Warm sandboxes. */
    readonly pools: Pools;
    /** API keys. */
    readonly keys: Keys;
    /** Images. */
    readonly images: Images;
    /** SSH keys. */
    readonly sshKeys: SSHKeys;
    constructor(options?: ClientOptions);
    /** Address of the server. */
    get url(): string;
    /**
     * Listens to what the client does: `execution`, `retry`, `error`, `cache-hit`
     * and `cache-miss`. The function that it returns ends that.
     */
    on<K extends keyof ClientEvents>(event: K, listener: (value: ClientEvents[K]) => void): () => void;
    /**
     * Runs a command and returns its result. A string is run by `sh -c`, an array
     * as it is. Up to 10 MiB of each output stream come with the result.
     */
    execute(command: Command, options?: ExecuteOptions, request?: RequestOptions): Promise<ExecuteResponse>;
    /** Runs a command and shows its output as it comes. */
    executeStream(command: Command, options?: ExecuteOptions, request?: RequestOptions): ExecutionStream;
    /** Runs a command and writes its raw standard output to `to`, without a limit of size. */
    executeTo(command: Command, to: Sink, options?: ExecuteOptions, request?: RequestOptions): Promise<ExecuteResponse>;
    /** Starts a command with live input and output, in a terminal if one is given. */
    spawn(command: Command, options?: ExecuteOptions & {
        terminal?: TerminalSize;
    }, request?: RequestOptions): Promise<RunningCommand>;
    /** Runs a command joined to the caller's streams. */
    run(command: Command, options?: ExecuteOptions & RunOptions, request?: RequestOptions): Promise<ExecuteResponse>;
    /** Runs a Python program given as text; nothing in it needs quoting. */
    runPython(code: string, options?: ProgramOptions, request?: RequestOptions): Promise<ExecuteResponse>;
    /** Runs a JavaScript program (a module) given as text, with Node. */
    runJavascript(code: string, options?: ProgramOptions, request?: RequestOptions): Promise<ExecuteResponse>;
    /** Runs a TypeScript program given as text, with the image's deno, bun, tsx or Node 22.6 and newer. */
    runTypescript(code: string, options?: ProgramOptions, request?: RequestOptions): Promise<ExecuteResponse>;
    /** Runs a bash script given as text. */
    runBash(code: string, options?: ProgramOptions, request?: RequestOptions): Promise<ExecuteResponse>;
    /** Output of an execution, from the start and on until its end; continues after a lost connection. */
    streamLogs(executionId: string, query?: {
        since?: string;
    }, request?: RequestOptions): LogStream;
    /** Runs a command `count` times, or the `variants`, each in a copy of what an execution left. */
    forkExecution(executionId: string, command?: Command, options?: ForkOptions, request?: RequestOptions): Promise<ForkedExecution[]>;
    /**
     * Runs a command `count` times, or the `variants`, each in a copy of one
     * state: of an instance (`instance_id`), an execution (`execution_id`), a
     * snapshot (`snapshot_id`) or a branch (`branch_from`).
     */
    fork(command?: Command, options?: ForkOptions, request?: RequestOptions): Promise<ForkedExecution[]>;
    /** Saves an instance (`instance_id`), or an image as it is (`image`). */
    createSnapshot(options: SnapshotRequest, request?: RequestOptions): Promise<Snapshot>;
    /** Has sandboxes made ahead of requests. */
    prewarm(count: number, options?: Omit<Prewarm, "count">, request?: RequestOptions): Promise<Pool>;
    /** Whether the server works; needs no key. */
    healthCheck(request?: RequestOptions): Promise<Health>;
    /** What every runtime of the server can do, and why not what it cannot. */
    runtimes(query?: {
        refresh?: boolean;
    }, request?: RequestOptions): Promise<Capabilities[]>;
    /** What the project did since the server started. */
    getMetrics(request?: RequestOptions): Promise<Metrics>;
    /** What this client counted about itself. */
    clientMetrics(): ClientMetrics;
    /** Counts from zero. */
    resetClientMetrics(): void;
    /** Nothing stays open between calls; for symmetry with other clients, and `await using`. */
    close(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
}
/** Options of a program given as text. */
export type ProgramOptions = ExecuteOptions & {
    /** Arguments of the program. */
    args?: readonly string[];
};
