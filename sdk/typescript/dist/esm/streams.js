import { FaasError, ServerUnreachableError, StreamLostError } from "./errors.js";
import { parseRaw } from "./events.js";
import { retryDelay } from "./retry.js";
import { EventDecoder } from "./sse.js";
/** A stream of server-sent events that continues where it was when its connection is lost. */
export class EventStream {
    transport;
    source;
    options;
    /** Where to continue from: `since` of another stream. */
    lastId;
    #events;
    constructor(transport, source, options = {}) {
        this.transport = transport;
        this.source = source;
        this.options = options;
        this.lastId = source.since ?? "";
        this.#events = this.#read();
    }
    async *#read() {
        const { source, options } = this;
        for (let attempt = 0;; attempt++) {
            let failure = new StreamLostError("the stream ended before its last event");
            try {
                for await (const event of this.#connection()) {
                    attempt = 0;
                    yield event;
                    if (source.isLast?.(event))
                        return;
                }
                if (!source.isLast)
                    return;
            }
            catch (error) {
                if (!(error instanceof StreamLostError) && !(error instanceof ServerUnreachableError))
                    throw error;
                failure = error;
            }
            const trial = { attempt, maxRetries: options.maxRetries ?? 3, safe: true, reached: true };
            const delayMs = retryDelay({ ...trial, error: new ServerUnreachableError(failure.detail) });
            if (delayMs === undefined)
                throw failure;
            await this.transport.retrying({ method: "GET", path: source.path, attempt: attempt + 1, delayMs, error: failure }, options.signal);
        }
    }
    async *#connection() {
        const headers = this.lastId ? { "Last-Event-ID": this.lastId } : undefined;
        const call = { method: "GET", path: this.source.path, query: this.source.query, accept: "text/event-stream", headers };
        const response = await this.transport.stream(call, this.options);
        const decoder = new EventDecoder(this.lastId);
        for await (const piece of this.transport.pieces(response, call, this.options.signal)) {
            for (const sent of decoder.feed(piece)) {
                this.lastId = sent.id;
                const event = this.source.read(parseRaw(sent.data, sent.event));
                if (event instanceof FaasError)
                    throw event;
                if (event !== undefined)
                    yield event;
            }
        }
    }
    [Symbol.asyncIterator]() {
        return this.#events;
    }
    /** Stops reading. */
    async close() {
        await this.#events.return();
    }
    [Symbol.asyncDispose]() {
        return this.close();
    }
}
