"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.Executions = void 0;
exports.fork = fork;
const events_js_1 = require("./events.js");
const execution_js_1 = require("./execution.js");
const streams_js_1 = require("./streams.js");
const transport_js_1 = require("./transport.js");
const EXECUTIONS = "/api/v1/executions";
/** Executions on record: `client.executions`. */
class Executions {
    transport;
    constructor(transport) {
        this.transport = transport;
    }
    /** Every execution, newest first; `limit` is the size of a page. */
    list(filter = {}, options) {
        return this.transport.pages(EXECUTIONS, filter, "executions", options);
    }
    /** One execution; NotFoundError when the project has none of that id. */
    get(executionId, options) {
        return this.transport.json({ method: "GET", path: (0, transport_js_1.pathOf)(EXECUTIONS, executionId) }, options);
    }
    /** Ends a running execution; resolves when its processes are gone. */
    cancel(executionId, options) {
        const call = { method: "POST", path: (0, transport_js_1.pathOf)(EXECUTIONS, executionId, "/cancel"), creates: true };
        return this.transport.json(call, options);
    }
    /** Runs a command `count` times, or the `variants`, beside each other, each in a copy of what it left. */
    fork(executionId, command, options = {}, request) {
        return fork(this.transport, (0, transport_js_1.pathOf)(EXECUTIONS, executionId, "/fork"), command, options, request);
    }
    /** Output from the start, or from after the event `since`, and on until the end. */
    streamLogs(executionId, query = {}, options) {
        return new streams_js_1.EventStream(this.transport, {
            path: (0, transport_js_1.pathOf)("/api/v1/logs", executionId, "/stream"),
            ...query,
            read: events_js_1.executionEvent,
            isLast: (event) => event.type === "result" || event.type === "exit",
        }, options);
    }
}
exports.Executions = Executions;
/** Runs commands in copies of one state. */
function fork(transport, path, command, options, request) {
    const line = command ?? options.command;
    const { command: _, ...body } = (0, execution_js_1.requestBody)(line ?? "", options);
    return transport.json({ method: "POST", path, body: line === undefined ? body : { ...body, command: line }, creates: true }, request);
}
