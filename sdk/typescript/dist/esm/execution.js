import { toBase64, toBytes } from "./bytes.js";
import { FaasError, MalformedResponseError, StreamLostError, UnavailableError } from "./errors.js";
import { executionEvent, output, parseRaw } from "./events.js";
import { EventDecoder } from "./sse.js";
/** Standard input that may be on its way: the server takes no more in advance. */
const STDIN_WINDOW = 1 << 20;
const STDIN_PIECE = 32 << 10;
/** Output kept while the caller sends and does not read. */
const MAX_KEPT = 64 << 20;
/** The body of an execution; bytes go as base64. */
export function requestBody(command, options) {
    const { stdin, files, ...rest } = options;
    const body = { ...rest, command: typeof command === "string" ? command : [...command] };
    if (typeof stdin === "string")
        body.stdin = stdin;
    else if (stdin)
        body.stdin_base64 = toBase64(stdin);
    if (files)
        body.files = filesBody(files);
    return body;
}
/** Contents of files as they are sent. */
export function filesBody(files) {
    const contents = Object.entries(files).map(([path, content]) => [
        path,
        typeof content === "string" ? content : { base64: toBase64(content) },
    ]);
    return Object.fromEntries(contents);
}
/** Counts an execution and tells those who want to know. */
export function finish(transport, mode, result) {
    transport.metrics.executions++;
    transport.events.emit("execution", result);
    if (result.cache_hit) {
        transport.metrics.cache_hits++;
        transport.events.emit("cache-hit", result);
    }
    else if (mode === "cached") {
        transport.metrics.cache_misses++;
        transport.events.emit("cache-miss", result);
    }
    return result;
}
/** Runs a command, whole. */
export async function execute(transport, path, body, options) {
    const call = { method: "POST", path, body, creates: true };
    return finish(transport, body.mode, await transport.json(call, options));
}
/**
 * An execution as events, while it runs. Leaving the loop early ends the
 * command. `result` is there after the last event.
 */
export class ExecutionStream {
    transport;
    body;
    id = "";
    result;
    #events;
    constructor(transport, path, body, options = {}) {
        this.transport = transport;
        this.body = body;
        this.#events = this.#read({ method: "POST", path, body, accept: "text/event-stream" }, options);
    }
    async *#read(call, options) {
        const response = await this.transport.stream(call, options);
        this.id = response.headers.get("Faas-Execution-Id") ?? "";
        const decoder = new EventDecoder();
        for await (const piece of this.transport.pieces(response, call, options.signal)) {
            for (const sent of decoder.feed(piece)) {
                const event = executionEvent(parseRaw(sent.data));
                if (event instanceof FaasError)
                    throw event;
                if (!event)
                    continue;
                if (event.type === "started")
                    this.id = event.id;
                if (event.type === "result")
                    this.result = finish(this.transport, this.body.mode, event.result);
                yield event;
            }
        }
        if (!this.result)
            throw new StreamLostError("the stream ended without a result");
    }
    [Symbol.asyncIterator]() {
        return this.#events;
    }
    /** Reads to the end and returns the result (without the output). */
    async wait() {
        while (!(await this.#events.next()).done)
            ;
        if (!this.result)
            throw new StreamLostError("the stream was closed before its result");
        return this.result;
    }
    /** Stops reading; a command that still runs is ended. */
    async close() {
        await this.#events.return();
    }
    [Symbol.asyncDispose]() {
        return this.close();
    }
}
/** Copies raw output, then asks how it ended: trailers are out of fetch's reach. */
export async function executeTo(transport, path, body, to, options = {}) {
    const call = { method: "POST", path, body, accept: "application/octet-stream" };
    const response = await transport.stream(call, options);
    const writer = typeof to === "function" ? undefined : to.getWriter();
    try {
        for await (const piece of transport.pieces(response, call, options.signal)) {
            await (writer ? writer.write(piece) : to(piece));
        }
    }
    finally {
        writer?.releaseLock();
    }
    const id = response.headers.get("Faas-Execution-Id");
    if (!id)
        throw new MalformedResponseError("the server's answer does not name the execution");
    const execution = await transport.json({ method: "GET", path: `/api/v1/executions/${id}` }, options);
    const { result, error } = execution;
    if (!result)
        throw new UnavailableError(error || `the execution ${id} is ${execution.status}`);
    const whole = { ...result, stdout: "", stderr: "", output: "", logs: "", error: error || null };
    return finish(transport, body.mode, whole);
}
/**
 * A command with live input and output, over a WebSocket. It is an iterable of
 * events; closing it ends a command that still runs.
 */
export class RunningCommand {
    transport;
    socket;
    mode;
    id = "";
    result;
    #kept = [];
    #keptBytes = 0;
    #sent = 0;
    #taken = 0;
    #refused;
    #done = false;
    constructor(transport, socket, mode) {
        this.transport = transport;
        this.socket = socket;
        this.mode = mode;
    }
    /** Opens the connection and starts the command. */
    static async start(transport, path, body, terminal, options = {}) {
        const process = new RunningCommand(transport, await transport.socket(path, { binary: 1 }, options), body.mode);
        const tty = terminal ? { tty: true, cols: terminal.cols, rows: terminal.rows } : {};
        await process.#send({ ...body, type: "exec", ...tty });
        return process;
    }
    #send(frame) {
        return this.#done ? Promise.resolve() : this.socket.send(JSON.stringify(frame));
    }
    /** Sends standard input. Waits while the command does not read. */
    async sendStdin(data) {
        const content = toBytes(data);
        for (let start = 0; start < content.length; start += STDIN_PIECE) {
            const piece = content.subarray(start, start + STDIN_PIECE);
            while (this.#sent + piece.length - this.#taken > STDIN_WINDOW && !this.#done)
                await this.#keepNext();
            if (this.#done)
                return; // it does not read any more
            await this.socket.send(piece);
            this.#sent += piece.length;
        }
    }
    async #keepNext() {
        const event = await this.#next();
        if (!event)
            return;
        this.#kept.push(event);
        this.#keptBytes += "data" in event ? event.data.length : 0;
        if (this.#keptBytes > MAX_KEPT) {
            throw new StreamLostError(`more than ${MAX_KEPT} bytes of output are unread: read events while sending input`);
        }
    }
    /** Says that no more input comes. */
    closeStdin() {
        return this.#send({ type: "close_stdin" });
    }
    /** Changes the size of the terminal. */
    resize(cols, rows) {
        return this.#send({ type: "resize", cols, rows });
    }
    /** Sends a signal, by name ("SIGINT") or by Linux's number. */
    signal(name) {
        return this.#send({ type: "signal", signal: String(name) });
    }
    /** The next event, or nothing for a frame that is none; done after the last. */
    async #next() {
        if (this.#done)
            return undefined;
        let frame;
        try {
            frame = await this.socket.receive();
        }
        catch (error) {
            this.#done = true;
            throw this.#refused ?? error;
        }
        if (frame === undefined) {
            this.#done = true;
            throw this.#refused ?? new StreamLostError("the server closed the connection before the command's end");
        }
        if (typeof frame !== "string")
            return output("stdout", 0, frame);
        const raw = parseRaw(frame);
        if (raw.type === "stdin_ack")
            this.#taken = Math.max(this.#taken, Number(raw["bytes"] ?? 0));
        const event = executionEvent(raw);
        if (event instanceof FaasError) {
            this.#refused = event; // the last word, or about one frame of ours
            return undefined;
        }
        if (event?.type === "started")
            this.id = event.id;
        if (event?.type === "result") {
            this.#done = true;
            this.result = finish(this.transport, this.mode, event.result);
            this.socket.close();
        }
        return event;
    }
    async *[Symbol.asyncIterator]() {
        for (;;) {
            const kept = this.#kept.shift();
            if (kept) {
                this.#keptBytes -= "data" in kept ? kept.data.length : 0;
                yield kept;
                continue;
            }
            if (this.#done)
                return;
            const event = await this.#next();
            if (event)
                yield event;
        }
    }
    /** Reads to the end and returns the result (without the output). */
    async wait() {
        for await (const _ of this)
            ;
        if (!this.result)
            throw this.#refused ?? new StreamLostError("the process was closed before its result");
        return this.result;
    }
    /** Closes the connection; a command that still runs is ended. */
    async close() {
        this.#done = true;
        this.socket.close();
    }
    [Symbol.asyncDispose]() {
        return this.close();
    }
}
/** Joins a process to its caller's streams until it ends. */
export async function run(process, options) {
    try {
        const { input } = options;
        if (typeof input === "string" || input instanceof Uint8Array)
            await process.sendStdin(input);
        else if (input)
            for await (const piece of input)
                await process.sendStdin(piece);
        await process.closeStdin();
        for await (const event of process) {
            if (event.type === "stdout")
                options.onStdout?.(event.data);
            else if (event.type === "stderr")
                options.onStderr?.(event.data);
        }
        return await process.wait();
    }
    finally {
        await process.close();
    }
}
