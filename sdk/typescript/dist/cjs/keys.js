"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.Keys = void 0;
const transport_js_1 = require("./transport.js");
const KEYS = "/api/v1/api-keys";
/** API keys: `client.keys`; takes an admin's key. */
class Keys {
    transport;
    constructor(transport) {
        this.transport = transport;
    }
    /** Makes a key; `key` of the answer is the only time that it shows. */
    create(name, options = {}, request) {
        return this.transport.json({ method: "POST", path: KEYS, body: { ...options, name }, creates: true }, request);
    }
    /** One key. */
    get(keyId, options) {
        return this.transport.json({ method: "GET", path: (0, transport_js_1.pathOf)(KEYS, keyId) }, options);
    }
    /** Every key, oldest first. */
    list(filter = {}, options) {
        return this.transport.pages(KEYS, filter, "api_keys", options);
    }
    /** Revokes a key. */
    async delete(keyId, options) {
        await this.transport.content({ method: "DELETE", path: (0, transport_js_1.pathOf)(KEYS, keyId) }, options);
    }
}
exports.Keys = Keys;
