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
export function zeroMetrics(): ClientMetrics {
  return { requests: 0, retries: 0, errors: 0, executions: 0, cache_hits: 0, cache_misses: 0, total_ms: 0 };
}
