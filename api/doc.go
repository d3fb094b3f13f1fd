// Package api is the HTTP contract in Go: the bodies that the gateway answers
// with and the SDK sends. It holds no behaviour beyond encoding. openapi.yaml
// beside it is generated from these types by `faas openapi`.
//
// Names on the wire are snake_case, times are RFC 3339 in UTC, durations are
// milliseconds (_ms), sizes bytes (_bytes) or MiB (_mb).
package api

// Version is the version of the HTTP contract.
const Version = "1"

// Paths of the routes, relative to the base URL.
const (
	PathExecute         = "/api/v1/execute"
	PathExecuteAdvanced = "/api/v1/execute/advanced"
	PathExecuteSocket   = "/api/v1/execute/ws"
	PathExecutions      = "/api/v1/executions"
	PathRuntimes        = "/api/v1/runtimes"
	PathPools           = "/api/v1/pools"
	PathPrewarm         = "/api/v1/prewarm"
	PathMetricsDetailed = "/api/v1/metrics/detailed"
	PathMetrics         = "/api/v1/metrics"
	PathHealth          = "/health"
	PathOpenAPI         = "/openapi.json"
	PathDocs            = "/docs"
	PathConsole         = "/console"
)

// HeaderRequestID carries the id of a request: accepted when it is well
// formed, made otherwise, and always answered.
const HeaderRequestID = "X-Request-Id"

// HeaderExecutionID names the execution in the answer of every route that runs
// one, before the execution ends. It is on record once the first output or the
// event started has come.
const HeaderExecutionID = "Faas-Execution-Id"

// HeaderIdempotencyKey names a POST, so that it can be retried safely;
// HeaderIdempotentReplayed marks the answer of a retry.
const (
	HeaderIdempotencyKey     = "Idempotency-Key"
	HeaderIdempotentReplayed = "Idempotent-Replayed"
)

// Trailers of an answer with raw output (Accept: application/octet-stream).
// Exactly one of TrailerExitCode and TrailerError is set.
const (
	TrailerExitCode = "Faas-Exit-Code"
	TrailerResult   = "Faas-Result" // the ExecuteResponse as ASCII JSON, stdout left out
	TrailerError    = "Faas-Error"  // a Problem as ASCII JSON
)
