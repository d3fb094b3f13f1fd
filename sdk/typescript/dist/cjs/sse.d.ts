/** One server-sent event; `id` is the last id seen so far. */
export interface ServerSentEvent {
    readonly event: string;
    readonly data: string;
    readonly id: string;
}
/** Turns pieces of a stream into events. */
export declare class EventDecoder {
    #private;
    lastId: string;
    constructor(lastId?: string);
    /** Takes a piece, and returns the events that it completes. */
    feed(piece: Uint8Array): ServerSentEvent[];
}
