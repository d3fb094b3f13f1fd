import { type RequestOptions, type Transport } from "./transport.js";
import type { Image, PullImageRequest, SSHKey, SSHKeyCreated, SSHKeyRequest, SSHRotateRequest } from "./types.js";
/** Images: `client.images`. */
export declare class Images {
    private readonly transport;
    constructor(transport: Transport);
    /** Every image of the project. */
    list(options?: RequestOptions): Promise<Image[]>;
    /** Pulls an image from its registry; resolves when it is there. */
    pull(image: string, options?: Omit<PullImageRequest, "image">, request?: RequestOptions): Promise<Image>;
    /** Removes an image. */
    delete(image: string, options?: RequestOptions): Promise<void>;
}
/** SSH keys: `client.sshKeys`. */
export declare class SSHKeys {
    private readonly transport;
    constructor(transport: Transport);
    /** Generates a key, or imports `public_key`; a generated one's `private_key` shows only here. */
    create(options?: SSHKeyRequest, request?: RequestOptions): Promise<SSHKeyCreated>;
    /** One key. */
    get(keyId: string, options?: RequestOptions): Promise<SSHKey>;
    /** Every key, newest first. */
    list(filter?: {
        readonly instance_id?: string;
        readonly limit?: number;
    }, options?: RequestOptions): AsyncGenerator<SSHKey, void>;
    /** Revokes a key. */
    delete(keyId: string, options?: RequestOptions): Promise<void>;
    /** A new key in the place of another, which goes on for a while (`overlap_ms`). */
    rotate(keyId: string, options?: SSHRotateRequest, request?: RequestOptions): Promise<SSHKeyCreated>;
}
