import type { FaasError } from "./errors.js";
import type { ExecuteResponse } from "./types.js";
/** A request is about to be sent again. */
export interface Retry {
    readonly method: string;
    readonly path: string;
    /** The trial that failed, from 1. */
    readonly attempt: number;
    /** Until the next. */
    readonly delayMs: number;
    readonly error: FaasError;
}
/** Events of a client, and what their listeners get. */
export interface ClientEvents {
    execution: ExecuteResponse;
    retry: Retry;
    error: FaasError;
    "cache-hit": ExecuteResponse;
    "cache-miss": ExecuteResponse;
}
type Listener<K extends keyof ClientEvents> = (value: ClientEvents[K]) => void;
/** Listeners by event. */
export declare class Emitter {
    #private;
    /** Adds a listener; the function that it returns removes it. */
    on<K extends keyof ClientEvents>(event: K, listener: Listener<K>): () => void;
    emit<K extends keyof ClientEvents>(event: K, value: ClientEvents[K]): void;
}
export {};
