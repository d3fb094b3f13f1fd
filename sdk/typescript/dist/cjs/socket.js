"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.FrameQueue = void 0;
exports.openSocket = openSocket;
exports.frameBytes = frameBytes;
const bytes_js_1 = require("./bytes.js");
const errors_js_1 = require("./errors.js");
const platform_js_1 = require("./platform.js");
/** Opens a WebSocket. Headers are sent by Node only. */
async function openSocket(url, headers, signal) {
    if (signal?.aborted)
        throw new errors_js_1.AbortedError("the caller ended it", { cause: signal.reason });
    if ((0, platform_js_1.isNode)())
        return (await Promise.resolve().then(() => require("./node-socket.js"))).openNodeSocket(url, headers ?? {}, signal);
    return openWebSocket(url, signal);
}
/** Frames that came and were not asked for yet, and who waits for one. */
class FrameQueue {
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
exports.FrameQueue = FrameQueue;
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
                        throw new errors_js_1.StreamLostError("the connection to the server broke off");
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
                ? new errors_js_1.AbortedError("the caller ended it", { cause: signal.reason })
                : code === 1000
                    ? undefined
                    : new errors_js_1.StreamLostError(`the connection to the server broke off (${code})`);
            frames.end(failure);
            if (!opened)
                reject(failure ?? new errors_js_1.ServerUnreachableError(`no answer from the server at ${url.replace(/\?.*/, "")}`));
        };
    });
}
/** The bytes of a frame. */
function frameBytes(frame) {
    return (0, bytes_js_1.toBytes)(frame);
}
