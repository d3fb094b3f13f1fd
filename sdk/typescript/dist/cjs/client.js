"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.Client = void 0;
const code_js_1 = require("./code.js");
const executing = require("./execution.js");
const execution_js_1 = require("./execution.js");
const executions_js_1 = require("./executions.js");
const images_js_1 = require("./images.js");
const instances_js_1 = require("./instances.js");
const keys_js_1 = require("./keys.js");
const pools_js_1 = require("./pools.js");
const snapshots_js_1 = require("./snapshots.js");
const stats_js_1 = require("./stats.js");
const transport_js_1 = require("./transport.js");
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
class Client {
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
        this.#transport = new transport_js_1.Transport(options);
        this.executions = new executions_js_1.Executions(this.#transport);
        this.instances = new instances_js_1.Instances(this.#transport);
        this.snapshots = new snapshots_js_1.Snapshots(this.#transport);
        this.branches = new snapshots_js_1.Branches(this.#transport);
        this.pools = new pools_js_1.Pools(this.#transport);
        this.keys = new keys_js_1.Keys(this.#transport);
        this.images = new images_js_1.Images(this.#transport);
        this.sshKeys = new images_js_1.SSHKeys(this.#transport);
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
        return executing.execute(this.#transport, EXECUTE, (0, execution_js_1.requestBody)(command, options), request);
    }
    /** Runs a command and shows its output as it comes. */
    executeStream(command, options = {}, request) {
        return new execution_js_1.ExecutionStream(this.#transport, EXECUTE, (0, execution_js_1.requestBody)(command, options), request);
    }
    /** Runs a command and writes its raw standard output to `to`, without a limit of size. */
    executeTo(command, to, options = {}, request) {
        return executing.executeTo(this.#transport, EXECUTE, (0, execution_js_1.requestBody)(command, options), to, request);
    }
    /** Starts a command with live input and output, in a terminal if one is given. */
    spawn(command, options = {}, request) {
        const { terminal, ...rest } = options;
        return execution_js_1.RunningCommand.start(this.#transport, `${EXECUTE}/ws`, (0, execution_js_1.requestBody)(command, rest), terminal, request);
    }
    /** Runs a command joined to the caller's streams. */
    async run(command, options = {}, request) {
        const { input, onStdout, onStderr, ...rest } = options;
        return executing.run(await this.spawn(command, rest, request), options);
    }
    #program(language, code, options, request) {
        const { args = [], ...rest } = options;
        const { command, files } = (0, code_js_1.program)(language, code, args);
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
        return (0, executions_js_1.fork)(this.#transport, "/api/v1/fork", command, options, request);
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
        this.#transport.metrics = (0, stats_js_1.zeroMetrics)();
    }
    /** Nothing stays open between calls; for symmetry with other clients, and `await using`. */
    async close() { }
    [Symbol.asyncDispose]() {
        return this.close();
    }
}
exports.Client = Client;
