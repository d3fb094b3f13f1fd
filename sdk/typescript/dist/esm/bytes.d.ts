/** Bytes as text; what is not UTF-8 is replaced. */
export declare function toText(bytes: Uint8Array): string;
/** Text as UTF-8; bytes as they are. */
export declare function toBytes(data: string | Uint8Array): Uint8Array;
/** Bytes as base64. */
export declare function toBase64(bytes: Uint8Array): string;
/** Base64 as bytes. */
export declare function fromBase64(text: string): Uint8Array;
