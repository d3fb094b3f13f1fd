import { toBase64, toBytes } from "./bytes.js";
import { FaasError, MalformedResponseError, StreamLostError, UnavailableError } from "./errors.js";
import { type ExecutionEvent, executionEvent, output, parseRaw } from "./events.js";
import type { Socket } from "./socket.js";
import { EventDecoder } from "./sse.js";
import type { Call, RequestOptions, Transport } from "./transport.js";
import type { ExecuteRequest, ExecuteResponse, Execution } from "./types.js";

/** Standard input that may be on its way: the server takes no more in advance. */
const STDIN_WINDOW = 1 << 20;
const STDIN_PIECE = 32 << 10;
/** Output kept while the caller sends and does not read. */
const MAX_KEPT = 64 << 20;

/** A line for `sh -c`, or arguments that are run as they are. */
export type Command = string | readonly string[];

/** Contents of files: text, or bytes. */
export type Files = { readonly [path: string]: string | Uint8Array };

/** Options of a command: the fields of the API's request, and bytes where they make sense. */
export type CommandOptions<Request> = Omit<Request, "command" | "stdin" | "files"> & {
  /** Given to the command on its standard input. */
  stdin?: string | Uint8Array;
  /** Written before the command; a relative path is below working_dir. */
  files?: Files;
};

/** Options of an execution. */
export type ExecuteOptions = CommandOptions<ExecuteRequest>;

/** Size of a terminal, in characters. */
export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

/** Where raw output goes. */
export type Sink = WritableStream<Uint8Array> | ((chunk: Uint8Array) => void | Promise<void>);

/** The body of an execution; bytes go as base64. */
export function requestBody(command: Command, options: CommandOptions<Omit<ExecuteRequest, "command">>): ExecuteRequest {
  const { stdin, files, ...rest } = options;
  const body: ExecuteRequest = { ...rest, command: typeof command === "string" ? command : [...command] };
  if (typeof stdin === "string") body.stdin = stdin;
  else if (stdin) body.stdin_base64 = toBase64(stdin);
  if (files) body.files = filesBody(files);
  return body;
}

/** Contents of files as they are sent. */
export function filesBody(files: Files): { [path: string]: string | { base64: string } } {
  const contents = Object.entries(files).map(([path, content]) => [
    path,
    typeof content === "string" ? content : { base64: toBase64(content) },
  ]);
  return Object.fromEntries(contents) as { [path: string]: string | { base64: string } };
}

/** Counts an execution and tells those who want to know. */
export function finish(transport: Transport, mode: ExecuteRequest["mode"], result: ExecuteResponse): ExecuteResponse {
  transport.metrics.executions++;
  transport.events.emit("execution", result);
  if (result.cache_hit) {
    transport.metrics.cache_hits++;
    transport.events.emit("cache-hit", result);
  } else if (mode === "cached") {
    transport.metrics.cache_misses++;
    transport.events.emit("cache-miss", result);
  }
  return result;
}

/** Runs a command, whole. */
export async function execute(transport: Transport, path: string, body: ExecuteRequest, options?: RequestOptions): Promise<ExecuteResponse> {
  const call: Call = { method: "POST", path, body, creates: true };
  return finish(transport, body.mode, await transport.json<ExecuteResponse>(call, options));
}

/**
 * An execution as events, while it runs. Leaving the loop early ends the
 * command. `result` is there after the last event.
 */
export class ExecutionStream implements AsyncIterable<ExecutionEvent>, AsyncDisposable {
  id = "";
  result: ExecuteResponse | undefined;
  #events: AsyncGenerator<ExecutionEvent, void>;

  constructor(
    private readonly transport: Transport,
    path: string,
    private readonly body: ExecuteRequest,
    options: RequestOptions = {},
  ) {
    this.#events = this.#read({ method: "POST", path, body, accept: "text/event-stream" }, options);
  }

  async *#read(call: Call, options: RequestOptions): AsyncGenerator<ExecutionEvent, void> {
    const response = await this.transport.stream(call, options);
    this.id = response.headers.get("Faas-Execution-Id") ?? "";
    const decoder = new EventDecoder();
    for await (const piece of this.transport.pieces(response, call, options.signal)) {
      for (const sent of decoder.feed(piece)) {
        const event = executionEvent(parseRaw(sent.data));
        if (event instanceof FaasError) throw event;
        if (!event) continue;
        if (event.type === "started") this.id = event.id;
        if (event.type === "result") this.result = finish(this.transport, this.body.mode, event.result);
        yield event;
      }
    }
    if (!this.result) throw new StreamLostError("the stream ended without a result");
  }

  [Symbol.asyncIterator](): AsyncGenerator<ExecutionEvent, void> {
    return this.#events;
  }

  /** Reads to the end and returns the result (without the output). */
  async wait(): Promise<ExecuteResponse> {
    while (!(await this.#events.next()).done);
    if (!this.result) throw new StreamLostError("the stream was closed before its result");
    return this.result;
  }

  /** Stops reading; a command that still runs is ended. */
  async close(): Promise<void> {
    await this.#events.return();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Copies raw output, then asks how it ended: trailers are out of fetch's reach. */
export async function executeTo(
  transport: Transport,
  path: string,
  body: ExecuteRequest,
  to: Sink,
  options: RequestOptions = {},
): Promise<ExecuteResponse> {
  const call: Call = { method: "POST", path, body, accept: "application/octet-stream" };
  const response = await transport.stream(call, options);
  const writer = typeof to === "function" ? undefined : to.getWriter();
  try {
    for await (const piece of transport.pieces(response, call, options.signal)) {
      await (writer ? writer.write(piece) : (to as (chunk: Uint8Array) => void | Promise<void>)(piece));
    }
  } finally {
    writer?.releaseLock();
  }
  const id = response.headers.get("Faas-Execution-Id");
  if (!id) throw new MalformedResponseError("the server's answer does not name the execution");
  const execution = await transport.json<Execution>({ method: "GET", path: `/api/v1/executions/${id}` }, options);
  const { result, error } = execution;
  if (!result) throw new UnavailableError(error || `the execution ${id} is ${execution.status}`);
  const whole = { ...result, stdout: "", stderr: "", output: "", logs: "", error: error || null };
  return finish(transport, body.mode, whole as ExecuteResponse);
}

/**
 * A command with live input and output, over a WebSocket. It is an iterable of
 * events; closing it ends a command that still runs.
 */
export class RunningCommand implements AsyncIterable<ExecutionEvent>, AsyncDisposable {
  id = "";
  result: ExecuteResponse | undefined;
  #kept: ExecutionEvent[] = [];
  #keptBytes = 0;
  #sent = 0;
  #taken = 0;
  #refused: FaasError | undefined;
  #done = false;

  private constructor(
    private readonly transport: Transport,
    private readonly socket: Socket,
    private readonly mode: ExecuteRequest["mode"],
  ) {}

  /** Opens the connection and starts the command. */
  static async start(
    transport: Transport,
    path: string,
    body: ExecuteRequest,
    terminal: TerminalSize | undefined,
    options: RequestOptions = {},
  ): Promise<RunningCommand> {
    const process = new RunningCommand(transport, await transport.socket(path, { binary: 1 }, options), body.mode);
    const tty = terminal ? { tty: true, cols: terminal.cols, rows: terminal.rows } : {};
    await process.#send({ ...body, type: "exec", ...tty });
    return process;
  }

  #send(frame: object): Promise<void> {
    return this.#done ? Promise.resolve() : this.socket.send(JSON.stringify(frame));
  }

  /** Sends standard input. Waits while the command does not read. */
  async sendStdin(data: string | Uint8Array): Promise<void> {
    const content = toBytes(data);
    for (let start = 0; start < content.length; start += STDIN_PIECE) {
      const piece = content.subarray(start, start + STDIN_PIECE);
      while (this.#sent + piece.length - this.#taken > STDIN_WINDOW && !this.#done) await this.#keepNext();
      if (this.#done) return; // it does not read any more
      await this.socket.send(piece);
      this.#sent += piece.length;
    }
  }

  async #keepNext(): Promise<void> {
    const event = await this.#next();
    if (!event) return;
    this.#kept.push(event);
    this.#keptBytes += "data" in event ? event.data.length : 0;
    if (this.#keptBytes > MAX_KEPT) {
      throw new StreamLostError(`more than ${MAX_KEPT} bytes of output are unread: read events while sending input`);
    }
  }

  /** Says that no more input comes. */
  closeStdin(): Promise<void> {
    return this.#send({ type: "close_stdin" });
  }

  /** Changes the size of the terminal. */
  resize(cols: number, rows: number): Promise<void> {
    return this.#send({ type: "resize", cols, rows });
  }

  /** Sends a signal, by name ("SIGINT") or by Linux's number. */
  signal(name: string | number): Promise<void> {
    return this.#send({ type: "signal", signal: String(name) });
  }

  /** The next event, or nothing for a frame that is none; done after the last. */
  async #next(): Promise<ExecutionEvent | undefined> {
    if (this.#done) return undefined;
    let frame: string | Uint8Array | undefined;
    try {
      frame = await this.socket.receive();
    } catch (error) {
      this.#done = true;
      throw this.#refused ?? error;
    }
    if (frame === undefined) {
      this.#done = true;
      throw this.#refused ?? new StreamLostError("the server closed the connection before the command's end");
    }
    if (typeof frame !== "string") return output("stdout", 0, frame);
    const raw = parseRaw(frame);
    if (raw.type === "stdin_ack") this.#taken = Math.max(this.#taken, Number(raw["bytes"] ?? 0));
    const event = executionEvent(raw);
    if (event instanceof FaasError) {
      this.#refused = event; // the last word, or about one frame of ours
      return undefined;
    }
    if (event?.type === "started") this.id = event.id;
    if (event?.type === "result") {
      this.#done = true;
      this.result = finish(this.transport, this.mode, event.result);
      this.socket.close();
    }
    return event;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ExecutionEvent, void> {
    for (;;) {
      const kept = this.#kept.shift();
      if (kept) {
        this.#keptBytes -= "data" in kept ? kept.data.length : 0;
        yield kept;
        continue;
      }
      if (this.#done) return;
      const event = await this.#next();
      if (event) yield event;
    }
  }

  /** Reads to the end and returns the result (without the output). */
  async wait(): Promise<ExecuteResponse> {
    for await (const _ of this);
    if (!this.result) throw this.#refused ?? new StreamLostError("the process was closed before its result");
    return this.result;
  }

  /** Closes the connection; a command that still runs is ended. */
  async close(): Promise<void> {
    this.#done = true;
    this.socket.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Streams that a running command is joined to. */
export interface RunOptions {
  /** Given to the command on its standard input. */
  input?: string | Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  onStdout?: (data: Uint8Array) => void;
  onStderr?: (data: Uint8Array) => void;
  /** Run in a terminal of this size. */
  terminal?: TerminalSize;
}

/** Joins a process to its caller's streams until it ends. */
export async function run(process: RunningCommand, options: RunOptions): Promise<ExecuteResponse> {
  try {
    const { input } = options;
    if (typeof input === "string" || input instanceof Uint8Array) await process.sendStdin(input);
    else if (input) for await (const piece of input) await process.sendStdin(piece);
    await process.closeStdin();
    for await (const event of process) {
      if (event.type === "stdout") options.onStdout?.(event.data);
      else if (event.type === "stderr") options.onStderr?.(event.data);
    }
    return await process.wait();
  } finally {
    await process.close();
  }
}
