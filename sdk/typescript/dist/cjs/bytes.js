"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.toText = toText;
exports.toBytes = toBytes;
exports.toBase64 = toBase64;
exports.fromBase64 = fromBase64;
const decoder = new TextDecoder();
const encoder = new TextEncoder();
/** Bytes as text; what is not UTF-8 is replaced. */
function toText(bytes) {
    return decoder.decode(bytes);
}
/** Text as UTF-8; bytes as they are. */
function toBytes(data) {
    return typeof data === "string" ? encoder.encode(data) : data;
}
/** Bytes as base64. */
function toBase64(bytes) {
    let binary = "";
    for (let i = 0; i < bytes.length; i += 0x8000) {
        binary += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
    }
    return btoa(binary);
}
/** Base64 as bytes. */
function fromBase64(text) {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}
