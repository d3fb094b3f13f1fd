package api

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/faas-platform/faas"
)

// Paths of an instance's stream below those of the instances; the second is
// for older clients.
const (
	PathStream           = PathInstances + "/{id}/stream"
	PathContainersStream = "/api/v1/containers/{id}/stream"
)

// Types of frames that the stream of an instance has besides those of an
// execution's.
const (
	// From the client.
	FrameWatch      = "watch"
	FrameGetState   = "get_state"
	FrameCheckpoint = "checkpoint"
	FrameStop       = "stop"
	// From the server.
	FrameFileEvent    = "file_event"
	FrameProcessEvent = "process_event"
	FrameCustom       = "custom"
	FrameState        = "state"
)

// StreamRequest is one text frame from a client of an instance's stream. Of an
// exec frame these are the fields besides those of an ExecRequest, in the same
// object. ID names the command that the frame is for; without it, it is the
// one that was started last.
type StreamRequest struct {
	Type       string            `json:"type" enum:"exec,stdin,close_stdin,resize,signal,watch,get_state,checkpoint,stop"`
	ID         string            `json:"id,omitempty" doc:"stdin, close_stdin, resize, signal: the execution. Default: the one that was started last."`
	TTY        bool              `json:"tty,omitempty" doc:"exec: run in a terminal."`
	Cols       uint16            `json:"cols,omitempty" doc:"exec, resize"`
	Rows       uint16            `json:"rows,omitempty" doc:"exec, resize"`
	Data       *string           `json:"data,omitempty" doc:"stdin"`
	DataBase64 []byte            `json:"data_base64,omitempty" doc:"stdin, in place of data"`
	Signal     string            `json:"signal,omitempty" doc:"signal: a name or number" example:"SIGINT"`
	Path       string            `json:"path,omitempty" maxLength:"4096" doc:"watch: absolute"`
	Recursive  bool              `json:"recursive,omitempty" doc:"watch: with all that is below"`
	Name       string            `json:"name,omitempty" maxLength:"128" doc:"checkpoint: of the snapshot"`
	Kind       faas.SnapshotKind `json:"kind,omitempty" enum:"auto,fs,full" doc:"checkpoint: default auto"`
}

// Input returns the bytes of a stdin frame.
func (f *StreamRequest) Input() []byte {
	if f.Data != nil {
		return []byte(*f.Data)
	}
	return f.DataBase64
}

// StreamFrame is one text frame from the server of an instance's stream. Seq
// ascends; not every number is there. A heartbeat carries that of the last
// frame before it.
type StreamFrame struct {
	Type       string          `json:"type" enum:"started,stdout,stderr,stdin_ack,exit,file_event,process_event,custom,state,error,heartbeat"`
	Seq        int64           `json:"seq" doc:"Continue after it with since."`
	ID         string          `json:"id,omitempty" doc:"The execution that the frame is about."`
	Data       json.RawMessage `json:"data,omitempty" doc:"stdout, stderr: a string. custom: any value."`
	DataBase64 []byte          `json:"data_base64,omitempty" doc:"stdout, stderr: in place of data where it is not UTF-8."`
	Bytes      int64           `json:"bytes,omitempty" doc:"stdin_ack: consumed so far."`
	Code       *int            `json:"code,omitempty" doc:"exit"`
	Signal     string          `json:"signal,omitempty" doc:"exit"`
	Path       string          `json:"path,omitempty" doc:"file_event"`
	Event      string          `json:"event,omitempty" doc:"file_event: created, modified, removed, renamed, overflow. process_event: started, exited."`
	PID        int             `json:"pid,omitempty" doc:"process_event"`
	Command    []string        `json:"command,omitempty" doc:"started, process_event"`
	Name       string          `json:"name,omitempty" doc:"custom"`
	Session    string          `json:"session,omitempty" doc:"The first state: the name under which this client's session can be continued."`
	State      string          `json:"state,omitempty" doc:"state: the instance's status"`
	Instance   *Instance       `json:"instance,omitempty" doc:"state"`
	SnapshotID string          `json:"snapshot_id,omitempty" doc:"state, after a checkpoint"`
	Error      *Problem        `json:"error,omitempty" doc:"error"`
}

// SetData puts output into a frame.
func (f *StreamFrame) SetData(output []byte) {
	if utf8.Valid(output) {
		f.Data, _ = json.Marshal(string(output)) //nolint:errcheck // a string always encodes
		return
	}
	f.DataBase64 = output
}

// Output returns what SetData put in.
func (f *StreamFrame) Output() []byte {
	var text string
	if f.Data != nil && json.Unmarshal(f.Data, &text) == nil {
		return []byte(text)
	}
	return f.DataBase64
}
