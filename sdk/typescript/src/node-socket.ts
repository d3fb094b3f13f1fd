// A WebSocket client for Node: its own cannot send headers, Node 20 has none,
// and neither lets a slow reader hold back the sender.
import type { IncomingMessage } from "node:http";
import type { Socket as NetSocket } from "node:net";

import { toBytes, toText } from "./bytes.js";
import { AbortedError, fromProblem, MalformedResponseError, ServerUnreachableError, StreamLostError } from "./errors.js";
import { loadNode } from "./platform.js";
import { parseRetryAfter } from "./retry.js";
import { FrameQueue, type Socket } from "./socket.js";

const MAX_FRAME = 512 << 20;
const MAX_PROBLEM = 1 << 20;
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CONNECT_TIMEOUT_MS = 10_000;

/** Operation codes of RFC 6455. */
const op = { more: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** Opens a WebSocket with headers; a refusal is the problem that the server sent. */
export async function openNodeSocket(url: string, headers: Record<string, string>, signal?: AbortSignal): Promise<Socket> {
  const secure = url.startsWith("wss:");
  const http = await loadNode<typeof import("node:http")>(secure ? "node:https" : "node:http");
  const { createHash } = await loadNode<typeof import("node:crypto")>("node:crypto");
  const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16))));
  const accept = createHash("sha1").update(key + GUID).digest("base64");
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown): void => {
      reject(
        signal?.aborted
          ? new AbortedError("the caller ended it", { cause: signal.reason })
          : new ServerUnreachableError(`no answer from the server at ${url}: ${String((cause as Error).message)}`, { cause }),
      );
    };
    const request = http.request(url.replace(/^ws/, "http"), {
      headers: {
        ...headers,
        Connection: "Upgrade",
        Upgrade: "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
      },
      agent: false,
      timeout: CONNECT_TIMEOUT_MS,
      ...(signal ? { signal } : {}),
    });
    request.on("timeout", () => request.destroy(new Error("timed out")));
    request.on("error", fail);
    request.on("response", (response) => void refusal(response).then(reject, fail));
    request.on("upgrade", (response, socket, head) => {
      if (response.headers["sec-websocket-accept"] !== accept) {
        socket.destroy();
        reject(new MalformedResponseError("the server answered a WebSocket with another's key"));
        return;
      }
      socket.setTimeout(0);
      socket.setNoDelay(true);
      resolve(new NodeSocket(socket, head, signal));
    });
    request.end();
  });
}

async function refusal(response: IncomingMessage): Promise<Error> {
  let text = "";
  for await (const piece of response) {
    text += String(piece);
    if (text.length > MAX_PROBLEM) break;
  }
  const retryAfter = parseRetryAfter(response.headers["retry-after"]);
  try {
    return fromProblem(JSON.parse(text), response.statusCode, retryAfter);
  } catch {
    return fromProblem(undefined, response.statusCode, retryAfter);
  }
}

interface Frame {
  readonly code: number;
  readonly final: boolean;
  readonly payload: Uint8Array;
}

class NodeSocket implements Socket {
  #frames = new FrameQueue();
  #pieces: Uint8Array[] = [];
  #size = 0;
  #message: { code: number; parts: Uint8Array[]; size: number } | undefined;
  #closing = false;

  constructor(
    private readonly net: NetSocket,
    head: Uint8Array,
    signal?: AbortSignal,
  ) {
    const onAbort = (): void => {
      this.#frames.end(new AbortedError("the caller ended it", { cause: signal?.reason }));
      net.destroy();
    };
    if (signal?.aborted) onAbort();
    signal?.addEventListener("abort", onAbort, { once: true });
    net.on("data", (piece: Uint8Array) => this.#take(piece));
    net.on("error", (cause) => this.#frames.end(new StreamLostError("the connection to the server broke off", { cause })));
    net.on("close", () => {
      signal?.removeEventListener("abort", onAbort);
      this.#frames.end(this.#closing ? undefined : new StreamLostError("the connection to the server broke off"));
    });
    if (head.length > 0) this.#take(head);
  }

  async send(data: string | Uint8Array): Promise<void> {
    await this.#write(typeof data === "string" ? op.text : op.binary, toBytes(data));
  }

  async receive(): Promise<string | Uint8Array | undefined> {
    if (this.#frames.length <= 1) this.net.resume();
    return this.#frames.next();
  }

  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#frames.end();
    void this.#write(op.close, new Uint8Array([3, 232])).catch(() => undefined); // 1000
    this.net.end();
    this.net.resume();
  }

  #write(code: number, payload: Uint8Array): Promise<void> {
    if (this.net.destroyed || !this.net.writable) {
      return Promise.reject(new StreamLostError("the connection to the server broke off"));
    }
    const frame = masked(code, payload);
    return new Promise((resolve, reject) => {
      this.net.write(frame, (cause) => {
        if (cause) reject(new StreamLostError("the connection to the server broke off", { cause }));
        else resolve();
      });
    });
  }

  #take(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.#size += piece.length;
    try {
      for (let frame = this.#next(); frame; frame = this.#next()) this.#frame(frame);
    } catch (error) {
      this.#frames.end(error as Error);
      this.net.destroy();
      return;
    }
    // Who does not ask for frames holds back the sender.
    if (this.#frames.length > 16) this.net.pause();
  }

  #frame({ code, final, payload }: Frame): void {
    switch (code) {
      case op.ping:
        void this.#write(op.pong, payload).catch(() => undefined);
        return;
      case op.pong:
        return;
      case op.close:
        this.#closed(payload);
        return;
    }
    const message = code === op.more ? this.#message : { code, parts: [], size: 0 };
    if (!message) throw new MalformedResponseError("the server continued a message that it had not begun");
    message.parts.push(payload);
    message.size += payload.length;
    if (message.size > MAX_FRAME) throw new MalformedResponseError(`the server sent a message of more than ${MAX_FRAME} bytes`);
    this.#message = final ? undefined : message;
    if (!final) return;
    const whole = message.parts.length === 1 ? payload : joined(message.parts, message.size);
    this.#frames.push(message.code === op.text ? toText(whole) : whole);
  }

  #closed(payload: Uint8Array): void {
    const code = payload.length >= 2 ? ((payload[0] ?? 0) << 8) | (payload[1] ?? 0) : 1005;
    const reason = toText(payload.subarray(2));
    if (!this.#closing) void this.#write(op.close, payload.subarray(0, 2)).catch(() => undefined);
    this.#closing = true;
    const failed = code !== 1000 && code !== 1005;
    this.#frames.end(failed ? new StreamLostError(`the server closed the connection: ${reason || code}`) : undefined);
    this.net.end();
  }

  /** The next whole frame of what has come. */
  #next(): Frame | undefined {
    if (this.#size < 2) return undefined;
    if ((this.#pieces[0]?.length ?? 0) < Math.min(this.#size, 10)) this.#pieces = [joined(this.#pieces, this.#size)];
    const head = this.#pieces[0] as Uint8Array;
    const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
    const short = view.getUint8(1) & 0x7f;
    const start = short === 127 ? 10 : short === 126 ? 4 : 2;
    if (view.getUint8(1) & 0x80) throw new MalformedResponseError("the server sent a masked frame");
    if (head.length < start) return undefined;
    const length = short === 127 ? Number(view.getBigUint64(2)) : short === 126 ? view.getUint16(2) : short;
    if (length > MAX_FRAME) throw new MalformedResponseError(`the server sent a frame of ${length} bytes`);
    if (this.#size < start + length) return undefined;
    const all = this.#pieces.length === 1 ? head : joined(this.#pieces, this.#size);
    const rest = all.subarray(start + length);
    this.#pieces = rest.length > 0 ? [rest] : [];
    this.#size = rest.length;
    return { code: view.getUint8(0) & 0x0f, final: (view.getUint8(0) & 0x80) !== 0, payload: all.subarray(start, start + length) };
  }
}

function joined(parts: readonly Uint8Array[], size: number): Uint8Array {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A frame as clients must send it: masked by random bytes. */
function masked(code: number, payload: Uint8Array): Uint8Array {
  const extra = payload.length > 0xffff ? 8 : payload.length > 125 ? 2 : 0;
  const frame = new Uint8Array(2 + extra + 4 + payload.length);
  const view = new DataView(frame.buffer);
  frame[0] = 0x80 | code;
  frame[1] = 0x80 | (extra === 8 ? 127 : extra === 2 ? 126 : payload.length);
  if (extra === 8) view.setBigUint64(2, BigInt(payload.length));
  if (extra === 2) view.setUint16(2, payload.length);
  const mask = crypto.getRandomValues(frame.subarray(2 + extra, 6 + extra));
  for (let i = 0; i < payload.length; i++) frame[6 + extra + i] = (payload[i] as number) ^ (mask[i & 3] as number);
  return frame;
}
