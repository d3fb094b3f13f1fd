import { MalformedResponseError } from "./errors.js";

/** One event may carry a result with both streams of output. */
const MAX_EVENT_CHARACTERS = 64 << 20;

/** One server-sent event; `id` is the last id seen so far. */
export interface ServerSentEvent {
  readonly event: string;
  readonly data: string;
  readonly id: string;
}

/** Turns pieces of a stream into events. */
export class EventDecoder {
  #text = new TextDecoder();
  #rest = "";
  #event = "";
  #data: string[] = [];
  #size = 0;

  constructor(public lastId = "") {}

  /** Takes a piece, and returns the events that it completes. */
  feed(piece: Uint8Array): ServerSentEvent[] {
    const lines = (this.#rest + this.#text.decode(piece, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    const events: ServerSentEvent[] = [];
    for (const line of lines) {
      const event = this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (event) events.push(event);
    }
    if (this.#rest.length + this.#size > MAX_EVENT_CHARACTERS) {
      throw new MalformedResponseError(`the server sent an event of more than ${MAX_EVENT_CHARACTERS} characters`);
    }
    return events;
  }

  #line(line: string): ServerSentEvent | undefined {
    if (line === "") return this.#dispatch();
    if (line.startsWith(":")) return undefined; // a comment keeps the connection alive
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    this.#size += value.length;
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.lastId = value;
    return undefined;
  }

  #dispatch(): ServerSentEvent | undefined {
    const event = this.#event || "message";
    const data = this.#data;
    this.#event = "";
    this.#data = [];
    this.#size = 0;
    return data.length > 0 ? { event, data: data.join("\n"), id: this.lastId } : undefined;
  }
}
