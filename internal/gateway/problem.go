package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

const problemType = "application/problem+json"

// inputError is a request with fields that were refused.
type inputError struct {
	fields []api.FieldError
	remedy string
}

func (e *inputError) Error() string {
	if len(e.fields) == 1 {
		return e.fields[0].Field + ": " + e.fields[0].Reason
	}
	return strconv.Itoa(len(e.fields)) + " fields were refused"
}

// maxRefused bounds the refused fields that are told, and what is told of one
// in bytes.
const (
	maxRefused     = 64
	maxRefusedText = 256
)

// full says that no more refused fields are told.
func (e *inputError) full() bool { return len(e.fields) >= maxRefused }

// add notes one refused field.
func (e *inputError) add(field, reason string) {
	if e.full() {
		return
	}
	if len(field) > maxRefusedText {
		field = strings.ToValidUTF8(field[:maxRefusedText], "") + "…"
	}
	e.fields = append(e.fields, api.FieldError{Field: field, Reason: reason})
}

// unknown notes a field that the body does not have; meant is the one that may
// have been meant, "" where none is near.
func (e *inputError) unknown(field, meant string) {
	e.add(field, "there is no such field")
	if meant != "" && e.remedy == "" {
		e.remedy = "did you mean " + meant + "? "
	}
	if !strings.HasSuffix(e.remedy, fieldsRemedy) {
		e.remedy += fieldsRemedy
	}
}

const fieldsRemedy = "GET /openapi.json describes every field"

// orNil returns the error when it has something to say.
func (e *inputError) orNil() error {
	if len(e.fields) == 0 {
		return nil
	}
	return e
}

// problemOf puts an error into the form of the wire. What an internal error
// holds stays in the log.
func problemOf(err error, requestID string) (*api.Problem, time.Duration) {
	p := &api.Problem{Type: "about:blank", RequestID: requestID}
	var retryAfter time.Duration
	var input *inputError
	var e *faas.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &input):
		p.Code, p.Detail, p.Errors, p.Remedy = faas.KindInvalidArgument, input.Error(), input.fields, input.remedy
	case errors.As(err, &tooLarge):
		p.Code = faas.KindPayloadTooLarge
		p.Detail = "the request's body is larger than " + strconv.FormatInt(tooLarge.Limit, 10) + " bytes"
	case errors.As(err, &e):
		p.Code, p.Detail, p.Remedy, retryAfter = e.Kind, detailOf(e), remedyOf(e), e.RetryAfter
		if e.Field != "" {
			reason := *e
			reason.Op, reason.Field = "", ""
			p.Errors = []api.FieldError{{Field: e.Field, Reason: detailOf(&reason)}}
		}
	case errors.Is(err, context.Canceled):
		p.Code, p.Detail = faas.KindUnavailable, "the execution was cancelled"
	default:
		p.Code = faas.KindOf(err)
	}
	var merge *mergeError
	if errors.As(err, &merge) {
		p.Conflicts = merge.conflicts
	}
	if p.Code == faas.KindInternal {
		p.Remedy, p.Errors = "", nil
		p.Detail = "something failed inside the platform; the server's log has the cause under this request id"
	}
	p.Status = api.Status(p.Code)
	if p.Detail == "" {
		p.Detail = string(p.Code)
	}
	p.Title = http.StatusText(p.Status)
	if retryAfter == 0 && p.Code == faas.KindResourceExhausted {
		retryAfter = time.Second
	}
	return p, retryAfter
}

// detailOf says what failed in the words of the platform's own errors. Causes
// of other kinds may hold what is not the caller's to see.
func detailOf(e *faas.Error) string {
	shown := faas.Error{Kind: e.Kind, Op: e.Op, Field: e.Field, Detail: e.Detail}
	var cause *faas.Error
	if e.Detail == "" && errors.As(e.Err, &cause) {
		shown.Detail = detailOf(cause)
	}
	return shown.Error()
}

// remedyOf returns the nearest remedy.
func remedyOf(e *faas.Error) string {
	var cause *faas.Error
	if e.Remedy == "" && errors.As(e.Err, &cause) {
		return remedyOf(cause)
	}
	return e.Remedy
}

// fail answers with a problem and logs what deserves it.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, err error) {
	problem, retryAfter := problemOf(err, requestID(r.Context()))
	g.logFailure(r.Context(), problem, err)
	header := w.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Trailer", "Cache-Control"} {
		header.Del(name)
	}
	writeRetryAfter(header, retryAfter)
	if problem.Code == faas.KindUnauthenticated {
		header.Set("WWW-Authenticate", `Bearer realm="faas"`)
	}
	writeJSON(w, problem.Status, problemType, problem)
}

func (g *Gateway) logFailure(ctx context.Context, problem *api.Problem, err error) {
	level := slog.LevelDebug
	if problem.Status >= http.StatusInternalServerError && ctx.Err() == nil {
		level = slog.LevelError
	}
	g.log.LogAttrs(ctx, level, "request failed", slog.String("request_id", problem.RequestID),
		slog.String("code", string(problem.Code)), slog.Any("error", err))
}

func writeRetryAfter(header http.Header, after time.Duration) {
	if after > 0 {
		header.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(after.Seconds())), 10))
	}
}

// writeJSON answers with one JSON value. A client that is gone is no error.
func writeJSON(w http.ResponseWriter, status int, contentType string, body any) {
	encoded, err := encodeJSON(body)
	if err != nil {
		status, encoded = http.StatusInternalServerError, []byte(`{"type":"about:blank","status":500,"code":"internal","detail":"the answer could not be encoded"}`)
		contentType = problemType
	}
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(len(encoded)))
	// A reader that stalls must not hold the handler for ever.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout)) //nolint:errcheck // not offered by test recorders
	w.WriteHeader(status)
	_, _ = w.Write(encoded)
}

// humaContext lets an answer change its status while huma writes it, so that
// huma's own refusals take the statuses of our kinds.
type humaContext struct {
	below
	status int // 0: as huma says
}

// below is huma.Context under a name that its method Context leaves free.
type below huma.Context

// Unwrap lets huma and its adapters reach the context below.
func (c *humaContext) Unwrap() huma.Context { return c.below }

// SetStatus writes the status line.
func (c *humaContext) SetStatus(code int) {
	if c.status != 0 {
		code = c.status
	}
	c.below.SetStatus(code)
}

// humaProblems puts every huma operation on a humaContext.
func (g *Gateway) humaProblems(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	next(&humaContext{below: huma.WithValue(ctx, exchangeKey{}, exchange{w, r})})
}

// exchange is the request of an operation and the way to answer it, for what
// reads its body itself.
type exchange struct {
	w http.ResponseWriter
	r *http.Request
}

type exchangeKey struct{}

// statusError carries an error through huma to the transformer.
type statusError struct{ err error }

func (e *statusError) Error() string             { return e.err.Error() }
func (e *statusError) Unwrap() error             { return e.err }
func (e *statusError) GetStatus() int            { return api.Status(faas.KindOf(e.err)) }
func (e *statusError) ContentType(string) string { return problemType }

// MarshalJSON is never reached: the transformer replaces the error first.
func (e *statusError) MarshalJSON() ([]byte, error) { return json.Marshal(nil) }

// transform turns the errors of handlers and those of huma's own validation
// into problems.
func (g *Gateway) transform(ctx huma.Context, _ string, value any) (any, error) {
	var err error
	switch v := value.(type) {
	case *statusError:
		err = v.err
	case *huma.ErrorModel:
		err = fromHuma(v)
	default:
		return value, nil
	}
	problem, retryAfter := problemOf(err, requestID(ctx.Context()))
	g.logFailure(ctx.Context(), problem, err)
	if retryAfter > 0 {
		ctx.SetHeader("Retry-After", strconv.FormatInt(int64(math.Ceil(retryAfter.Seconds())), 10))
	}
	if c, ok := ctx.(*humaContext); ok {
		c.status = problem.Status
	}
	return problem, nil
}

// fromHuma reads one of huma's refusals.
func fromHuma(model *huma.ErrorModel) error {
	if model.Status >= http.StatusInternalServerError {
		return faas.Errorf(faas.KindInternal, "%s", model.Detail)
	}
	input := &inputError{}
	for _, detail := range model.Errors {
		input.add(fieldOf(detail.Location), detail.Message)
	}
	if len(input.fields) > 0 {
		return input
	}
	return faas.Errorf(faas.KindInvalidArgument, "%s", model.Detail)
}

// fieldOf names a field as the caller wrote it: without where huma found it.
func fieldOf(location string) string {
	for _, place := range []string{"query.", "path.", "header.", "body."} {
		if len(location) > len(place) && location[:len(place)] == place {
			return location[len(place):]
		}
	}
	return location
}
