/** What a client counted about itself since it was made, or since `resetClientMetrics`. */
export interface ClientMetrics {
    /** Calls, however often each was sent. */
    requests: number;
    retries: number;
    errors: number;
    executions: number;
    cache_hits: number;
    cache_misses: number;
    /** Time spent waiting for answers, retries included. */
    total_ms: number;
}
/** All zero. */
export declare function zeroMetrics(): ClientMetrics;
