import { toText } from "./bytes.js";
import { findKey, findUrl } from "./config.js";
import { Emitter } from "./emitter.js";
import {
  AbortedError,
  type FaasError,
  FaasError as Root,
  fromProblem,
  MalformedResponseError,
  NotFoundError,
  RequestTimeoutError,
  ServerUnreachableError,
  StreamLostError,
} from "./errors.js";
import { isNode } from "./platform.js";
import { parseRetryAfter, retryDelay, sleep } from "./retry.js";
import { openSocket, type Socket } from "./socket.js";
import { type ClientMetrics, zeroMetrics } from "./stats.js";
import type { Json } from "./types.js";
import { VERSION } from "./version.js";

/** Bounds what is read of an answer that is kept whole. */
const MAX_ANSWER = 512 << 20;

/** What bounds and identifies one call. */
export interface RequestOptions {
  /** Ends the call, and what it started on the server where that runs only for it. */
  signal?: AbortSignal;
  /** How long the whole answer may take, streams excepted. Default: the client's. */
  timeoutMs?: number;
  /** How often it is sent again where that is safe. Default: the client's. */
  maxRetries?: number;
  /** A request that creates something and is made twice with one key is done once. */
  idempotencyKey?: string;
}

/** Values of a query; undefined ones are left out. */
export type Query = { readonly [name: string]: string | number | boolean | undefined };

/** One request, as often as it is sent. */
export interface Call {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly query?: Query | undefined;
  readonly body?: object | undefined;
  readonly content?: Uint8Array | ReadableStream<Uint8Array> | undefined;
  readonly contentType?: string;
  readonly accept?: string;
  /** Asks for an Idempotency-Key, which makes repeating it safe. */
  readonly creates?: boolean;
  readonly headers?: { readonly [name: string]: string } | undefined;
}

/** What a client is made with. */
export interface ClientOptions {
  /** Address of the server; FAAS_API_URL, then http://127.0.0.1:8080. */
  url?: string;
  /** API key; FAAS_API_KEY, then the key file. */
  apiKey?: string;
  /** FAAS_API_KEY_FILE, then the usual place. */
  keyFile?: string;
  /** How long an answer may take, streams excepted. Default: as long as it takes. */
  timeoutMs?: number;
  /** How often a request is sent again where that is safe. Default: 3. */
  maxRetries?: number;
  /** Default: the platform's own. */
  fetch?: typeof fetch;
}

/** Sends requests to one server. */
export class Transport {
  readonly url: string;
  readonly events: Emitter = new Emitter();
  metrics: ClientMetrics = zeroMetrics();
  #options: ClientOptions;
  #key: Promise<string> | undefined;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.url = findUrl(options.url);
  }

  /** Sends, and reads the answer as JSON. */
  async json<T extends object>(call: Call, options: RequestOptions = {}): Promise<T> {
    const text = toText(await this.content(call, options));
    let value: Json;
    try {
      value = JSON.parse(text) as Json;
    } catch (cause) {
      throw new MalformedResponseError(
        `${call.method} ${call.path}: the server's answer is not JSON: ${JSON.stringify(text.slice(0, 80))}`,
        { cause },
      );
    }
    if (typeof value !== "object" || value === null) {
      throw new MalformedResponseError(`${call.method} ${call.path}: the server's answer is no object`);
    }
    return value as T;
  }

  /** Entries of a list, page by page; `of` is the field that holds them. */
  async *pages<T extends object>(path: string, query: Query, of: string, options?: RequestOptions): AsyncGenerator<T, void> {
    let cursor: string | undefined;
    do {
      const page: object = await this.json<object>({ method: "GET", path, query: { ...query, cursor } }, options);
      const entries = (page as { [field: string]: T[] | undefined })[of];
      yield* entries ?? [];
      cursor = (page as { next_cursor?: string }).next_cursor || undefined;
    } while (cursor);
  }

  /** Sends, and returns the answer's body. */
  content(call: Call, options: RequestOptions = {}): Promise<Uint8Array> {
    return this.#counted(() => this.#sendUntilDone(call, options, readWhole));
  }

  /** Sends, and returns the answer with its body still to come. */
  stream(call: Call, options: RequestOptions = {}): Promise<Response> {
    const untimed = { ...options, timeoutMs: 0 };
    return this.#counted(() => this.#sendUntilDone(call, untimed, async (response) => response));
  }

  /** Opens a WebSocket. */
  async socket(path: string, query: Query, options: RequestOptions = {}): Promise<Socket> {
    return this.#counted(() =>
      this.#tryUntilDone({ method: "GET", path }, options, true, async () => {
        const url = this.url.replace(/^http/, "ws") + path;
        if (isNode()) return openSocket(url + queryString(query), await this.#auth(), options.signal);
        const ticket = (await this.#key_()) ? await this.#ticket(path, options) : undefined;
        return openSocket(url + queryString({ ...query, ticket }), undefined, options.signal);
      }),
    );
  }

  // Browsers cannot send the key with a WebSocket: a ticket stands for it once.
  async #ticket(path: string, options: RequestOptions): Promise<string> {
    const call: Call = { method: "POST", path: "/api/v1/tickets", body: { path } };
    return (await this.json<{ ticket: string }>(call, options)).ticket;
  }

  async #counted<T>(run: () => Promise<T>): Promise<T> {
    this.metrics.requests++;
    const started = performance.now();
    try {
      return await run();
    } catch (error) {
      if (error instanceof Root) {
        this.metrics.errors++;
        this.events.emit("error", error);
      }
      throw error;
    } finally {
      this.metrics.total_ms += performance.now() - started;
    }
  }

  async #sendUntilDone<T>(call: Call, options: RequestOptions, read: (r: Response) => Promise<T>): Promise<T> {
    const headers = await this.#headers(call, options);
    const repeatable = call.content === undefined || call.content instanceof Uint8Array;
    const safe = repeatable && (["GET", "PUT", "DELETE"].includes(call.method) || headers["Idempotency-Key"] !== undefined);
    const given = repeatable ? options : { ...options, maxRetries: 0 };
    return this.#tryUntilDone(call, given, safe, (lost) => this.#sendOnce(call, headers, options, read, lost));
  }

  async #tryUntilDone<T>(call: Call, options: RequestOptions, safe: boolean, send: (lost: boolean) => Promise<T>): Promise<T> {
    const maxRetries = options.maxRetries ?? this.#options.maxRetries ?? 3;
    let lost = false;
    for (let attempt = 0; ; attempt++) {
      try {
        return await send(lost);
      } catch (caught) {
        if (!(caught instanceof Root)) throw caught;
        const error: FaasError = caught;
        const reached = !neverReached(error);
        lost ||= reached;
        const delayMs = retryDelay({ attempt, maxRetries, error, safe, reached });
        if (delayMs === undefined) throw error;
        await this.retrying({ method: call.method, path: call.path, attempt: attempt + 1, delayMs, error }, options.signal);
      }
    }
  }

  /** Says that something is tried again, and waits until then. */
  async retrying(
    retry: { method: string; path: string; attempt: number; delayMs: number; error: FaasError },
    signal?: AbortSignal,
  ): Promise<void> {
    this.metrics.retries++;
    this.events.emit("retry", retry);
    try {
      await sleep(retry.delayMs, signal);
    } catch (cause) {
      throw new AbortedError("the caller ended it", { cause });
    }
  }

  async #sendOnce<T>(
    call: Call,
    headers: Record<string, string>,
    options: RequestOptions,
    read: (r: Response) => Promise<T>,
    lost: boolean,
  ): Promise<T> {
    const limit = options.timeoutMs ?? this.#options.timeoutMs ?? 0;
    const clock = limit > 0 ? AbortSignal.timeout(limit) : undefined;
    const signals = [options.signal, clock].filter((each) => each !== undefined);
    try {
      const response = await (this.#options.fetch ?? fetch)(this.url + call.path + queryString(call.query ?? {}), {
        method: call.method,
        headers,
        body: body(call) ?? null,
        signal: signals.length > 0 ? AbortSignal.any(signals) : null,
        redirect: "error",
        ...(call.content instanceof ReadableStream ? { duplex: "half" } : {}),
      });
      if (response.ok) return await read(response);
      const error = await problem(response);
      if (error instanceof NotFoundError && call.method === "DELETE" && lost) {
        return await read(new Response("{}")); // the trial that got no answer did it
      }
      throw error;
    } catch (error) {
      throw this.failure(error, call, options.signal, clock ? limit : undefined);
    }
  }

  /** What a failed fetch, or a broken stream, was. */
  failure(error: unknown, call: { method: string; path: string }, signal?: AbortSignal, limit?: number): FaasError {
    if (error instanceof Root) return error;
    if (signal?.aborted) return new AbortedError("the caller ended it", { cause: signal.reason });
    if ((error as Error | undefined)?.name === "TimeoutError") {
      return new RequestTimeoutError(`${call.method} ${call.path}: no answer within ${limit} ms`, { cause: error });
    }
    const cause = (error as { cause?: { message?: string } } | undefined)?.cause;
    return new ServerUnreachableError(`no answer from the server at ${this.url}: ${cause?.message ?? String(error)}`, {
      remedy: "start it with `faas serve`, or name another with FAAS_API_URL",
      cause: error,
    });
  }

  /** Pieces of a stream; a broken one is a StreamLostError. */
  async *pieces(response: Response, call: { method: string; path: string }, signal?: AbortSignal): AsyncGenerator<Uint8Array, void> {
    const reader = response.body?.getReader();
    if (!reader) return;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        yield value;
      }
    } catch (error) {
      const failure = this.failure(error, call, signal);
      if (!(failure instanceof ServerUnreachableError)) throw failure;
      throw new StreamLostError("the stream from the server broke off", { cause: error });
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  #key_(): Promise<string> {
    this.#key ??= findKey(this.#options.apiKey, this.#options.keyFile);
    return this.#key;
  }

  async #auth(): Promise<Record<string, string>> {
    const headers: Record<string, string> = isNode() ? { "User-Agent": `faas-typescript/${VERSION}` } : {};
    const key = await this.#key_();
    if (key) headers["Authorization"] = `Bearer ${key}`;
    return headers;
  }

  async #headers(call: Call, options: RequestOptions): Promise<Record<string, string>> {
    const headers = await this.#auth();
    headers["Accept"] = call.accept ?? "application/json";
    if (call.body !== undefined) headers["Content-Type"] = "application/json";
    else if (call.content !== undefined) headers["Content-Type"] = call.contentType ?? "application/octet-stream";
    if (call.creates) headers["Idempotency-Key"] = options.idempotencyKey ?? crypto.randomUUID();
    return { ...headers, ...call.headers };
  }
}

/** The path of one thing; ids are opaque and may hold anything. */
export function pathOf(collection: string, id: string, rest = ""): string {
  if (!id) throw new NotFoundError(`${collection} has nothing without an id`);
  return `${collection}/${encodeURIComponent(id)}${rest}`;
}

// Refused connections are told by their code, which fetch keeps in the cause.
const neverReachedCodes = ["ECONNREFUSED", "ENOTFOUND", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT", "ConnectionRefused"];

function neverReached(error: FaasError): boolean {
  if (!(error instanceof ServerUnreachableError)) return false;
  for (let cause: unknown = error.cause; cause !== undefined && cause !== null; cause = (cause as { cause?: unknown }).cause) {
    if (neverReachedCodes.includes(String((cause as { code?: unknown }).code))) return true;
  }
  return false;
}

async function readWhole(response: Response): Promise<Uint8Array> {
  const content = new Uint8Array(await response.arrayBuffer());
  if (content.length > MAX_ANSWER) throw new MalformedResponseError(`the server's answer is larger than ${MAX_ANSWER} bytes`);
  return content;
}

async function problem(response: Response): Promise<FaasError> {
  const retryAfter = parseRetryAfter(response.headers.get("Retry-After"));
  const text = await response.text();
  try {
    return fromProblem(JSON.parse(text), response.status, retryAfter);
  } catch {
    return fromProblem(undefined, response.status, retryAfter);
  }
}

function body(call: Call): BodyInit | undefined {
  if (call.body !== undefined) return JSON.stringify(call.body);
  return call.content as BodyInit | undefined;
}

function queryString(query: Query): string {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) pairs.set(name, String(value));
  }
  const text = pairs.toString();
  return text && `?${text}`;
}
