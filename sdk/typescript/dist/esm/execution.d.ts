import { type ExecutionEvent } from "./events.js";
import type { RequestOptions, Transport } from "./transport.js";
import type { ExecuteRequest, ExecuteResponse } from "./types.js";
/** A line for `sh -c`, or arguments that are run as they are. */
export type Command = string | readonly string[];
/** Contents of files: text, or bytes. */
export type Files = {
    readonly [path: string]: string | Uint8Array;
};
/** Options of a command: the fields of the API's request, and bytes where they make sense. */
export type CommandOptions<Request> = Omit<Request, "command" | "stdin" | "files"> & {
    /** Given to the command on its standard input. */
    stdin?: string | Uint8Array;
    /** Written before the command; a relative path is below working_dir. */
    files?: Files;
};
/** Options of an execution. */
export type ExecuteOptions = CommandOptions<ExecuteRequest>;
/** Size of a terminal, in characters. */
export interface TerminalSize {
    readonly cols: number;
    readonly rows: number;
}
/** Where raw output goes. */
export type Sink = WritableStream<Uint8Array> | ((chunk: Uint8Array) => void | Promise<void>);
/** The body of an execution; bytes go as base64. */
export declare function requestBody(command: Command, options: CommandOptions<Omit<ExecuteRequest, "command">>): ExecuteRequest;
/** Contents of files as they are sent. */
export declare function filesBody(files: Files): {
    [path: string]: string | {
        base64: string;
    };
};
/** Counts an execution and tells those who want to know. */
export declare function finish(transport: Transport, mode: ExecuteRequest["mode"], result: ExecuteResponse): ExecuteResponse;
/** Runs a command, whole. */
export declare function execute(transport: Transport, path: string, body: ExecuteRequest, options?: RequestOptions): Promise<ExecuteResponse>;
/**
 * An execution as events, while it runs. Leaving the loop early ends the
 * command. `result` is there after the last event.
 */
export declare class ExecutionStream implements AsyncIterable<ExecutionEvent>, AsyncDisposable {
    #private;
    private readonly transport;
    private readonly body;
    id: string;
    result: ExecuteResponse | undefined;
    constructor(transport: Transport, path: string, body: ExecuteRequest, options?: RequestOptions);
    [Symbol.asyncIterator](): AsyncGenerator<ExecutionEvent, void>;
    /** Reads to the end and returns the result (without the output). */
    wait(): Promise<ExecuteResponse>;
    /** Stops reading; a command that still runs is ended. */
    close(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
}
/** Copies raw output, then asks how it ended: trailers are out of fetch's reach. */
export declare function executeTo(transport: Transport, path: string, body: ExecuteRequest, to: Sink, options?: RequestOptions): Promise<ExecuteResponse>;
/**
 * A command with live input and output, over a WebSocket. It is an iterable of
 * events; closing it ends a command that still runs.
 */
export declare class RunningCommand implements AsyncIterable<ExecutionEvent>, AsyncDisposable {
    #private;
    private readonly transport;
    private readonly socket;
    private readonly mode;
    id: string;
    result: ExecuteResponse | undefined;
    private constructor();
    /** Opens the connection and starts the command. */
    static start(transport: Transport, path: string, body: ExecuteRequest, terminal: TerminalSize | undefined, options?: RequestOptions): Promise<RunningCommand>;
    /** Sends standard input. Waits while the command does not read. */
    sendStdin(data: string | Uint8Array): Promise<void>;
    /** Says that no more input comes. */
    closeStdin(): Promise<void>;
    /** Changes the size of the terminal. */
    resize(cols: number, rows: number): Promise<void>;
    /** Sends a signal, by name ("SIGINT") or by Linux's number. */
    signal(name: string | number): Promise<void>;
    [Symbol.asyncIterator](): AsyncGenerator<ExecutionEvent, void>;
    /** Reads to the end and returns the result (without the output). */
    wait(): Promise<ExecuteResponse>;
    /** Closes the connection; a command that still runs is ended. */
    close(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
}
/** Streams that a running command is joined to. */
export interface RunOptions {
    /** Given to the command on its standard input. */
    input?: string | Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
    onStdout?: (data: Uint8Array) => void;
    onStderr?: (data: Uint8Array) => void;
    /** Run in a terminal of this size. */
    terminal?: TerminalSize;
}
/** Joins a process to its caller's streams until it ends. */
export declare function run(process: RunningCommand, options: RunOptions): Promise<ExecuteResponse>;
