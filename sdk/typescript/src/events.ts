import { fromBase64, toBytes, toText } from "./bytes.js";
import { FaasError, fromProblem, MalformedResponseError } from "./errors.js";
import type { ExecuteResponse, Json, Problem } from "./types.js";

/** The execution is on record. */
export interface StartedEvent {
  readonly type: "started";
  readonly seq: number;
  readonly id: string;
}

/** A piece of output. */
export interface OutputEvent {
  readonly type: "stdout" | "stderr";
  readonly seq: number;
  readonly data: Uint8Array;
  /** `data` as text; what is not UTF-8 is replaced. */
  readonly text: string;
}

/** The command ended. */
export interface ExitEvent {
  readonly type: "exit";
  readonly seq: number;
  readonly code: number;
  readonly signal: string;
}

/** The last event: the result, without the output. */
export interface ResultEvent {
  readonly type: "result";
  readonly seq: number;
  readonly result: ExecuteResponse;
}

/** An event of an execution. */
export type ExecutionEvent = StartedEvent | OutputEvent | ExitEvent | ResultEvent;

/** A frame or event as it came. */
export interface RawEvent {
  readonly type: string;
  readonly seq?: number;
  readonly [field: string]: Json | undefined;
}

/** Reads one frame or the data of one server-sent event. */
export function parseRaw(text: string, name?: string): RawEvent {
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch (cause) {
    throw new MalformedResponseError(`the server sent an event that is not JSON: ${JSON.stringify(text.slice(0, 80))}`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value) || typeof (value["type"] ?? name) !== "string") {
    throw new MalformedResponseError(`the server sent an event without a type: ${JSON.stringify(text.slice(0, 80))}`);
  }
  return { type: name, ...value } as unknown as RawEvent;
}

/** The event of an execution in a frame; undefined for frames that are none, the error for one that says so. */
export function executionEvent(raw: RawEvent): ExecutionEvent | FaasError | undefined {
  const seq = raw.seq ?? 0;
  switch (raw.type) {
    case "started":
      return { type: raw.type, seq, id: String(raw["id"] ?? "") };
    case "stdout":
    case "stderr":
      return output(raw.type, seq, outputBytes(raw));
    case "exit":
      return { type: raw.type, seq, code: Number(raw["code"] ?? 0), signal: String(raw["signal"] ?? "") };
    case "result":
      if (typeof raw["result"] !== "object" || raw["result"] === null) {
        throw new MalformedResponseError("the server sent a result without its content");
      }
      return { type: raw.type, seq, result: raw["result"] as unknown as ExecuteResponse };
    case "error":
      return fromProblem(raw["error"] as unknown as Problem);
  }
  return undefined;
}

/** An output event. */
export function output(type: "stdout" | "stderr", seq: number, data: Uint8Array): OutputEvent {
  return {
    type,
    seq,
    data,
    get text() {
      return toText(data);
    },
  };
}

function outputBytes(raw: RawEvent): Uint8Array {
  const encoded = raw["data_base64"];
  if (typeof encoded === "string") {
    try {
      return fromBase64(encoded);
    } catch (cause) {
      throw new MalformedResponseError("the server sent output that is not base64", { cause });
    }
  }
  return toBytes(typeof raw["data"] === "string" ? raw["data"] : "");
}
