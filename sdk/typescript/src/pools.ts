import { pathOf, type RequestOptions, type Transport } from "./transport.js";
import type { Pool, PoolList, PoolSettings, Prewarm } from "./types.js";

const POOLS = "/api/v1/pools";

/** Pools of warm sandboxes: `client.pools`. */
export class Pools {
  constructor(private readonly transport: Transport) {}

  /** Every pool. */
  async list(options?: RequestOptions): Promise<Pool[]> {
    return (await this.transport.json<PoolList>({ method: "GET", path: POOLS }, options)).pools;
  }

  /** Sets how many sandboxes of a kind are kept warm; takes an admin's key. */
  set(min: number, options: Omit<PoolSettings, "min"> = {}, request?: RequestOptions): Promise<Pool> {
    return this.transport.json<Pool>({ method: "PUT", path: POOLS, body: { ...options, min } }, request);
  }

  /** Removes a pool and its warm sandboxes; takes an admin's key. */
  async delete(poolId: string, options?: RequestOptions): Promise<void> {
    await this.transport.content({ method: "DELETE", path: pathOf(POOLS, poolId) }, options);
  }

  /** Has sandboxes made ahead; does not wait for them, `list` tells how many are ready. */
  prewarm(count: number, options: Omit<Prewarm, "count"> = {}, request?: RequestOptions): Promise<Pool> {
    return this.transport.json<Pool>({ method: "POST", path: "/api/v1/prewarm", body: { ...options, count }, creates: true }, request);
  }
}
