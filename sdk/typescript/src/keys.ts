import { pathOf, type RequestOptions, type Transport } from "./transport.js";
import type { APIKey, CreateAPIKeyRequest, NewAPIKey } from "./types.js";

const KEYS = "/api/v1/api-keys";

/** API keys: `client.keys`; takes an admin's key. */
export class Keys {
  constructor(private readonly transport: Transport) {}

  /** Makes a key; `key` of the answer is the only time that it shows. */
  create(name: string, options: Omit<CreateAPIKeyRequest, "name"> = {}, request?: RequestOptions): Promise<NewAPIKey> {
    return this.transport.json<NewAPIKey>({ method: "POST", path: KEYS, body: { ...options, name }, creates: true }, request);
  }

  /** One key. */
  get(keyId: string, options?: RequestOptions): Promise<APIKey> {
    return this.transport.json<APIKey>({ method: "GET", path: pathOf(KEYS, keyId) }, options);
  }

  /** Every key, oldest first. */
  list(filter: { readonly project?: string; readonly limit?: number } = {}, options?: RequestOptions): AsyncGenerator<APIKey, void> {
    return this.transport.pages<APIKey>(KEYS, filter, "api_keys", options);
  }

  /** Revokes a key. */
  async delete(keyId: string, options?: RequestOptions): Promise<void> {
    await this.transport.content({ method: "DELETE", path: pathOf(KEYS, keyId) }, options);
  }
}
