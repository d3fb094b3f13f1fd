import { type FaasError, NotFoundError, ServerUnreachableError, StreamLostError } from "./errors.js";
import { type ExecutionEvent, executionEvent, parseRaw, type RawEvent } from "./events.js";
import { FaasError as Root } from "./errors.js";
import { retryDelay } from "./retry.js";
import { EventDecoder } from "./sse.js";
import type { Query, RequestOptions, Transport } from "./transport.js";
import type { Execution, ExecutionList } from "./types.js";

/** Where a stream of events comes from, and what ends it. */
export interface StreamSource<T> {
  readonly path: string;
  readonly query?: Query;
  /** Continue after the event of this id. */
  readonly since?: string;
  /** Turns an event as it came into what is handed out; nothing for what is left out. */
  readonly read: (raw: RawEvent) => T | FaasError | undefined;
  /** Whether the event is the last. Without it the stream goes on until it is left. */
  readonly isLast?: (event: T) => boolean;
}

/** A stream of server-sent events that continues where it was when its connection is lost. */
export class EventStream<T> implements AsyncIterable<T>, AsyncDisposable {
  /** Where to continue from: `since` of another stream. */
  lastId: string;
  #events: AsyncGenerator<T, void>;

  constructor(
    private readonly transport: Transport,
    private readonly source: StreamSource<T>,
    private readonly options: RequestOptions = {},
  ) {
    this.lastId = source.since ?? "";
    this.#events = this.#read();
  }

  async *#read(): AsyncGenerator<T, void> {
    const { source, options } = this;
    for (let attempt = 0; ; attempt++) {
      let failure: FaasError = new StreamLostError("the stream ended before its last event");
      try {
        for await (const event of this.#connection()) {
          attempt = 0;
          yield event;
          if (source.isLast?.(event)) return;
        }
        if (!source.isLast) return;
      } catch (error) {
        if (!(error instanceof StreamLostError) && !(error instanceof ServerUnreachableError)) throw error;
        failure = error;
      }
      const trial = { attempt, maxRetries: options.maxRetries ?? 3, safe: true, reached: true };
      const delayMs = retryDelay({ ...trial, error: new ServerUnreachableError(failure.detail) });
      if (delayMs === undefined) throw failure;
      await this.transport.retrying({ method: "GET", path: source.path, attempt: attempt + 1, delayMs, error: failure }, options.signal);
    }
  }

  async *#connection(): AsyncGenerator<T, void> {
    const headers = this.lastId ? { "Last-Event-ID": this.lastId } : undefined;
    const call = { method: "GET", path: this.source.path, query: this.source.query, accept: "text/event-stream", headers } as const;
    const response = await this.transport.stream(call, this.options);
    const decoder = new EventDecoder(this.lastId);
    for await (const piece of this.transport.pieces(response, call, this.options.signal)) {
      for (const sent of decoder.feed(piece)) {
        this.lastId = sent.id;
        const event = this.source.read(parseRaw(sent.data));
        if (event instanceof Root) throw event;
        if (event !== undefined) yield event;
      }
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<T, void> {
    return this.#events;
  }

  /** Stops reading. */
  async close(): Promise<void> {
    await this.#events.return();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Output of one execution, until its end. */
export type LogStream = EventStream<ExecutionEvent>;

/** Executions on record: `client.executions`. */
export class Executions {
  constructor(private readonly transport: Transport) {}

  /** Every execution, newest first, page by page; `limit` is the size of a page. */
  async *list(query: { limit?: number } = {}, options?: RequestOptions): AsyncGenerator<Execution, void> {
    let cursor: string | undefined;
    do {
      const call = { method: "GET", path: "/api/v1/executions", query: { ...query, cursor } } as const;
      const page = await this.transport.json<ExecutionList>(call, options);
      yield* page.executions ?? [];
      cursor = page.next_cursor || undefined;
    } while (cursor);
  }

  /** One execution; NotFoundError when the project has none of that id. */
  get(executionId: string, options?: RequestOptions): Promise<Execution> {
    return this.transport.json<Execution>({ method: "GET", path: path(executionId) }, options);
  }

  /** Ends a running execution; resolves when its processes are gone. */
  cancel(executionId: string, options?: RequestOptions): Promise<Execution> {
    return this.transport.json<Execution>({ method: "POST", path: `${path(executionId)}/cancel`, creates: true }, options);
  }

  /** Output from the start, or from after the event `since`, and on until the end. */
  streamLogs(executionId: string, query: { since?: string } = {}, options?: RequestOptions): LogStream {
    return new EventStream<ExecutionEvent>(
      this.transport,
      {
        path: `/api/v1/logs/${encodeURIComponent(executionId)}/stream`,
        ...query,
        read: executionEvent,
        isLast: (event) => event.type === "result" || event.type === "exit",
      },
      options,
    );
  }
}

function path(executionId: string): string {
  if (!executionId) throw new NotFoundError("an execution without an id does not exist");
  return `/api/v1/executions/${encodeURIComponent(executionId)}`;
}
