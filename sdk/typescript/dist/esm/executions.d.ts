import { type ExecutionEvent } from "./events.js";
import { type Command, type CommandOptions } from "./execution.js";
import { EventStream } from "./streams.js";
import { type RequestOptions, type Transport } from "./transport.js";
import type { Execution, ForkedExecution, ForkRequest } from "./types.js";
/** Output of one execution, until its end. */
export type LogStream = EventStream<ExecutionEvent>;
/** Options of a fork: an execution's, and what differs in each copy. */
export type ForkOptions = CommandOptions<ForkRequest> & {
    command?: Command;
};
/** Executions on record: `client.executions`. */
export declare class Executions {
    private readonly transport;
    constructor(transport: Transport);
    /** Every execution, newest first; `limit` is the size of a page. */
    list(filter?: {
        readonly limit?: number;
    }, options?: RequestOptions): AsyncGenerator<Execution, void>;
    /** One execution; NotFoundError when the project has none of that id. */
    get(executionId: string, options?: RequestOptions): Promise<Execution>;
    /** Ends a running execution; resolves when its processes are gone. */
    cancel(executionId: string, options?: RequestOptions): Promise<Execution>;
    /** Runs a command `count` times, or the `variants`, beside each other, each in a copy of what it left. */
    fork(executionId: string, command?: Command, options?: ForkOptions, request?: RequestOptions): Promise<ForkedExecution[]>;
    /** Output from the start, or from after the event `since`, and on until the end. */
    streamLogs(executionId: string, query?: {
        since?: string;
    }, options?: RequestOptions): LogStream;
}
/** Runs commands in copies of one state. */
export declare function fork(transport: Transport, path: string, command: Command | undefined, options: ForkOptions, request?: RequestOptions): Promise<ForkedExecution[]>;
