"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.zeroMetrics = zeroMetrics;
/** All zero. */
function zeroMetrics() {
    return { requests: 0, retries: 0, errors: 0, executions: 0, cache_hits: 0, cache_misses: 0, total_ms: 0 };
}
