/** One WebSocket: frames in order, read when asked for. */
export interface Socket {
    /** Sends a text frame for a string, a binary one for bytes. */
    send(data: string | Uint8Array): Promise<void>;
    /** The next frame; undefined when the server closed in order. */
    receive(): Promise<string | Uint8Array | undefined>;
    close(): void;
}
/** Opens a WebSocket. Headers are sent by Node only. */
export declare function openSocket(url: string, headers: Record<string, string> | undefined, signal?: AbortSignal): Promise<Socket>;
/** Frames that came and were not asked for yet, and who waits for one. */
export declare class FrameQueue {
    #private;
    get length(): number;
    push(frame: string | Uint8Array): void;
    /** Says that nothing more comes: in order, or because of an error. */
    end(error?: Error): void;
    next(): Promise<string | Uint8Array | undefined>;
}
/** The bytes of a frame. */
export declare function frameBytes(frame: string | Uint8Array): Uint8Array;
