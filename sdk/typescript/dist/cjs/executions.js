"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.Executions = exports.EventStream = void 0;
const errors_js_1 = require("./errors.js");
const events_js_1 = require("./events.js");
const errors_js_2 = require("./errors.js");
const retry_js_1 = require("./retry.js");
const sse_js_1 = require("./sse.js");
/** A stream of server-sent events that continues where it was when its connection is lost. */
class EventStream {
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
            let failure = new errors_js_1.StreamLostError("the stream ended before its last event");
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
                if (!(error instanceof errors_js_1.StreamLostError) && !(error instanceof errors_js_1.ServerUnreachableError))
                    throw error;
                failure = error;
            }
            const trial = { attempt, maxRetries: options.maxRetries ?? 3, safe: true, reached: true };
            const delayMs = (0, retry_js_1.retryDelay)({ ...trial, error: new errors_js_1.ServerUnreachableError(failure.detail) });
            if (delayMs === undefined)
                throw failure;
            await this.transport.retrying({ method: "GET", path: source.path, attempt: attempt + 1, delayMs, error: failure }, options.signal);
        }
    }
    async *#connection() {
        const headers = this.lastId ? { "Last-Event-ID": this.lastId } : undefined;
        const call = { method: "GET", path: this.source.path, query: this.source.query, accept: "text/event-stream", headers };
        const response = await this.transport.stream(call, this.options);
        const decoder = new sse_js_1.EventDecoder(this.lastId);
        for await (const piece of this.transport.pieces(response, call, this.options.signal)) {
            for (const sent of decoder.feed(piece)) {
                this.lastId = sent.id;
                const event = this.source.read((0, events_js_1.parseRaw)(sent.data));
                if (event instanceof errors_js_2.FaasError)
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
exports.EventStream = EventStream;
/** Executions on record: `client.executions`. */
class Executions {
    transport;
    constructor(transport) {
        this.transport = transport;
    }
    /** Every execution, newest first, page by page; `limit` is the size of a page. */
    async *list(query = {}, options) {
        let cursor;
        do {
            const call = { method: "GET", path: "/api/v1/executions", query: { ...query, cursor } };
            const page = await this.transport.json(call, options);
            yield* page.executions ?? [];
            cursor = page.next_cursor || undefined;
        } while (cursor);
    }
    /** One execution; NotFoundError when the project has none of that id. */
    get(executionId, options) {
        return this.transport.json({ method: "GET", path: path(executionId) }, options);
    }
    /** Ends a running execution; resolves when its processes are gone. */
    cancel(executionId, options) {
        return this.transport.json({ method: "POST", path: `${path(executionId)}/cancel`, creates: true }, options);
    }
    /** Output from the start, or from after the event `since`, and on until the end. */
    streamLogs(executionId, query = {}, options) {
        return new EventStream(this.transport, {
            path: `/api/v1/logs/${encodeURIComponent(executionId)}/stream`,
            ...query,
            read: events_js_1.executionEvent,
            isLast: (event) => event.type === "result" || event.type === "exit",
        }, options);
    }
}
exports.Executions = Executions;
function path(executionId) {
    if (!executionId)
        throw new errors_js_1.NotFoundError("an execution without an id does not exist");
    return `/api/v1/executions/${encodeURIComponent(executionId)}`;
}
