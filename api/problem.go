package api

import (
	"net/http"
	"time"

	"github.com/faas-platform/faas"
)

// Problem is the body of every error (RFC 9457, application/problem+json).
type Problem struct {
	Type      string       `json:"type" doc:"Always about:blank: code tells the problems apart." example:"about:blank"`
	Title     string       `json:"title" doc:"The status in words." example:"Bad Request"`
	Status    int          `json:"status" example:"400"`
	Code      faas.Kind    `json:"code" enum:"invalid_argument,unauthenticated,permission_denied,not_found,conflict,failed_precondition,capability_unavailable,payload_too_large,resource_exhausted,deadline_exceeded,unavailable,internal" doc:"The stable class of the error."`
	Detail    string       `json:"detail" doc:"What failed, on what." example:"memory_mb: must be at least 1"`
	Remedy    string       `json:"remedy,omitempty" doc:"What can be done about it."`
	RequestID string       `json:"request_id" doc:"Id of the HTTP request, as in the server's log." example:"req-0c7v4g6k1w0003f9a2m5d8r1t6"`
	Errors    []FieldError `json:"errors,omitempty" doc:"For invalid input: each field and why."`

	Conflicts []faas.MergeConflict `json:"conflicts,omitempty" doc:"For a refused merge: the paths that branches changed differently."`
}

// FieldError is one field of the input that was refused.
type FieldError struct {
	Field  string `json:"field" example:"memory_mb"`
	Reason string `json:"reason" example:"must be at least 1"`
}

// Status returns the HTTP status of an error kind; 500 for one that is not of
// the closed set.
func Status(kind faas.Kind) int {
	switch kind {
	case faas.KindInvalidArgument:
		return http.StatusBadRequest
	case faas.KindUnauthenticated:
		return http.StatusUnauthorized
	case faas.KindPermissionDenied:
		return http.StatusForbidden
	case faas.KindNotFound:
		return http.StatusNotFound
	case faas.KindConflict, faas.KindFailedPrecondition:
		return http.StatusConflict
	case faas.KindCapabilityUnavailable:
		return http.StatusUnprocessableEntity
	case faas.KindPayloadTooLarge:
		return http.StatusRequestEntityTooLarge
	case faas.KindResourceExhausted:
		return http.StatusTooManyRequests
	case faas.KindDeadlineExceeded:
		return http.StatusGatewayTimeout
	case faas.KindUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// Err returns the problem as the error that it was made from, as far as the
// wire carries it.
func (p *Problem) Err(retryAfter time.Duration) *faas.Error {
	e := &faas.Error{Kind: p.Code, Detail: p.Detail, Remedy: p.Remedy, RetryAfter: retryAfter}
	if e.Kind == "" {
		e.Kind = faas.KindInternal
	}
	if len(p.Errors) == 1 {
		e.Field, e.Detail = p.Errors[0].Field, p.Errors[0].Reason
	}
	return e
}
