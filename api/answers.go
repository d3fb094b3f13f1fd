package api

import "github.com/faas-platform/faas"

// Health is the answer of GET /health.
type Health struct {
	Status      string         `json:"status" enum:"ok,draining" doc:"draining while the server shuts down."`
	Version     string         `json:"version"`
	UptimeMS    int64          `json:"uptime_ms"`
	Docker      bool           `json:"docker" doc:"Whether the docker runtime is available."`
	Firecracker bool           `json:"firecracker" doc:"Whether the firecracker runtime is available."`
	Runtimes    []faas.Runtime `json:"runtimes" doc:"Runtimes found available so far."`
	Probing     bool           `json:"probing" doc:"Runtimes are still being probed: the list may grow."`
}

// RuntimeList is the answer of GET /api/v1/runtimes.
type RuntimeList struct {
	Runtimes []faas.Capabilities `json:"runtimes"`
}

// ExecutionList is one page of executions, newest first.
type ExecutionList struct {
	Executions []faas.Execution `json:"executions"`
	NextCursor string           `json:"next_cursor" doc:"Cursor of the next page; empty at the end."`
}

// Metrics counts what the caller's project did since the server started.
type Metrics struct {
	TotalRequests       int64                  `json:"total_requests" doc:"Executions that ended, refused ones included."`
	Running             int64                  `json:"running"`
	CacheHits           int64                  `json:"cache_hits"`
	CacheHitRate        float64                `json:"cache_hit_rate" doc:"Share of total_requests, 0 to 1."`
	AvgExecutionTimeMS  float64                `json:"avg_execution_time_ms" doc:"Of the executions that ran."`
	ErrorRate           float64                `json:"error_rate" doc:"Share of total_requests that could not run, 0 to 1."`
	ExecutionsByRuntime map[faas.Runtime]int64 `json:"executions_by_runtime"`
	ActiveContainers    int64                  `json:"active_containers" doc:"Sandboxes that the project has now: of running commands and of instances."`
	ActiveInstances     int64                  `json:"active_instances" doc:"Instances that are neither stopped nor failed."`
	MemoryUsageMB       float64                `json:"memory_usage_mb" doc:"Memory that those instances take, MiB."`
	CPUUsagePercent     float64                `json:"cpu_usage_percent" doc:"CPU that the project used since this was last asked; 100 is one core."`
	UptimeMS            int64                  `json:"uptime_ms"`
	Executor            *ExecutorMetrics       `json:"executor,omitempty" doc:"Counters of the whole installation, for admins."`
}

// ExecutorMetrics counts over every project.
type ExecutorMetrics struct {
	Requests   int64 `json:"requests"`
	Running    int64 `json:"running"`
	PoolHits   int64 `json:"pool_hits"`
	ColdStarts int64 `json:"cold_starts"`
	Queued     int64 `json:"queued" doc:"Executions that wait for their turn."`
	Dying      int64 `json:"dying" doc:"Sandboxes that are being destroyed behind their answers."`

	PoolHitRate float64 `json:"pool_hit_rate" doc:"Share of claims, 0 to 1, that found a warm sandbox."`
	PoolMissMS  int64   `json:"pool_miss_ms" doc:"Time that the others took to have one made, in all."`
}

// DetailedMetrics tells how long the project's commands spend where.
type DetailedMetrics struct {
	Stages map[string]Percentiles `json:"stages" doc:"queue: before a sandbox was the command's own; run: the command; total: all of it."`
}

// Percentiles are durations in milliseconds.
type Percentiles struct {
	Count  int64   `json:"count"`
	MeanMS float64 `json:"mean_ms"`
	P50MS  float64 `json:"p50_ms"`
	P90MS  float64 `json:"p90_ms"`
	P95MS  float64 `json:"p95_ms"`
	P99MS  float64 `json:"p99_ms"`
	MaxMS  float64 `json:"max_ms"`
}
