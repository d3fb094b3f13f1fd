package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

// execute runs one command and answers in the form that Accept asks for.
func (g *Gateway) execute(w http.ResponseWriter, r *http.Request) {
	g.executeAs(w, r, nil, func(*faas.Request) {})
}

// executeAs runs the command that the request's body asks for by the fields
// that only names, nil for all of them, with what set adds.
func (g *Gateway) executeAs(w http.ResponseWriter, r *http.Request, only []string, set func(*faas.Request)) {
	body, err := readBody(w, r)
	if err == nil && r.URL.RawQuery != "" {
		err = faas.Errorf(faas.KindInvalidArgument, "this route takes no query parameters")
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	e, err := decodeExecuteWith(body, nil, only)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	set(&e.req)
	who := identity(r.Context())
	e.req.Project, e.req.Key = who.Project, who.KeyID
	e.req.ID = faas.NewID(faas.PrefixExecution)
	w.Header().Set(api.HeaderExecutionID, e.req.ID)
	switch accepted(r.Header.Values("Accept")) {
	case "text/event-stream":
		g.executeEvents(w, r, e.req)
	case "application/octet-stream":
		g.executeRaw(w, r, e.req)
	default:
		result, err := g.run(r.Context(), e.req)
		if err != nil {
			g.fail(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, "application/json", api.NewExecuteResponse(result))
	}
}

var errDraining = &faas.Error{Kind: faas.KindUnavailable, Detail: "the server is shutting down", RetryAfter: 5 * time.Second}

// run hands a request to the executor and counts it.
func (g *Gateway) run(ctx context.Context, req faas.Request) (*faas.Result, error) {
	if g.draining.Load() {
		return nil, errDraining
	}
	done := g.counters.begin(req.Project)
	result, err := g.opts.Executor.Execute(ctx, req)
	if err == nil && result == nil {
		err = errors.New("the executor gave neither a result nor an error")
	}
	if err != nil && errors.Is(context.Cause(ctx), errStopped) {
		err = errStopped
	}
	done(result, err)
	return result, err
}

// readBody reads the whole body, in bounded time and size.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyReadTimeout)) //nolint:errcheck // not offered by test recorders
	var buffer bytes.Buffer
	if n := r.ContentLength; n > 0 {
		buffer.Grow(int(min(n, 1<<20)) + bytes.MinRead)
	}
	_, err := buffer.ReadFrom(r.Body)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, faas.Errorf(faas.KindDeadlineExceeded, "the request's body did not arrive within %v", bodyReadTimeout)
	}
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		return nil, faas.Errorf(faas.KindInvalidArgument, "the request's body could not be read")
	}
	// From here on the server watches the connection for its end.
	_ = control.SetReadDeadline(time.Time{}) //nolint:errcheck // not offered by test recorders
	return buffer.Bytes(), err
}

// accepted returns the form of answer that the caller prefers: the first that
// is offered, JSON where none is.
func accepted(values []string) string {
	for _, value := range values {
		for one := range strings.SplitSeq(value, ",") {
			switch media, _, err := mime.ParseMediaType(one); {
			case err != nil:
			case media == "text/event-stream", media == "application/octet-stream":
				return media
			case media == "application/json", media == "*/*":
				return "application/json"
			}
		}
	}
	return "application/json"
}

// rawStderr is how much of standard error the trailer of a raw answer holds.
const rawStderr = 8 << 10

// executeRaw streams standard output as it comes. Headers wait for the first
// byte or the end, so that what could not run is still answered as a problem.
func (g *Gateway) executeRaw(w http.ResponseWriter, r *http.Request, req faas.Request) {
	out := &rawOutput{w: w}
	req.Stdout, req.OutputLimit = out, rawStderr
	result, err := g.run(r.Context(), req)
	if err != nil && !out.begun {
		g.fail(w, r, err)
		return
	}
	out.begin()
	if err != nil {
		problem, _ := problemOf(err, requestID(r.Context()))
		g.logFailure(r.Context(), problem, err)
		w.Header().Set(api.TrailerError, asciiJSON(problem))
		return
	}
	response := api.NewExecuteResponse(result)
	response.Logs = ""
	w.Header().Set(api.TrailerExitCode, itoa(result.ExitCode))
	w.Header().Set(api.TrailerResult, asciiJSON(response))
}

// rawOutput writes to the client what the command writes, each piece at once.
type rawOutput struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (o *rawOutput) begin() {
	if o.begun {
		return
	}
	o.begun, o.control = true, http.NewResponseController(o.w)
	header := o.w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("Trailer", strings.Join([]string{api.TrailerExitCode, api.TrailerResult, api.TrailerError}, ", "))
	o.w.WriteHeader(http.StatusOK)
}

// Write passes a piece on and flushes it. It blocks as long as the client does
// not read, and so, through the executor, does the command.
func (o *rawOutput) Write(p []byte) (int, error) {
	o.begin()
	n, err := o.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, o.control.Flush()
}

// encodeJSON encodes without the escapes that only HTML needs.
func encodeJSON(v any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

// asciiJSON encodes a value for a header: one line of ASCII.
func asciiJSON(v any) string {
	encoded, err := encodeJSON(v)
	if err != nil {
		return "{}"
	}
	var b strings.Builder
	for _, c := range strings.TrimSpace(string(encoded)) {
		appendASCII(&b, c)
	}
	return b.String()
}

// requireUser refuses keys that may only read, on routes whose method does not
// tell.
func requireUser(ctx context.Context) error {
	who := identity(ctx)
	if !who.Role.Allows(auth.RoleUser) {
		return faas.Errorf(faas.KindPermissionDenied, "a key with the role %s may only read", who.Role)
	}
	if c := callerOf(ctx); c.area != "" && !who.InScope(c.area, true) {
		return outOfScope(c.area)
	}
	return nil
}

var _ io.Writer = (*rawOutput)(nil)
