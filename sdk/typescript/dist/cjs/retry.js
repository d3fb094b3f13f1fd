"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.retryDelay = retryDelay;
exports.parseRetryAfter = parseRetryAfter;
exports.sleep = sleep;
const errors_js_1 = require("./errors.js");
const BASE_DELAY_MS = 100;
const MAX_DELAY_MS = 8000;
/** A server that asks for more patience than this is not waited for. */
const MAX_RETRY_AFTER_MS = 60_000;
/** Milliseconds until the next trial, undefined to give up. */
function retryDelay(trial) {
    const { attempt, error } = trial;
    if (attempt >= trial.maxRetries || !worthIt(trial))
        return undefined;
    // Half of it is chance, so that those who failed together do not come back
    // together.
    const delay = Math.min(MAX_DELAY_MS, BASE_DELAY_MS * 2 ** attempt) * (0.5 + Math.random() / 2);
    if (error.retryAfterMs === undefined)
        return delay;
    return error.retryAfterMs > MAX_RETRY_AFTER_MS ? undefined : delay + error.retryAfterMs;
}
function worthIt({ error, safe, reached }) {
    if (error instanceof errors_js_1.ServerUnreachableError)
        return safe || !reached;
    if (error instanceof errors_js_1.ResourceExhaustedError)
        return error.retryAfterMs !== undefined; // refused before anything was done
    return safe && error instanceof errors_js_1.UnavailableError;
}
/** Reads a Retry-After header: seconds, or a date. */
function parseRetryAfter(value) {
    if (!value)
        return undefined;
    if (/^\d+$/.test(value))
        return Number(value) * 1000;
    const when = Date.parse(value);
    return Number.isNaN(when) ? undefined : Math.max(0, when - Date.now());
}
/** Waits; rejects with the signal's reason when it is aborted. */
function sleep(ms, signal) {
    return new Promise((resolve, reject) => {
        if (signal?.aborted) {
            reject(signal.reason);
            return;
        }
        const onAbort = () => {
            clearTimeout(timer);
            reject(signal?.reason);
        };
        const timer = setTimeout(() => {
            signal?.removeEventListener("abort", onAbort);
            resolve();
        }, ms);
        signal?.addEventListener("abort", onAbort, { once: true });
    });
}
