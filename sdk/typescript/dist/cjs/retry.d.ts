import { type FaasError } from "./errors.js";
/** A failed trial. */
export interface Trial {
    /** Trials before this one. */
    readonly attempt: number;
    readonly maxRetries: number;
    readonly error: FaasError;
    /** Doing it twice does no harm. */
    readonly safe: boolean;
    /** The server may have seen the request. */
    readonly reached: boolean;
}
/** Milliseconds until the next trial, undefined to give up. */
export declare function retryDelay(trial: Trial): number | undefined;
/** Reads a Retry-After header: seconds, or a date. */
export declare function parseRetryAfter(value: string | null | undefined): number | undefined;
/** Waits; rejects with the signal's reason when it is aborted. */
export declare function sleep(ms: number, signal?: AbortSignal): Promise<void>;
