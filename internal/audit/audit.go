// Package audit keeps the log of who changed what: one event for every request
// that changes something, refused ones included, and whatever else a front
// door reports, such as an SSH session.
//
// Executions are not in it: they have records of their own.
package audit

import (
	"context"
	"log/slog"
	"time"

	"github.com/faas-platform/faas"
)

// Outcomes of what was tried.
const (
	OutcomeDone    = "done"
	OutcomeRefused = "refused" // the caller may not, or asked for what cannot be
	OutcomeFailed  = "failed"  // the platform could not
)

// Event is one line of the audit log.
type Event struct {
	ID        string            `json:"id"` // audit-…
	At        time.Time         `json:"at"`
	Project   string            `json:"project"`
	KeyID     string            `json:"key_id" doc:"Key that did it; empty for what the platform did by itself."`
	Action    string            `json:"action" doc:"What was done: the id of the API's operation, or another front door's word." example:"create-api-key"`
	Object    string            `json:"object" doc:"Id of what it was done to; empty when there is none." example:"key-0c7v4g6k1w0003f9a2m5d8r1t6"`
	Outcome   string            `json:"outcome" enum:"done,refused,failed"`
	RequestID string            `json:"request_id,omitempty"`
	Remote    string            `json:"remote,omitempty" doc:"Address that it came from." example:"127.0.0.1"`
	Details   map[string]string `json:"details,omitempty" doc:"What else is worth knowing."`
}

// Filter selects events. Zero fields select everything.
type Filter struct {
	Project string // "": every project's
	KeyID   string
	Action  string
	Object  string
	Since   time.Time
	Until   time.Time
	Limit   int
	Cursor  string // the last event of the page before
}

// Store keeps events.
type Store interface {
	// AppendAudit adds an event; it survives the death of the process when
	// AppendAudit returns.
	AppendAudit(ctx context.Context, e Event) error
	// AuditEvents lists events, newest first, and the cursor of the next page,
	// "" at the end.
	AuditEvents(ctx context.Context, filter Filter) (list []Event, next string, err error)
}

// Actor is who does what a context is for.
type Actor struct {
	Project, KeyID, RequestID, Remote string
}

type actorKey struct{}

// WithActor returns a context whose events carry the actor.
func WithActor(ctx context.Context, actor Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// Log writes events. A nil Log writes none.
type Log struct {
	store Store
	log   *slog.Logger
}

// New returns a log over a store. What cannot be written is reported to logger.
func New(store Store, logger *slog.Logger) *Log {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Log{store: store, log: logger}
}

// writeTimeout bounds the write of one event.
const writeTimeout = 10 * time.Second

// Record writes an event. It fills what is empty: id, time, outcome (done) and,
// from the context's actor, who did it. It goes on when ctx ends, since what
// is reported has happened already.
func (l *Log) Record(ctx context.Context, e Event) {
	if l == nil {
		return
	}
	actor, _ := ctx.Value(actorKey{}).(Actor) //nolint:errcheck // the zero Actor is the platform itself
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&e.ID, faas.NewID(faas.PrefixAudit))
	fill(&e.Project, actor.Project)
	fill(&e.Project, faas.DefaultProject)
	fill(&e.KeyID, actor.KeyID)
	fill(&e.RequestID, actor.RequestID)
	fill(&e.Remote, actor.Remote)
	fill(&e.Outcome, OutcomeDone)
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.At = e.At.UTC()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if err := l.store.AppendAudit(ctx, e); err != nil {
		l.log.LogAttrs(ctx, slog.LevelError, "an audit event could not be kept", slog.Any("event", e), slog.Any("error", err))
	}
}

// Events lists events; see Store.
func (l *Log) Events(ctx context.Context, filter Filter) ([]Event, string, error) {
	if l == nil {
		return nil, "", nil
	}
	return l.store.AuditEvents(ctx, filter)
}
