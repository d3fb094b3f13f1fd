"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.EventDecoder = void 0;
const errors_js_1 = require("./errors.js");
/** One event may carry a result with both streams of output. */
const MAX_EVENT_CHARACTERS = 64 << 20;
/** Turns pieces of a stream into events. */
class EventDecoder {
    lastId;
    #text = new TextDecoder();
    #rest = "";
    #event = "";
    #data = [];
    #size = 0;
    constructor(lastId = "") {
        this.lastId = lastId;
    }
    /** Takes a piece, and returns the events that it completes. */
    feed(piece) {
        const lines = (this.#rest + this.#text.decode(piece, { stream: true })).split("\n");
        this.#rest = lines.pop() ?? "";
        const events = [];
        for (const line of lines) {
            const event = this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
            if (event)
                events.push(event);
        }
        if (this.#rest.length + this.#size > MAX_EVENT_CHARACTERS) {
            throw new errors_js_1.MalformedResponseError(`the server sent an event of more than ${MAX_EVENT_CHARACTERS} characters`);
        }
        return events;
    }
    #line(line) {
        if (line === "")
            return this.#dispatch();
        if (line.startsWith(":"))
            return undefined; // a comment keeps the connection alive
        const colon = line.indexOf(":");
        const name = colon < 0 ? line : line.slice(0, colon);
        let value = colon < 0 ? "" : line.slice(colon + 1);
        if (value.startsWith(" "))
            value = value.slice(1);
        this.#size += value.length;
        if (name === "event")
            this.#event = value;
        else if (name === "data")
            this.#data.push(value);
        else if (name === "id" && !value.includes("\0"))
            this.lastId = value;
        return undefined;
    }
    #dispatch() {
        const event = this.#event || "message";
        const data = this.#data;
        this.#event = "";
        this.#data = [];
        this.#size = 0;
        return data.length > 0 ? { event, data: data.join("\n"), id: this.lastId } : undefined;
    }
}
exports.EventDecoder = EventDecoder;
