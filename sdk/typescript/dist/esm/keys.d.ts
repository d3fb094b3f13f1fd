import { type RequestOptions, type Transport } from "./transport.js";
import type { APIKey, CreateAPIKeyRequest, NewAPIKey } from "./types.js";
/** API keys: `client.keys`; takes an admin's key. */
export declare class Keys {
    private readonly transport;
    constructor(transport: Transport);
    /** Makes a key; `key` of the answer is the only time that it shows. */
    create(name: string, options?: Omit<CreateAPIKeyRequest, "name">, request?: RequestOptions): Promise<NewAPIKey>;
    /** One key. */
    get(keyId: string, options?: RequestOptions): Promise<APIKey>;
    /** Every key, oldest first. */
    list(filter?: {
        readonly project?: string;
        readonly limit?: number;
    }, options?: RequestOptions): AsyncGenerator<APIKey, void>;
    /** Revokes a key. */
    delete(keyId: string, options?: RequestOptions): Promise<void>;
}
