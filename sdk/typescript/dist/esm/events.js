import { fromBase64, toBytes, toText } from "./bytes.js";
import { FaasError, fromProblem, MalformedResponseError } from "./errors.js";
/** Reads one frame or the data of one server-sent event. */
export function parseRaw(text, name) {
    let value;
    try {
        value = JSON.parse(text);
    }
    catch (cause) {
        throw new MalformedResponseError(`the server sent an event that is not JSON: ${JSON.stringify(text.slice(0, 80))}`, { cause });
    }
    if (typeof value !== "object" || value === null || Array.isArray(value) || typeof (value["type"] ?? name) !== "string") {
        throw new MalformedResponseError(`the server sent an event without a type: ${JSON.stringify(text.slice(0, 80))}`);
    }
    return { type: name, ...value };
}
/** The event of an execution in a frame; undefined for frames that are none, the error for one that says so. */
export function executionEvent(raw) {
    const seq = raw.seq ?? 0;
    switch (raw.type) {
        case "started":
            return { type: raw.type, seq, id: String(raw["id"] ?? "") };
        case "stdout":
        case "stderr":
            return output(raw.type, seq, outputBytes(raw));
        case "exit":
            return { type: raw.type, seq, code: Number(raw["code"] ?? 0), signal: String(raw["signal"] ?? "") };
        case "result":
            if (typeof raw["result"] !== "object" || raw["result"] === null) {
                throw new MalformedResponseError("the server sent a result without its content");
            }
            return { type: raw.type, seq, result: raw["result"] };
        case "error":
            return fromProblem(raw["error"]);
    }
    return undefined;
}
/** An output event. */
export function output(type, seq, data) {
    return {
        type,
        seq,
        data,
        get text() {
            return toText(data);
        },
    };
}
function outputBytes(raw) {
    const encoded = raw["data_base64"];
    if (typeof encoded === "string") {
        try {
            return fromBase64(encoded);
        }
        catch (cause) {
            throw new MalformedResponseError("the server sent output that is not base64", { cause });
        }
    }
    return toBytes(typeof raw["data"] === "string" ? raw["data"] : "");
}
