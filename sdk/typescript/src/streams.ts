import { FaasError, ServerUnreachableError, StreamLostError } from "./errors.js";
import { parseRaw, type RawEvent } from "./events.js";
import { retryDelay } from "./retry.js";
import { EventDecoder } from "./sse.js";
import type { Query, RequestOptions, Transport } from "./transport.js";

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
        const event = this.source.read(parseRaw(sent.data, sent.event));
        if (event instanceof FaasError) throw event;
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
