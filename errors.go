package faas

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind is the class of an error. The set is closed: every front door maps
// each kind to exactly one status, and each SDK to exactly one class.
type Kind string

// The kinds. Their text is the stable `code` of the HTTP API.
const (
	KindInvalidArgument       Kind = "invalid_argument"
	KindUnauthenticated       Kind = "unauthenticated"
	KindPermissionDenied      Kind = "permission_denied"
	KindNotFound              Kind = "not_found"
	KindConflict              Kind = "conflict"
	KindFailedPrecondition    Kind = "failed_precondition"
	KindCapabilityUnavailable Kind = "capability_unavailable"
	KindPayloadTooLarge       Kind = "payload_too_large"
	KindResourceExhausted     Kind = "resource_exhausted"
	KindDeadlineExceeded      Kind = "deadline_exceeded"
	KindUnavailable           Kind = "unavailable"
	KindInternal              Kind = "internal"
)

// Kinds lists every kind.
func Kinds() []Kind {
	return []Kind{
		KindInvalidArgument, KindUnauthenticated, KindPermissionDenied, KindNotFound,
		KindConflict, KindFailedPrecondition, KindCapabilityUnavailable, KindPayloadTooLarge,
		KindResourceExhausted, KindDeadlineExceeded, KindUnavailable, KindInternal,
	}
}

// Error says what failed, on what, and what the user can do.
type Error struct {
	Kind       Kind
	Op         string        // what was being done: "create sandbox"
	Field      string        // the request field at fault, for KindInvalidArgument
	Detail     string        // what is wrong, for the user
	Remedy     string        // what the user can do; may be empty
	RetryAfter time.Duration // for KindResourceExhausted and KindUnavailable; 0: not known
	Err        error         // the cause, for logs; never shown to another tenant
}

// Error joins what is known into one line.
func (e *Error) Error() string {
	s := e.Detail
	if s == "" && e.Err != nil {
		s = e.Err.Error()
	}
	if s == "" {
		s = string(e.Kind)
	}
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Op != "" {
		s = e.Op + ": " + s
	}
	if e.Detail != "" && e.Err != nil && e.Err.Error() != "" {
		s += ": " + e.Err.Error()
	}
	if e.Remedy != "" {
		s += " (" + e.Remedy + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches another *Error of the same kind that carries nothing else, so
// that errors.Is(err, faas.ErrNotFound) holds for every error of that kind.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Op == "" && t.Detail == "" && t.Field == "" && t.Err == nil
}

// One value per kind for errors.Is.
var (
	ErrInvalidArgument       = &Error{Kind: KindInvalidArgument}
	ErrUnauthenticated       = &Error{Kind: KindUnauthenticated}
	ErrPermissionDenied      = &Error{Kind: KindPermissionDenied}
	ErrNotFound              = &Error{Kind: KindNotFound}
	ErrConflict              = &Error{Kind: KindConflict}
	ErrFailedPrecondition    = &Error{Kind: KindFailedPrecondition}
	ErrCapabilityUnavailable = &Error{Kind: KindCapabilityUnavailable}
	ErrPayloadTooLarge       = &Error{Kind: KindPayloadTooLarge}
	ErrResourceExhausted     = &Error{Kind: KindResourceExhausted}
	ErrDeadlineExceeded      = &Error{Kind: KindDeadlineExceeded}
	ErrUnavailable           = &Error{Kind: KindUnavailable}
	ErrInternal              = &Error{Kind: KindInternal}
)

// Errorf makes an error of a kind with a formatted detail. A %w verb keeps
// its cause reachable.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{Kind: kind, Detail: err.Error()}
	if cause := errors.Unwrap(err); cause != nil {
		e.Err = wrapped{cause}
	}
	return e
}

// InvalidField makes the error for one bad request field.
func InvalidField(field, format string, args ...any) *Error {
	return &Error{Kind: KindInvalidArgument, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// Unavailable makes the error for a capability that this machine lacks.
func Unavailable(reason, remedy string) *Error {
	return &Error{Kind: KindCapabilityUnavailable, Detail: reason, Remedy: remedy}
}

// KindOf returns the kind of err: that of the nearest *Error, the matching
// one for context errors, and KindInternal for everything else.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded):
		return KindDeadlineExceeded
	case errors.Is(err, context.Canceled):
		return KindUnavailable
	default:
		return KindInternal
	}
}

// wrapped keeps a cause reachable whose text the detail already holds.
type wrapped struct{ error }

func (w wrapped) Error() string { return "" }
func (w wrapped) Unwrap() error { return w.error }
