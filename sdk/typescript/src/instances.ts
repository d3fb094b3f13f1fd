import { fromProblem } from "./errors.js";
import * as executing from "./execution.js";
import { type Command, type CommandOptions, ExecutionStream, requestBody, RunningCommand, type RunOptions, type TerminalSize } from "./execution.js";
import { pathOf, type RequestOptions, type Transport } from "./transport.js";
import type {
  ExecRequest,
  ExecuteResponse,
  Instance as Info,
  InstanceFork,
  InstanceForkRequest,
  InstanceRequest,
  InstanceSSH,
  InstanceStats,
  InstanceUpdate,
  PauseRequest,
  Process,
  ProcessList,
  Snapshot,
  SnapshotSettings,
} from "./types.js";

const INSTANCES = "/api/v1/instances";

/** Options of a command in an instance. */
export type ExecOptions = CommandOptions<ExecRequest>;

/** One instance. `await using` deletes it at the end. */
export class Instance implements AsyncDisposable {

  constructor(
    private readonly transport: Transport,
    /** What the server said of it last; `refresh` asks again. */
    public info: Info,
  ) {
  }

  get id(): string {
    return this.info.id;
  }

  /** Its name; empty when it has none. */
  get name(): string {
    return this.info.name;
  }

  /** Its status when the server spoke of it last. */
  get status(): Info["status"] {
    return this.info.status;
  }

  /** What the server said of it last. */
  toJSON(): Info {
    return this.info;
  }

  #path(rest = ""): string {
    return pathOf(INSTANCES, this.info.id, rest);
  }

  async #change(method: "GET" | "PATCH" | "POST", rest: string, body: object | undefined, options?: RequestOptions): Promise<this> {
    const call = { method, path: this.#path(rest), body, creates: method === "POST" } as const;
    this.info = await this.transport.json<Info>(call, options);
    return this;
  }

  /** Asks the server how it is. */
  refresh(options?: RequestOptions): Promise<this> {
    return this.#change("GET", "", undefined, options);
  }

  /** Changes its name, labels or time to live. */
  update(changes: InstanceUpdate, options?: RequestOptions): Promise<this> {
    return this.#change("PATCH", "", changes, options);
  }

  /** Runs a command in it and returns its result. */
  exec(command: Command, options: ExecOptions = {}, request?: RequestOptions): Promise<ExecuteResponse> {
    return executing.execute(this.transport, this.#path("/exec"), requestBody(command, options), request);
  }

  /** Runs a command in it and shows its output as it comes. */
  execStream(command: Command, options: ExecOptions = {}, request?: RequestOptions): ExecutionStream {
    return new ExecutionStream(this.transport, this.#path("/exec"), requestBody(command, options), request);
  }

  /** Starts a command in it with live input and output. */
  spawn(command: Command, options: ExecOptions & { terminal?: TerminalSize } = {}, request?: RequestOptions): Promise<RunningCommand> {
    const { terminal, ...rest } = options;
    return RunningCommand.start(this.transport, this.#path("/exec/ws"), requestBody(command, rest), terminal, request);
  }

  /** Runs a command in it, joined to the caller's streams. */
  async run(command: Command, options: ExecOptions & RunOptions = {}, request?: RequestOptions): Promise<ExecuteResponse> {
    const { input, onStdout, onStderr, ...rest } = options;
    return executing.run(await this.spawn(command, rest, request), options);
  }

  /** Opens a terminal in it, with a shell unless another command is given. */
  terminal(command: Command = "exec ${SHELL:-sh}", options: Partial<TerminalSize> = {}, request?: RequestOptions): Promise<RunningCommand> {
    return this.spawn(command, { terminal: { cols: options.cols ?? 80, rows: options.rows ?? 24 } }, request);
  }

  /** Copies that continue from its present state; it goes on. The first failure is thrown when there is no copy. */
  async fork(copies?: number, options: InstanceForkRequest = {}, request?: RequestOptions): Promise<Instance[]> {
    const body = { ...options, ...(copies === undefined ? {} : { count: copies }) };
    const made = await this.transport.json<InstanceFork>({ method: "POST", path: this.#path("/fork"), body, creates: true }, request);
    const failure = made.failures[0];
    if (made.instances.length === 0 && failure) throw fromProblem(failure.problem);
    return made.instances.map((info) => new Instance(this.transport, info));
  }

  /** Saves its state; it goes on. */
  snapshot(options: SnapshotSettings = {}, request?: RequestOptions): Promise<Snapshot> {
    return this.transport.json<Snapshot>({ method: "POST", path: this.#path("/snapshot"), body: options, creates: true }, request);
  }

  /** Lets it stand still; `info.checkpoint_id` is the snapshot that was taken. */
  pause(options: PauseRequest = {}, request?: RequestOptions): Promise<this> {
    return this.#change("POST", "/pause", options, request);
  }

  /** Lets it go on. */
  resume(options?: RequestOptions): Promise<this> {
    return this.#change("POST", "/resume", undefined, options);
  }

  stop(options?: RequestOptions): Promise<this> {
    return this.#change("POST", "/stop", undefined, options);
  }

  /** Starts it again after a stop. */
  start(options?: RequestOptions): Promise<this> {
    return this.#change("POST", "/start", undefined, options);
  }

  async delete(options?: RequestOptions): Promise<void> {
    await this.transport.content({ method: "DELETE", path: this.#path() }, options);
  }

  /** What it consumes. */
  stats(options?: RequestOptions): Promise<InstanceStats> {
    return this.transport.json<InstanceStats>({ method: "GET", path: this.#path("/stats") }, options);
  }

  /** How to log in to it: host, port, user, keys, and a command line. */
  ssh(options?: RequestOptions): Promise<InstanceSSH> {
    return this.transport.json<InstanceSSH>({ method: "GET", path: this.#path("/ssh") }, options);
  }

  /** What runs in it. */
  async processes(options?: RequestOptions): Promise<Process[]> {
    return (await this.transport.json<ProcessList>({ method: "GET", path: this.#path("/processes") }, options)).processes;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.delete();
  }
}

/** Which instances are listed. */
export type InstanceFilter = {
  readonly status?: string;
  readonly name?: string;
  /** name=value */
  readonly label?: string;
  /** Size of a page. */
  readonly limit?: number;
};

/** Instances: `client.instances`. */
export class Instances {
  constructor(private readonly transport: Transport) {}

  /** Starts an instance of an image, or from a saved state. */
  async start(options: InstanceRequest = {}, request?: RequestOptions): Promise<Instance> {
    const info = await this.transport.json<Info>({ method: "POST", path: INSTANCES, body: options, creates: true }, request);
    return new Instance(this.transport, info);
  }

  /** One instance, by id or name. */
  async get(instanceId: string, options?: RequestOptions): Promise<Instance> {
    return new Instance(this.transport, await this.transport.json<Info>({ method: "GET", path: pathOf(INSTANCES, instanceId) }, options));
  }

  /** Every instance, newest first. */
  async *list(filter: InstanceFilter = {}, options?: RequestOptions): AsyncGenerator<Instance, void> {
    for await (const info of this.transport.pages<Info>(INSTANCES, filter, "instances", options)) {
      yield new Instance(this.transport, info);
    }
  }
}
