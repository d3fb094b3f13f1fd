import { toBytes } from "./bytes.js";
import { AbortedError, ServerUnreachableError, StreamLostError } from "./errors.js";
import { isNode } from "./platform.js";

/** One WebSocket: frames in order, read when asked for. */
export interface Socket {
  /** Sends a text frame for a string, a binary one for bytes. */
  send(data: string | Uint8Array): Promise<void>;
  /** The next frame; undefined when the server closed in order. */
  receive(): Promise<string | Uint8Array | undefined>;
  close(): void;
}

/** Opens a WebSocket. Headers are sent by Node only. */
export async function openSocket(url: string, headers: Record<string, string> | undefined, signal?: AbortSignal): Promise<Socket> {
  if (signal?.aborted) throw new AbortedError("the caller ended it", { cause: signal.reason });
  if (isNode()) return (await import("./node-socket.js")).openNodeSocket(url, headers ?? {}, signal);
  return openWebSocket(url, signal);
}

/** Frames that came and were not asked for yet, and who waits for one. */
export class FrameQueue {
  #frames: (string | Uint8Array)[] = [];
  #waiting: { resolve: (frame: string | Uint8Array | undefined) => void; reject: (error: Error) => void } | undefined;
  #ended: { error: Error | undefined } | undefined;

  get length(): number {
    return this.#frames.length;
  }

  push(frame: string | Uint8Array): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting) waiting.resolve(frame);
    else this.#frames.push(frame);
  }

  /** Says that nothing more comes: in order, or because of an error. */
  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = { error };
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (error) waiting?.reject(error);
    else waiting?.resolve(undefined);
  }

  next(): Promise<string | Uint8Array | undefined> {
    const frame = this.#frames.shift();
    if (frame !== undefined) return Promise.resolve(frame);
    if (this.#ended) return this.#ended.error ? Promise.reject(this.#ended.error) : Promise.resolve(undefined);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }
}

/** The platform's own WebSocket. It reads ahead: its server drops slow readers. */
function openWebSocket(url: string, signal?: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    const frames = new FrameQueue();
    let opened = false;
    const onAbort = (): void => socket.close();
    signal?.addEventListener("abort", onAbort, { once: true });
    socket.onopen = () => {
      opened = true;
      resolve({
        send: async (data) => {
          if (socket.readyState !== WebSocket.OPEN) throw new StreamLostError("the connection to the server broke off");
          socket.send(data as string | Uint8Array<ArrayBuffer>);
        },
        receive: () => frames.next(),
        close: () => socket.close(),
      });
    };
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
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
      if (!opened) reject(failure ?? new ServerUnreachableError(`no answer from the server at ${url.replace(/\?.*/, "")}`));
    };
  });
}

/** The bytes of a frame. */
export function frameBytes(frame: string | Uint8Array): Uint8Array {
  return toBytes(frame);
}
