import { type Language, program } from "./code.js";
import type { ClientEvents } from "./emitter.js";
import * as executing from "./execution.js";
import { type Command, type ExecuteOptions, ExecutionStream, requestBody, RunningCommand, type RunOptions, type Sink, type TerminalSize } from "./execution.js";
import { Executions, fork, type ForkOptions, type LogStream } from "./executions.js";
import { Images, SSHKeys } from "./images.js";
import { Instances } from "./instances.js";
import { Keys } from "./keys.js";
import { Pools } from "./pools.js";
import { Branches, Snapshots } from "./snapshots.js";
import { type ClientMetrics, zeroMetrics } from "./stats.js";
import { type ClientOptions, type RequestOptions, Transport } from "./transport.js";
import type { Capabilities, ExecuteResponse, ForkedExecution, Health, Metrics, Pool, Prewarm, RuntimeList, Snapshot, SnapshotRequest } from "./types.js";

const EXECUTE = "/api/v1/execute";

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
export class Client implements AsyncDisposable {
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
  readonly #transport: Transport;

  constructor(options: ClientOptions = {}) {
    this.#transport = new Transport(options);
    this.executions = new Executions(this.#transport);
    this.instances = new Instances(this.#transport);
    this.snapshots = new Snapshots(this.#transport);
    this.branches = new Branches(this.#transport);
    this.pools = new Pools(this.#transport);
    this.keys = new Keys(this.#transport);
    this.images = new Images(this.#transport);
    this.sshKeys = new SSHKeys(this.#transport);
  }

  /** Address of the server. */
  get url(): string {
    return this.#transport.url;
  }

  /**
   * Listens to what the client does: `execution`, `retry`, `error`, `cache-hit`
   * and `cache-miss`. The function that it returns ends that.
   */
  on<K extends keyof ClientEvents>(event: K, listener: (value: ClientEvents[K]) => void): () => void {
    return this.#transport.events.on(event, listener);
  }

  /**
   * Runs a command and returns its result. A string is run by `sh -c`, an array
   * as it is. Up to 10 MiB of each output stream come with the result.
   */
  execute(command: Command, options: ExecuteOptions = {}, request?: RequestOptions): Promise<ExecuteResponse> {
    return executing.execute(this.#transport, EXECUTE, requestBody(command, options), request);
  }

  /** Runs a command and shows its output as it comes. */
  executeStream(command: Command, options: ExecuteOptions = {}, request?: RequestOptions): ExecutionStream {
    return new ExecutionStream(this.#transport, EXECUTE, requestBody(command, options), request);
  }

  /** Runs a command and writes its raw standard output to `to`, without a limit of size. */
  executeTo(command: Command, to: Sink, options: ExecuteOptions = {}, request?: RequestOptions): Promise<ExecuteResponse> {
    return executing.executeTo(this.#transport, EXECUTE, requestBody(command, options), to, request);
  }

  /** Starts a command with live input and output, in a terminal if one is given. */
  spawn(command: Command, options: ExecuteOptions & { terminal?: TerminalSize } = {}, request?: RequestOptions): Promise<RunningCommand> {
    const { terminal, ...rest } = options;
    return RunningCommand.start(this.#transport, `${EXECUTE}/ws`, requestBody(command, rest), terminal, request);
  }

  /** Runs a command joined to the caller's streams. */
  async run(command: Command, options: ExecuteOptions & RunOptions = {}, request?: RequestOptions): Promise<ExecuteResponse> {
    const { input, onStdout, onStderr, ...rest } = options;
    return executing.run(await this.spawn(command, rest, request), options);
  }

  #program(language: Language, code: string, options: ProgramOptions, request?: RequestOptions): Promise<ExecuteResponse> {
    const { args = [], ...rest } = options;
    const { command, files } = program(language, code, args);
    return this.execute(command, { ...rest, files: { ...files, ...rest.files } }, request);
  }

  /** Runs a Python program given as text; nothing in it needs quoting. */
  runPython(code: string, options: ProgramOptions = {}, request?: RequestOptions): Promise<ExecuteResponse> {
    return this.#program("python", code, options, request);
  }

  /** Runs a JavaScript program (a module) given as text, with Node. */
  runJavascript(code: string, options: ProgramOptions = {}, request?: RequestOptions): Promise<ExecuteResponse> {
    return this.#program("javascript", code, options, request);
  }

  /** Runs a TypeScript program given as text, with the image's deno, bun, tsx or Node 22.6 and newer. */
  runTypescript(code: string, options: ProgramOptions = {}, request?: RequestOptions): Promise<ExecuteResponse> {
    return this.#program("typescript", code, options, request);
  }

  /** Runs a bash script given as text. */
  runBash(code: string, options: ProgramOptions = {}, request?: RequestOptions): Promise<ExecuteResponse> {
    return this.#program("bash", code, options, request);
  }

  /** Output of an execution, from the start and on until its end; continues after a lost connection. */
  streamLogs(executionId: string, query: { since?: string } = {}, request?: RequestOptions): LogStream {
    return this.executions.streamLogs(executionId, query, request);
  }

  /** Runs a command `count` times, or the `variants`, each in a copy of what an execution left. */
  forkExecution(executionId: string, command?: Command, options: ForkOptions = {}, request?: RequestOptions): Promise<ForkedExecution[]> {
    return this.executions.fork(executionId, command, options, request);
  }

  /**
   * Runs a command `count` times, or the `variants`, each in a copy of one
   * state: of an instance (`instance_id`), an execution (`execution_id`), a
   * snapshot (`snapshot_id`) or a branch (`branch_from`).
   */
  fork(command?: Command, options: ForkOptions = {}, request?: RequestOptions): Promise<ForkedExecution[]> {
    return fork(this.#transport, "/api/v1/fork", command, options, request);
  }

  /** Saves an instance (`instance_id`), or an image as it is (`image`). */
  createSnapshot(options: SnapshotRequest, request?: RequestOptions): Promise<Snapshot> {
    return this.snapshots.create(options, request);
  }

  /** Has sandboxes made ahead of requests. */
  prewarm(count: number, options: Omit<Prewarm, "count"> = {}, request?: RequestOptions): Promise<Pool> {
    return this.pools.prewarm(count, options, request);
  }

  /** Whether the server works; needs no key. */
  healthCheck(request?: RequestOptions): Promise<Health> {
    return this.#transport.json<Health>({ method: "GET", path: "/health" }, request);
  }

  /** What every runtime of the server can do, and why not what it cannot. */
  async runtimes(query: { refresh?: boolean } = {}, request?: RequestOptions): Promise<Capabilities[]> {
    const call = { method: "GET", path: "/api/v1/runtimes", query: { refresh: query.refresh || undefined } } as const;
    return (await this.#transport.json<RuntimeList>(call, request)).runtimes;
  }

  /** What the project did since the server started. */
  getMetrics(request?: RequestOptions): Promise<Metrics> {
    return this.#transport.json<Metrics>({ method: "GET", path: "/api/v1/metrics" }, request);
  }

  /** What this client counted about itself. */
  clientMetrics(): ClientMetrics {
    return { ...this.#transport.metrics };
  }

  /** Counts from zero. */
  resetClientMetrics(): void {
    this.#transport.metrics = zeroMetrics();
  }

  /** Nothing stays open between calls; for symmetry with other clients, and `await using`. */
  async close(): Promise<void> {}

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Options of a program given as text. */
export type ProgramOptions = ExecuteOptions & {
  /** Arguments of the program. */
  args?: readonly string[];
};
