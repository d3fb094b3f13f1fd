import { toBytes } from "./bytes.js";
import { AbortedError, ServerUnreachableError, StreamLostError } from "./errors.js";
import { isNode } from "./platform.js";
/** Opens a WebSocket. Headers are sent by Node only. */
export async function openSocket(url, headers, signal) {
    if (signal?.aborted)
        throw new AbortedError("the caller ended it", { cause: signal.reason });
    if (isNode())
        return (await import("./node-socket.js")).openNodeSocket(url, headers ?? {}, signal);
    return openWebSocket(url, signal);
}
/** Frames that came and were not asked for yet, and who waits for one. */
export class FrameQueue {
    #frames = [];
    #waiting;
    #ended;
    get length() {
        return this.#frames.length;
    }
    push(frame) {
        const waiting = this.#waiting;
        this.#waiting = undefined;
        if (waiting)
            waiting.resolve(frame);
        else
            this.#frames.push(frame);
    }
    /** Says that nothing more comes: in order, or because of an error. */
    end(error) {
        if (this.#ended)
            return;
        this.#ended = { error };
        const waiting = this.#waiting;
        this.#waiting = undefined;
        if (error)
            waiting?.reject(error);
        else
            waiting?.resolve(undefined);
    }
    next() {
        const frame = this.#frames.shift();
        if (frame !== undefined)
            return Promise.resolve(frame);
        if (this.#ended)
            return this.#ended.error ? Promise.reject(this.#ended.error) : Promise.resolve(undefined);
        return new Promise((resolve, reject) => {
            this.#waiting = { resolve, reject };
        });
    }
}
/** The platform's own WebSocket. It reads ahead: its server drops slow readers. */
function openWebSocket(url, signal) {
    return new Promise((resolve, reject) => {
        const socket = new WebSocket(url);
        socket.binaryType = "arraybuffer";
        const frames = new FrameQueue();
        let opened = false;
        const onAbort = () => socket.close();
        signal?.addEventListener("abort", onAbort, { once: true });
        socket.onopen = () => {
            opened = true;
            resolve({
                send: async (data) => {
                    if (socket.readyState !== WebSocket.OPEN)
                        throw new StreamLostError("the connection to the server broke off");
                    socket.send(data);
                },
                receive: () => frames.next(),
                close: () => socket.close(),
            });
        };
        socket.onmessage = ({ data }) => {
            frames.push(typeof data === "string" ? data : new Uint8Array(data));
        };
        socket.onclose = ({ code }) => {
            signal?.removeEventListener("abort", onAbort);
            const failure = signal?.aborted
                ? new AbortedError("the caller ended it", { cause: signal.reason })
                : code === 1000
                    ? undefined
                    : new StreamLostError(`the connection to the server broke off (${code})`);
            frames.end(failure);
            if (!opened)
                reject(failure ?? new ServerUnreachableError(`no answer from the server at ${url.replace(/\?.*/, "")}`));
        };
    });
}
/** The bytes of a frame. */
export function frameBytes(frame) {
    return toBytes(frame);
}
