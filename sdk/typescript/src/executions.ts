import { type ExecutionEvent, executionEvent } from "./events.js";
import { type Command, type CommandOptions, requestBody } from "./execution.js";
import { EventStream } from "./streams.js";
import { pathOf, type RequestOptions, type Transport } from "./transport.js";
import type { Execution, ForkedExecution, ForkRequest } from "./types.js";

const EXECUTIONS = "/api/v1/executions";

/** Output of one execution, until its end. */
export type LogStream = EventStream<ExecutionEvent>;

/** Options of a fork: an execution's, and what differs in each copy. */
export type ForkOptions = CommandOptions<ForkRequest> & { command?: Command };

/** Executions on record: `client.executions`. */
export class Executions {
  constructor(private readonly transport: Transport) {}

  /** Every execution, newest first; `limit` is the size of a page. */
  list(filter: { readonly limit?: number } = {}, options?: RequestOptions): AsyncGenerator<Execution, void> {
    return this.transport.pages<Execution>(EXECUTIONS, filter, "executions", options);
  }

  /** One execution; NotFoundError when the project has none of that id. */
  get(executionId: string, options?: RequestOptions): Promise<Execution> {
    return this.transport.json<Execution>({ method: "GET", path: pathOf(EXECUTIONS, executionId) }, options);
  }

  /** Ends a running execution; resolves when its processes are gone. */
  cancel(executionId: string, options?: RequestOptions): Promise<Execution> {
    const call = { method: "POST", path: pathOf(EXECUTIONS, executionId, "/cancel"), creates: true } as const;
    return this.transport.json<Execution>(call, options);
  }

  /** Runs a command `count` times, or the `variants`, beside each other, each in a copy of what it left. */
  fork(executionId: string, command?: Command, options: ForkOptions = {}, request?: RequestOptions): Promise<ForkedExecution[]> {
    return fork(this.transport, pathOf(EXECUTIONS, executionId, "/fork"), command, options, request);
  }

  /** Output from the start, or from after the event `since`, and on until the end. */
  streamLogs(executionId: string, query: { since?: string } = {}, options?: RequestOptions): LogStream {
    return new EventStream<ExecutionEvent>(
      this.transport,
      {
        path: pathOf("/api/v1/logs", executionId, "/stream"),
        ...query,
        read: executionEvent,
        isLast: (event) => event.type === "result" || event.type === "exit",
      },
      options,
    );
  }
}

/** Runs commands in copies of one state. */
export function fork(transport: Transport, path: string, command: Command | undefined, options: ForkOptions, request?: RequestOptions): Promise<ForkedExecution[]> {
  const line = command ?? options.command;
  const { command: _, ...body } = requestBody(line ?? "", options);
  return transport.json<ForkedExecution[]>({ method: "POST", path, body: line === undefined ? body : { ...body, command: line }, creates: true }, request);
}
