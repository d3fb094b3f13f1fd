package stream

import (
	"encoding/json"

	"github.com/faas-platform/faas"
)

// Kind says what a frame tells.
type Kind string

// The kinds of frames, with the fields that they carry besides Exec, the
// execution that they are about.
const (
	Started  Kind = "started"       // Command: an execution is on record
	Stdout   Kind = "stdout"        // Data
	Stderr   Kind = "stderr"        // Data
	StdinAck Kind = "stdin_ack"     // Bytes consumed so far
	Exit     Kind = "exit"          // Result
	File     Kind = "file_event"    // Path, Event
	Process  Kind = "process_event" // PID, Command, Event
	Custom   Kind = "custom"        // Name, Value
	State    Kind = "state"         // Instance, and Snapshot where one was taken
	Failed   Kind = "error"         // Err
)

// Frame is one thing that happened to an instance or in it.
type Frame struct {
	Seq      int64 // ascending; not every number is there
	Kind     Kind
	Exec     string
	Data     []byte
	Bytes    int64
	Result   *faas.Result
	Path     string
	Event    string
	PID      int
	Command  []string
	Name     string
	Value    json.RawMessage
	Instance *faas.Instance
	Snapshot *faas.Snapshot
	Err      error
}

// size is about what the frame's content takes.
func (f *Frame) size() int {
	n := len(f.Data) + len(f.Path) + len(f.Name) + len(f.Value)
	for _, word := range f.Command {
		n += len(word)
	}
	if f.Instance != nil {
		n += 512
	}
	if f.Err != nil { // it may repeat what a client sent
		n += len(f.Err.Error())
	}
	return n
}
