import { type RequestOptions, type Transport } from "./transport.js";
import type { Pool, PoolSettings, Prewarm } from "./types.js";
/** Pools of warm sandboxes: `client.pools`. */
export declare class Pools {
    private readonly transport;
    constructor(transport: Transport);
    /** Every pool. */
    list(options?: RequestOptions): Promise<Pool[]>;
    /** Sets how many sandboxes of a kind are kept warm; takes an admin's key. */
    set(min: number, options?: Omit<PoolSettings, "min">, request?: RequestOptions): Promise<Pool>;
    /** Removes a pool and its warm sandboxes; takes an admin's key. */
    delete(poolId: string, options?: RequestOptions): Promise<void>;
    /** Has sandboxes made ahead; does not wait for them, `list` tells how many are ready. */
    prewarm(count: number, options?: Omit<Prewarm, "count">, request?: RequestOptions): Promise<Pool>;
}
