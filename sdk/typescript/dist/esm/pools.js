import { pathOf } from "./transport.js";
const POOLS = "/api/v1/pools";
/** Pools of warm sandboxes: `client.pools`. */
export class Pools {
    transport;
    constructor(transport) {
        this.transport = transport;
    }
    /** Every pool. */
    async list(options) {
        return (await this.transport.json({ method: "GET", path: POOLS }, options)).pools;
    }
    /** Sets how many sandboxes of a kind are kept warm; takes an admin's key. */
    set(min, options = {}, request) {
        return this.transport.json({ method: "PUT", path: POOLS, body: { ...options, min } }, request);
    }
    /** Removes a pool and its warm sandboxes; takes an admin's key. */
    async delete(poolId, options) {
        await this.transport.content({ method: "DELETE", path: pathOf(POOLS, poolId) }, options);
    }
    /** Has sandboxes made ahead; does not wait for them, `list` tells how many are ready. */
    prewarm(count, options = {}, request) {
        return this.transport.json({ method: "POST", path: "/api/v1/prewarm", body: { ...options, count }, creates: true }, request);
    }
}
