import { FaasError } from "./errors.js";
import { type RawEvent } from "./events.js";
import type { Query, RequestOptions, Transport } from "./transport.js";
/** Where a stream of events comes from, and what ends it. */
export interface StreamSource<T> {
    readonly path: string;
    readonly query?: Query;
    /** Continue after the event of this id. */
    readonly since?: string;
    /** Turns an event as it came into what is handed out; nothing for what is left out. */
    readonly read: (raw: RawEvent) => T | FaasError | undefined;
    /** Whether the event is the last. Without it the stream goes on until it is left. */
    readonly isLast?: (event: T) => boolean;
}
/** A stream of server-sent events that continues where it was when its connection is lost. */
export declare class EventStream<T> implements AsyncIterable<T>, AsyncDisposable {
    #private;
    private readonly transport;
    private readonly source;
    private readonly options;
    /** Where to continue from: `since` of another stream. */
    lastId: string;
    constructor(transport: Transport, source: StreamSource<T>, options?: RequestOptions);
    [Symbol.asyncIterator](): AsyncGenerator<T, void>;
    /** Stops reading. */
    close(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
}
