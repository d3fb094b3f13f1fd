import { pathOf, type RequestOptions, type Transport } from "./transport.js";
import type { Image, ImageList, PullImageRequest, SSHKey, SSHKeyCreated, SSHKeyRequest, SSHRotateRequest } from "./types.js";

const IMAGES = "/api/v1/images";
const SSH_KEYS = "/api/v1/ssh-keys";

/** Images: `client.images`. */
export class Images {
  constructor(private readonly transport: Transport) {}

  /** Every image of the project. */
  async list(options?: RequestOptions): Promise<Image[]> {
    return (await this.transport.json<ImageList>({ method: "GET", path: IMAGES }, options)).images;
  }

  /** Pulls an image from its registry; resolves when it is there. */
  pull(image: string, options: Omit<PullImageRequest, "image"> = {}, request?: RequestOptions): Promise<Image> {
    return this.transport.json<Image>({ method: "POST", path: `${IMAGES}/pull`, body: { ...options, image }, creates: true }, request);
  }

  /** Removes an image. */
  async delete(image: string, options?: RequestOptions): Promise<void> {
    await this.transport.content({ method: "DELETE", path: IMAGES, query: { image } }, options);
  }
}

/** SSH keys: `client.sshKeys`. */
export class SSHKeys {
  constructor(private readonly transport: Transport) {}

  /** Generates a key, or imports `public_key`; a generated one's `private_key` shows only here. */
  create(options: SSHKeyRequest = {}, request?: RequestOptions): Promise<SSHKeyCreated> {
    return this.transport.json<SSHKeyCreated>({ method: "POST", path: SSH_KEYS, body: options, creates: true }, request);
  }

  /** One key. */
  get(keyId: string, options?: RequestOptions): Promise<SSHKey> {
    return this.transport.json<SSHKey>({ method: "GET", path: pathOf(SSH_KEYS, keyId) }, options);
  }

  /** Every key, newest first. */
  list(filter: { readonly instance_id?: string; readonly limit?: number } = {}, options?: RequestOptions): AsyncGenerator<SSHKey, void> {
    return this.transport.pages<SSHKey>(SSH_KEYS, filter, "ssh_keys", options);
  }

  /** Revokes a key. */
  async delete(keyId: string, options?: RequestOptions): Promise<void> {
    await this.transport.content({ method: "DELETE", path: pathOf(SSH_KEYS, keyId) }, options);
  }

  /** A new key in the place of another, which goes on for a while (`overlap_ms`). */
  rotate(keyId: string, options: SSHRotateRequest = {}, request?: RequestOptions): Promise<SSHKeyCreated> {
    return this.transport.json<SSHKeyCreated>({ method: "POST", path: pathOf(SSH_KEYS, keyId, "/rotate"), body: options, creates: true }, request);
  }
}
