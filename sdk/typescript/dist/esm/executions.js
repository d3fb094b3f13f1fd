import { executionEvent } from "./events.js";
import { requestBody } from "./execution.js";
import { EventStream } from "./streams.js";
import { pathOf } from "./transport.js";
const EXECUTIONS = "/api/v1/executions";
/** Executions on record: `client.executions`. */
export class Executions {
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
        return this.transport.json({ method: "GET", path: pathOf(EXECUTIONS, executionId) }, options);
    }
    /** Ends a running execution; resolves when its processes are gone. */
    cancel(executionId, options) {
        const call = { method: "POST", path: pathOf(EXECUTIONS, executionId, "/cancel"), creates: true };
        return this.transport.json(call, options);
    }
    /** Runs a command `count` times, or the `variants`, beside each other, each in a copy of what it left. */
    fork(executionId, command, options = {}, request) {
        return fork(this.transport, pathOf(EXECUTIONS, executionId, "/fork"), command, options, request);
    }
    /** Output from the start, or from after the event `since`, and on until the end. */
    streamLogs(executionId, query = {}, options) {
        return new EventStream(this.transport, {
            path: pathOf("/api/v1/logs", executionId, "/stream"),
            ...query,
            read: executionEvent,
            isLast: (event) => event.type === "result" || event.type === "exit",
        }, options);
    }
}
/** Runs commands in copies of one state. */
export function fork(transport, path, command, options, request) {
    const line = command ?? options.command;
    const { command: _, ...body } = requestBody(line ?? "", options);
    return transport.json({ method: "POST", path, body: line === undefined ? body : { ...body, command: line }, creates: true }, request);
}
