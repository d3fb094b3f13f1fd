import { FaasError } from "./errors.js";
import type { ExecuteResponse, Json } from "./types.js";
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
export declare function parseRaw(text: string, name?: string): RawEvent;
/** The event of an execution in a frame; undefined for frames that are none, the error for one that says so. */
export declare function executionEvent(raw: RawEvent): ExecutionEvent | FaasError | undefined;
/** An output event. */
export declare function output(type: "stdout" | "stderr", seq: number, data: Uint8Array): OutputEvent;
