package faas

import "time"

// EventType says what happened to what.
type EventType string

// What happens in a project.
const (
	EventInstanceCreated  EventType = "instance.created"
	EventInstanceChanged  EventType = "instance.changed" // status, name, labels or another field
	EventInstanceDeleted  EventType = "instance.deleted"
	EventSnapshotCreated  EventType = "snapshot.created"
	EventSnapshotChanged  EventType = "snapshot.changed" // name, description or labels
	EventSnapshotDeleted  EventType = "snapshot.deleted"
	EventExecutionStarted EventType = "execution.started"
	EventExecutionEnded   EventType = "execution.ended"
)

// Event is one change in a project. The field of its object shows that as it
// was afterwards; for what was deleted only the id is there.
type Event struct {
	Type      EventType  `json:"type"`
	Time      time.Time  `json:"time"`
	ID        string     `json:"id"` // of the object
	Instance  *Instance  `json:"instance,omitempty"`
	Snapshot  *Snapshot  `json:"snapshot,omitempty"`
	Execution *Execution `json:"execution,omitempty"`
}

// LogPosition is a place in the output of an execution: the bytes of each
// stream that lie before it.
type LogPosition struct{ Stdout, Stderr int64 }

// LogPiece is output of an execution.
type LogPiece struct {
	Stderr bool // else it is standard output
	Data   []byte
	Lost   int64       // bytes of its stream before Data that are not kept
	After  LogPosition // the place behind it
}
