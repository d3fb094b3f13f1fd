import { fromProblem } from "./errors.js";
import * as executing from "./execution.js";
import { ExecutionStream, requestBody, RunningCommand } from "./execution.js";
import { pathOf } from "./transport.js";
const INSTANCES = "/api/v1/instances";
/** One instance. `await using` deletes it at the end. */
export class Instance {
    transport;
    info;
    constructor(transport, 
    /** What the server said of it last; `refresh` asks again. */
    info) {
        this.transport = transport;
        this.info = info;
    }
    get id() {
        return this.info.id;
    }
    /** Its name; empty when it has none. */
    get name() {
        return this.info.name;
    }
    /** Its status when the server spoke of it last. */
    get status() {
        return this.info.status;
    }
    /** What the server said of it last. */
    toJSON() {
        return this.info;
    }
    #path(rest = "") {
        return pathOf(INSTANCES, this.info.id, rest);
    }
    async #change(method, rest, body, options) {
        const call = { method, path: this.#path(rest), body, creates: method === "POST" };
        this.info = await this.transport.json(call, options);
        return this;
    }
    /** Asks the server how it is. */
    refresh(options) {
        return this.#change("GET", "", undefined, options);
    }
    /** Changes its name, labels or time to live. */
    update(changes, options) {
        return this.#change("PATCH", "", changes, options);
    }
    /** Runs a command in it and returns its result. */
    exec(command, options = {}, request) {
        return executing.execute(this.transport, this.#path("/exec"), requestBody(command, options), request);
    }
    /** Runs a command in it and shows its output as it comes. */
    execStream(command, options = {}, request) {
        return new ExecutionStream(this.transport, this.#path("/exec"), requestBody(command, options), request);
    }
    /** Starts a command in it with live input and output. */
    spawn(command, options = {}, request) {
        const { terminal, ...rest } = options;
        return RunningCommand.start(this.transport, this.#path("/exec/ws"), requestBody(command, rest), terminal, request);
    }
    /** Runs a command in it, joined to the caller's streams. */
    async run(command, options = {}, request) {
        const { input, onStdout, onStderr, ...rest } = options;
        return executing.run(await this.spawn(command, rest, request), options);
    }
    /** Opens a terminal in it, with a shell unless another command is given. */
    terminal(command = "exec ${SHELL:-sh}", options = {}, request) {
        return this.spawn(command, { terminal: { cols: options.cols ?? 80, rows: options.rows ?? 24 } }, request);
    }
    /** Copies that continue from its present state; it goes on. The first failure is thrown when there is no copy. */
    async fork(copies, options = {}, request) {
        const body = { ...options, ...(copies === undefined ? {} : { count: copies }) };
        const made = await this.transport.json({ method: "POST", path: this.#path("/fork"), body, creates: true }, request);
        const failure = made.failures[0];
        if (made.instances.length === 0 && failure)
            throw fromProblem(failure.problem);
        return made.instances.map((info) => new Instance(this.transport, info));
    }
    /** Saves its state; it goes on. */
    snapshot(options = {}, request) {
        return this.transport.json({ method: "POST", path: this.#path("/snapshot"), body: options, creates: true }, request);
    }
    /** Lets it stand still; `info.checkpoint_id` is the snapshot that was taken. */
    pause(options = {}, request) {
        return this.#change("POST", "/pause", options, request);
    }
    /** Lets it go on. */
    resume(options) {
        return this.#change("POST", "/resume", undefined, options);
    }
    stop(options) {
        return this.#change("POST", "/stop", undefined, options);
    }
    /** Starts it again after a stop. */
    start(options) {
        return this.#change("POST", "/start", undefined, options);
    }
    async delete(options) {
        await this.transport.content({ method: "DELETE", path: this.#path() }, options);
    }
    /** What it consumes. */
    stats(options) {
        return this.transport.json({ method: "GET", path: this.#path("/stats") }, options);
    }
    /** How to log in to it: host, port, user, keys, and a command line. */
    ssh(options) {
        return this.transport.json({ method: "GET", path: this.#path("/ssh") }, options);
    }
    /** What runs in it. */
    async processes(options) {
        return (await this.transport.json({ method: "GET", path: this.#path("/processes") }, options)).processes;
    }
    [Symbol.asyncDispose]() {
        return this.delete();
    }
}
/** Instances: `client.instances`. */
export class Instances {
    transport;
    constructor(transport) {
        this.transport = transport;
    }
    /** Starts an instance of an image, or from a saved state. */
    async start(options = {}, request) {
        const info = await this.transport.json({ method: "POST", path: INSTANCES, body: options, creates: true }, request);
        return new Instance(this.transport, info);
    }
    /** One instance, by id or name. */
    async get(instanceId, options) {
        return new Instance(this.transport, await this.transport.json({ method: "GET", path: pathOf(INSTANCES, instanceId) }, options));
    }
    /** Every instance, newest first. */
    async *list(filter = {}, options) {
        for await (const info of this.transport.pages(INSTANCES, filter, "instances", options)) {
            yield new Instance(this.transport, info);
        }
    }
}
