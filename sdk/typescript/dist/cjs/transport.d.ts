import { Emitter } from "./emitter.js";
import { type FaasError } from "./errors.js";
import { type Socket } from "./socket.js";
import { type ClientMetrics } from "./stats.js";
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
export type Query = {
    readonly [name: string]: string | number | boolean | undefined;
};
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
    readonly headers?: {
        readonly [name: string]: string;
    } | undefined;
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
export declare class Transport {
    #private;
    readonly url: string;
    readonly events: Emitter;
    metrics: ClientMetrics;
    constructor(options: ClientOptions);
    /** Sends, and reads the answer as JSON. */
    json<T extends object>(call: Call, options?: RequestOptions): Promise<T>;
    /** Entries of a list, page by page; `of` is the field that holds them. */
    pages<T extends object>(path: string, query: Query, of: string, options?: RequestOptions): AsyncGenerator<T, void>;
    /** Sends, and returns the answer's body. */
    content(call: Call, options?: RequestOptions): Promise<Uint8Array>;
    /** Sends, and returns the answer with its body still to come. */
    stream(call: Call, options?: RequestOptions): Promise<Response>;
    /** Opens a WebSocket. */
    socket(path: string, query: Query, options?: RequestOptions): Promise<Socket>;
    /** Says that something is tried again, and waits until then. */
    retrying(retry: {
        method: string;
        path: string;
        attempt: number;
        delayMs: number;
        error: FaasError;
    }, signal?: AbortSignal): Promise<void>;
    /** What a failed fetch, or a broken stream, was. */
    failure(error: unknown, call: {
        method: string;
        path: string;
    }, signal?: AbortSignal, limit?: number): FaasError;
    /** Pieces of a stream; a broken one is a StreamLostError. */
    pieces(response: Response, call: {
        method: string;
        path: string;
    }, signal?: AbortSignal): AsyncGenerator<Uint8Array, void>;
}
/** The path of one thing; ids are opaque and may hold anything. */
export declare function pathOf(collection: string, id: string, rest?: string): string;
