"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.Transport = void 0;
exports.pathOf = pathOf;
const bytes_js_1 = require("./bytes.js");
const config_js_1 = require("./config.js");
const emitter_js_1 = require("./emitter.js");
const errors_js_1 = require("./errors.js");
const platform_js_1 = require("./platform.js");
const retry_js_1 = require("./retry.js");
const socket_js_1 = require("./socket.js");
const stats_js_1 = require("./stats.js");
const version_js_1 = require("./version.js");
/** Bounds what is read of an answer that is kept whole. */
const MAX_ANSWER = 512 << 20;
/** Sends requests to one server. */
class Transport {
    url;
    events = new emitter_js_1.Emitter();
    metrics = (0, stats_js_1.zeroMetrics)();
    #options;
    #key;
    constructor(options) {
        this.#options = options;
        this.url = (0, config_js_1.findUrl)(options.url);
    }
    /** Sends, and reads the answer as JSON. */
    async json(call, options = {}) {
        const text = (0, bytes_js_1.toText)(await this.content(call, options));
        let value;
        try {
            value = JSON.parse(text);
        }
        catch (cause) {
            throw new errors_js_1.MalformedResponseError(`${call.method} ${call.path}: the server's answer is not JSON: ${JSON.stringify(text.slice(0, 80))}`, { cause });
        }
        if (typeof value !== "object" || value === null) {
            throw new errors_js_1.MalformedResponseError(`${call.method} ${call.path}: the server's answer is no object`);
        }
        return value;
    }
    /** Entries of a list, page by page; `of` is the field that holds them. */
    async *pages(path, query, of, options) {
        let cursor;
        do {
            const page = await this.json({ method: "GET", path, query: { ...query, cursor } }, options);
            const entries = page[of];
            yield* entries ?? [];
            cursor = page.next_cursor || undefined;
        } while (cursor);
    }
    /** Sends, and returns the answer's body. */
    content(call, options = {}) {
        return this.#counted(() => this.#sendUntilDone(call, options, readWhole));
    }
    /** Sends, and returns the answer with its body still to come. */
    stream(call, options = {}) {
        const untimed = { ...options, timeoutMs: 0 };
        return this.#counted(() => this.#sendUntilDone(call, untimed, async (response) => response));
    }
    /** Opens a WebSocket. */
    async socket(path, query, options = {}) {
        return this.#counted(() => this.#tryUntilDone({ method: "GET", path }, options, true, async () => {
            const url = this.url.replace(/^http/, "ws") + path;
            if ((0, platform_js_1.isNode)())
                return (0, socket_js_1.openSocket)(url + queryString(query), await this.#auth(), options.signal);
            const ticket = (await this.#key_()) ? await this.#ticket(path, options) : undefined;
            return (0, socket_js_1.openSocket)(url + queryString({ ...query, ticket }), undefined, options.signal);
        }));
    }
    // Browsers cannot send the key with a WebSocket: a ticket stands for it once.
    async #ticket(path, options) {
        const call = { method: "POST", path: "/api/v1/tickets", body: { path } };
        return (await this.json(call, options)).ticket;
    }
    async #counted(run) {
        this.metrics.requests++;
        const started = performance.now();
        try {
            return await run();
        }
        catch (error) {
            if (error instanceof errors_js_1.FaasError) {
                this.metrics.errors++;
                this.events.emit("error", error);
            }
            throw error;
        }
        finally {
            this.metrics.total_ms += performance.now() - started;
        }
    }
    async #sendUntilDone(call, options, read) {
        const headers = await this.#headers(call, options);
        const repeatable = call.content === undefined || call.content instanceof Uint8Array;
        const safe = repeatable && (["GET", "PUT", "DELETE"].includes(call.method) || headers["Idempotency-Key"] !== undefined);
        const given = repeatable ? options : { ...options, maxRetries: 0 };
        return this.#tryUntilDone(call, given, safe, (lost) => this.#sendOnce(call, headers, options, read, lost));
    }
    async #tryUntilDone(call, options, safe, send) {
        const maxRetries = options.maxRetries ?? this.#options.maxRetries ?? 3;
        let lost = false;
        for (let attempt = 0;; attempt++) {
            try {
                return await send(lost);
            }
            catch (caught) {
                if (!(caught instanceof errors_js_1.FaasError))
                    throw caught;
                const error = caught;
                const reached = !neverReached(error);
                lost ||= reached;
                const delayMs = (0, retry_js_1.retryDelay)({ attempt, maxRetries, error, safe, reached });
                if (delayMs === undefined)
                    throw error;
                await this.retrying({ method: call.method, path: call.path, attempt: attempt + 1, delayMs, error }, options.signal);
            }
        }
    }
    /** Says that something is tried again, and waits until then. */
    async retrying(retry, signal) {
        this.metrics.retries++;
        this.events.emit("retry", retry);
        try {
            await (0, retry_js_1.sleep)(retry.delayMs, signal);
        }
        catch (cause) {
            throw new errors_js_1.AbortedError("the caller ended it", { cause });
        }
    }
    async #sendOnce(call, headers, options, read, lost) {
        const limit = options.timeoutMs ?? this.#options.timeoutMs ?? 0;
        const clock = limit > 0 ? AbortSignal.timeout(limit) : undefined;
        const signals = [options.signal, clock].filter((each) => each !== undefined);
        try {
            const response = await (this.#options.fetch ?? fetch)(this.url + call.path + queryString(call.query ?? {}), {
                method: call.method,
                headers,
                body: body(call) ?? null,
                signal: signals.length > 0 ? AbortSignal.any(signals) : null,
                redirect: "error",
                ...(call.content instanceof ReadableStream ? { duplex: "half" } : {}),
            });
            if (response.ok)
                return await read(response);
            const error = await problem(response);
            if (error instanceof errors_js_1.NotFoundError && call.method === "DELETE" && lost) {
                return await read(new Response("{}")); // the trial that got no answer did it
            }
            throw error;
        }
        catch (error) {
            throw this.failure(error, call, options.signal, clock ? limit : undefined);
        }
    }
    /** What a failed fetch, or a broken stream, was. */
    failure(error, call, signal, limit) {
        if (error instanceof errors_js_1.FaasError)
            return error;
        if (signal?.aborted)
            return new errors_js_1.AbortedError("the caller ended it", { cause: signal.reason });
        if (error?.name === "TimeoutError") {
            return new errors_js_1.RequestTimeoutError(`${call.method} ${call.path}: no answer within ${limit} ms`, { cause: error });
        }
        const cause = error?.cause;
        return new errors_js_1.ServerUnreachableError(`no answer from the server at ${this.url}: ${cause?.message ?? String(error)}`, {
            remedy: "start it with `faas serve`, or name another with FAAS_API_URL",
            cause: error,
        });
    }
    /** Pieces of a stream; a broken one is a StreamLostError. */
    async *pieces(response, call, signal) {
        const reader = response.body?.getReader();
        if (!reader)
            return;
        try {
            for (;;) {
                const { done, value } = await reader.read();
                if (done)
                    return;
                yield value;
            }
        }
        catch (error) {
            const failure = this.failure(error, call, signal);
            if (!(failure instanceof errors_js_1.ServerUnreachableError))
                throw failure;
            throw new errors_js_1.StreamLostError("the stream from the server broke off", { cause: error });
        }
        finally {
            await reader.cancel().catch(() => undefined);
        }
    }
    #key_() {
        this.#key ??= (0, config_js_1.findKey)(this.#options.apiKey, this.#options.keyFile);
        return this.#key;
    }
    async #auth() {
        const headers = (0, platform_js_1.isNode)() ? { "User-Agent": `faas-typescript/${version_js_1.VERSION}` } : {};
        const key = await this.#key_();
        if (key)
            headers["Authorization"] = `Bearer ${key}`;
        return headers;
    }
    async #headers(call, options) {
        const headers = await this.#auth();
        headers["Accept"] = call.accept ?? "application/json";
        if (call.body !== undefined)
            headers["Content-Type"] = "application/json";
        else if (call.content !== undefined)
            headers["Content-Type"] = call.contentType ?? "application/octet-stream";
        if (call.creates)
            headers["Idempotency-Key"] = options.idempotencyKey ?? crypto.randomUUID();
        return { ...headers, ...call.headers };
    }
}
exports.Transport = Transport;
/** The path of one thing; ids are opaque and may hold anything. */
function pathOf(collection, id, rest = "") {
    if (!id)
        throw new errors_js_1.NotFoundError(`${collection} has nothing without an id`);
    return `${collection}/${encodeURIComponent(id)}${rest}`;
}
// Refused connections are told by their code, which fetch keeps in the cause.
const neverReachedCodes = ["ECONNREFUSED", "ENOTFOUND", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT", "ConnectionRefused"];
function neverReached(error) {
    if (!(error instanceof errors_js_1.ServerUnreachableError))
        return false;
    for (let cause = error.cause; cause !== undefined && cause !== null; cause = cause.cause) {
        if (neverReachedCodes.includes(String(cause.code)))
            return true;
    }
    return false;
}
async function readWhole(response) {
    const content = new Uint8Array(await response.arrayBuffer());
    if (content.length > MAX_ANSWER)
        throw new errors_js_1.MalformedResponseError(`the server's answer is larger than ${MAX_ANSWER} bytes`);
    return content;
}
async function problem(response) {
    const retryAfter = (0, retry_js_1.parseRetryAfter)(response.headers.get("Retry-After"));
    const text = await response.text();
    try {
        return (0, errors_js_1.fromProblem)(JSON.parse(text), response.status, retryAfter);
    }
    catch {
        return (0, errors_js_1.fromProblem)(undefined, response.status, retryAfter);
    }
}
function body(call) {
    if (call.body !== undefined)
        return JSON.stringify(call.body);
    return call.content;
}
function queryString(query) {
    const pairs = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) {
        if (value !== undefined)
            pairs.set(name, String(value));
    }
    const text = pairs.toString();
    return text && `?${text}`;
}
