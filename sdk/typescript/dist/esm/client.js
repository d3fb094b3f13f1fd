import { program } from "./code.js";
import * as executing from "./execution.js";
import { ExecutionStream, requestBody, RunningCommand } from "./execution.js";
import { Executions, fork } from "./executions.js";
import { Images, SSHKeys } from "./images.js";
import { Instances } from "./instances.js";
import { Keys } from "./keys.js";
import { Pools } from "./pools.js";
import { Branches, Snapshots } from "./snapshots.js";
import { zeroMetrics } from "./stats.js";
import { Transport } from "./transport.js";
const EXECUTE = "/api/v1/execute";
/**
 * A client of one server.
 *
 * Without options the server is FAAS_API_URL or http://127.0.0.1:8080, and the
 * key FAAS_API_KEY or the key file of the user who runs the server here.
 *
 *     const client = new Client();
 *     const result = await client.execute("echo hello");
 *     console.log(result.stdout);
 *
 * Errors are FaasError and its subclasses; a command that fails is a result
 * with an exit code.
 */
export class Client {
    /** Executions on record. */
    executions;
    /** Sandboxes that live until told otherwise. */
    instances;
    /** Saved states. */
    snapshots;
    /** Named heads in the tree of snapshots. */
    branches;
    /** Warm sandboxes. */
    pools;
    /** API keys. */
    keys;
    /** Images. */
    images;
    /** SSH keys. */
    sshKeys;
    #transport;
    constructor(options = {}) {
        this.#transport = new Transport(options);
        this.executions = new Executions(this.#transport);
        this.instances = new Instances(this.#transport);
        this.snapshots = new Snapshots(this.#transport);
        this.branches = new Branches(this.#transport);
        this.pools = new Pools(this.#transport);
        this.keys = new Keys(this.#transport);
        this.images = new Images(this.#transport);
        this.sshKeys = new SSHKeys(this.#transport);
    }
    /** Address of the server. */
    get url() {
        return this.#transport.url;
    }
    /**
     * Listens to what the client does: `execution`, `retry`, `error`, `cache-hit`
     * and `cache-miss`. The function that it returns ends that.
     */
    on(event, listener) {
        return this.#transport.events.on(event, listener);
    }
    /**
     * Runs a command and returns its result. A string is run by `sh -c`, an array
     * as it is. Up to 10 MiB of each output stream come with the result.
     */
    execute(command, options = {}, request) {
        return executing.execute(this.#transport, EXECUTE, requestBody(command, options), request);
    }
    /** Runs a command and shows its output as it comes. */
    executeStream(command, options = {}, request) {
        return new ExecutionStream(this.#transport, EXECUTE, requestBody(command, options), request);
    }
    /** Runs a command and writes its raw standard output to `to`, without a limit of size. */
    executeTo(command, to, options = {}, request) {
        return executing.executeTo(this.#transport, EXECUTE, requestBody(command, options), to, request);
    }
    /** Starts a command with live input and output, in a terminal if one is given. */
    spawn(command, options = {}, request) {
        const { terminal, ...rest } = options;
        return RunningCommand.start(this.#transport, `${EXECUTE}/ws`, requestBody(command, rest), terminal, request);
    }
    /** Runs a command joined to the caller's streams. */
    async run(command, options = {}, request) {
        const { input, onStdout, onStderr, ...rest } = options;
        return executing.run(await this.spawn(command, rest, request), options);
    }
    #program(language, code, options, request) {
        const { args = [], ...rest } = options;
        const { command, files } = program(language, code, args);
        return this.execute(command, { ...rest, files: { ...files, ...rest.files } }, request);
    }
    /** Runs a Python program given as text; nothing in it needs quoting. */
    runPython(code, options = {}, request) {
        return this.#program("python", code, options, request);
    }
    /** Runs a JavaScript program (a module) given as text, with Node. */
    runJavascript(code, options = {}, request) {
        return this.#program("javascript", code, options, request);
    }
    /** Runs a TypeScript program given as text, with the image's deno, bun, tsx or Node 22.6 and newer. */
    runTypescript(code, options = {}, request) {
        return this.#program("typescript", code, options, request);
    }
    /** Runs a bash script given as text. */
    runBash(code, options = {}, request) {
        return this.#program("bash", code, options, request);
    }
    /** Output of an execution, from the start and on until its end; continues after a lost connection. */
    streamLogs(executionId, query = {}, request) {
        return this.executions.streamLogs(executionId, query, request);
    }
    /** Runs a command `count` times, or the `variants`, each in a copy of what an execution left. */
    forkExecution(executionId, command, options = {}, request) {
        return this.executions.fork(executionId, command, options, request);
    }
    /**
     * Runs a command `count` times, or the `variants`, each in a copy of one
     * state: of an instance (`instance_id`), an execution (`execution_id`), a
     * snapshot (`snapshot_id`) or a branch (`branch_from`).
     */
    fork(command, options = {}, request) {
        return fork(this.#transport, "/api/v1/fork", command, options, request);
    }
    /** Saves an instance (`instance_id`), or an image as it is (`image`). */
    createSnapshot(options, request) {
        return this.snapshots.create(options, request);
    }
    /** Has sandboxes made ahead of requests. */
    prewarm(count, options = {}, request) {
        return this.pools.prewarm(count, options, request);
    }
    /** Whether the server works; needs no key. */
    healthCheck(request) {
        return this.#transport.json({ method: "GET", path: "/health" }, request);
    }
    /** What every runtime of the server can do, and why not what it cannot. */
    async runtimes(query = {}, request) {
        const call = { method: "GET", path: "/api/v1/runtimes", query: { refresh: query.refresh || undefined } };
        return (await this.#transport.json(call, request)).runtimes;
    }
    /** What the project did since the server started. */
    getMetrics(request) {
        return this.#transport.json({ method: "GET", path: "/api/v1/metrics" }, request);
    }
    /** What this client counted about itself. */
    clientMetrics() {
        return { ...this.#transport.metrics };
    }
    /** Counts from zero. */
    resetClientMetrics() {
        this.#transport.metrics = zeroMetrics();
    }
    /** Nothing stays open between calls; for symmetry with other clients, and `await using`. */
    async close() { }
    [Symbol.asyncDispose]() {
        return this.close();
    }
}
