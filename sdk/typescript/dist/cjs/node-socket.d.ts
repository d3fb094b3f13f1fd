import { type Socket } from "./socket.js";
/** Opens a WebSocket with headers; a refusal is the problem that the server sent. */
export declare function openNodeSocket(url: string, headers: Record<string, string>, signal?: AbortSignal): Promise<Socket>;
