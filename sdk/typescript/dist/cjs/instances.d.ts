import { type Command, type CommandOptions, ExecutionStream, RunningCommand, type RunOptions, type TerminalSize } from "./execution.js";
import { type RequestOptions, type Transport } from "./transport.js";
import type { ExecRequest, ExecuteResponse, Instance as Info, InstanceForkRequest, InstanceRequest, InstanceSSH, InstanceStats, InstanceUpdate, PauseRequest, Process, Snapshot, SnapshotSettings } from "./types.js";
/** Options of a command in an instance. */
export type ExecOptions = CommandOptions<ExecRequest>;
/** One instance. `await using` deletes it at the end. */
export declare class Instance implements AsyncDisposable {
    #private;
    private readonly transport;
    /** What the server said of it last; `refresh` asks again. */
    info: Info;
    constructor(transport: Transport, 
    /** What the server said of it last; `refresh` asks again. */
    info: Info);
    get id(): string;
    /** Its name; empty when it has none. */
    get name(): string;
    /** Its status when the server spoke of it last. */
    get status(): Info["status"];
    /** What the server said of it last. */
    toJSON(): Info;
    /** Asks the server how it is. */
    refresh(options?: RequestOptions): Promise<this>;
    /** Changes its name, labels or time to live. */
    update(changes: InstanceUpdate, options?: RequestOptions): Promise<this>;
    /** Runs a command in it and returns its result. */
    exec(command: Command, options?: ExecOptions, request?: RequestOptions): Promise<ExecuteResponse>;
    /** Runs a command in it and shows its output as it comes. */
    execStream(command: Command, options?: ExecOptions, request?: RequestOptions): ExecutionStream;
    /** Starts a command in it with live input and output. */
    spawn(command: Command, options?: ExecOptions & {
        terminal?: TerminalSize;
    }, request?: RequestOptions): Promise<RunningCommand>;
    /** Runs a command in it, joined to the caller's streams. */
    run(command: Command, options?: ExecOptions & RunOptions, request?: RequestOptions): Promise<ExecuteResponse>;
    /** Opens a terminal in it, with a shell unless another command is given. */
    terminal(command?: Command, options?: Partial<TerminalSize>, request?: RequestOptions): Promise<RunningCommand>;
    /** Copies that continue from its present state; it goes on. The first failure is thrown when there is no copy. */
    fork(copies?: number, options?: InstanceForkRequest, request?: RequestOptions): Promise<Instance[]>;
    /** Saves its state; it goes on. */
    snapshot(options?: SnapshotSettings, request?: RequestOptions): Promise<Snapshot>;
    /** Lets it stand still; `info.checkpoint_id` is the snapshot that was taken. */
    pause(options?: PauseRequest, request?: RequestOptions): Promise<this>;
    /** Lets it go on. */
    resume(options?: RequestOptions): Promise<this>;
    stop(options?: RequestOptions): Promise<this>;
    /** Starts it again after a stop. */
    start(options?: RequestOptions): Promise<this>;
    delete(options?: RequestOptions): Promise<void>;
    /** What it consumes. */
    stats(options?: RequestOptions): Promise<InstanceStats>;
    /** How to log in to it: host, port, user, keys, and a command line. */
    ssh(options?: RequestOptions): Promise<InstanceSSH>;
    /** What runs in it. */
    processes(options?: RequestOptions): Promise<Process[]>;
    [Symbol.asyncDispose](): Promise<void>;
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
export declare class Instances {
    private readonly transport;
    constructor(transport: Transport);
    /** Starts an instance of an image, or from a saved state. */
    start(options?: InstanceRequest, request?: RequestOptions): Promise<Instance>;
    /** One instance, by id or name. */
    get(instanceId: string, options?: RequestOptions): Promise<Instance>;
    /** Every instance, newest first. */
    list(filter?: InstanceFilter, options?: RequestOptions): AsyncGenerator<Instance, void>;
}
