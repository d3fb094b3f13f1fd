"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.SSHKeys = exports.Images = void 0;
const transport_js_1 = require("./transport.js");
const IMAGES = "/api/v1/images";
const SSH_KEYS = "/api/v1/ssh-keys";
/** Images: `client.images`. */
class Images {
    transport;
    constructor(transport) {
        this.transport = transport;
    }
    /** Every image of the project. */
    async list(options) {
        return (await this.transport.json({ method: "GET", path: IMAGES }, options)).images;
    }
    /** Pulls an image from its registry; resolves when it is there. */
    pull(image, options = {}, request) {
        return this.transport.json({ method: "POST", path: `${IMAGES}/pull`, body: { ...options, image }, creates: true }, request);
    }
    /** Removes an image. */
    async delete(image, options) {
        await this.transport.content({ method: "DELETE", path: IMAGES, query: { image } }, options);
    }
}
exports.Images = Images;
/** SSH keys: `client.sshKeys`. */
class SSHKeys {
    transport;
    constructor(transport) {
        this.transport = transport;
    }
    /** Generates a key, or imports `public_key`; a generated one's `private_key` shows only here. */
    create(options = {}, request) {
        return this.transport.json({ method: "POST", path: SSH_KEYS, body: options, creates: true }, request);
    }
    /** One key. */
    get(keyId, options) {
        return this.transport.json({ method: "GET", path: (0, transport_js_1.pathOf)(SSH_KEYS, keyId) }, options);
    }
    /** Every key, newest first. */
    list(filter = {}, options) {
        return this.transport.pages(SSH_KEYS, filter, "ssh_keys", options);
    }
    /** Revokes a key. */
    async delete(keyId, options) {
        await this.transport.content({ method: "DELETE", path: (0, transport_js_1.pathOf)(SSH_KEYS, keyId) }, options);
    }
    /** A new key in the place of another, which goes on for a while (`overlap_ms`). */
    rotate(keyId, options = {}, request) {
        return this.transport.json({ method: "POST", path: (0, transport_js_1.pathOf)(SSH_KEYS, keyId, "/rotate"), body: options, creates: true }, request);
    }
}
exports.SSHKeys = SSHKeys;
