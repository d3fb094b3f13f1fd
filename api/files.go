package api

import (
	"io/fs"
	"time"

	"github.com/faas-platform/faas"
)

// PathUpload is the path of uploads that older clients use.
const PathUpload = "/api/v1/files/upload"

// FileInfo describes one file of an instance.
type FileInfo struct {
	Path       string    `json:"path" example:"/work/data.csv"`
	Type       string    `json:"type" enum:"file,directory,symlink,fifo,socket,device"`
	SizeBytes  int64     `json:"size_bytes"`
	Mode       string    `json:"mode" doc:"Permissions in octal, with the set-id and sticky bits." example:"0644"`
	UID        int       `json:"uid"`
	GID        int       `json:"gid"`
	ModifiedAt time.Time `json:"modified_at"`
	Target     string    `json:"target,omitempty" doc:"Of a symbolic link."`
}

// FileList is what a directory holds.
type FileList struct {
	Path  string     `json:"path"`
	Files []FileInfo `json:"files" doc:"By name."`
}

// UploadRequest writes one file, or unpacks an archive where target_path ends
// with a slash.
type UploadRequest struct {
	InstanceID  string `json:"instance_id" doc:"Id of the instance, or its name."`
	ContainerID string `json:"container_id,omitempty" alias:"instance_id" doc:"Alias of instance_id, for older clients."`
	TargetPath  string `json:"target_path" minLength:"1" maxLength:"4096" doc:"Absolute. With a slash at its end files_data is a tar archive that is unpacked there." example:"/work/data.csv"`
	FilesData   Bytes  `json:"files_data" doc:"The content: standard base64, or an array of bytes."`
}

// Headers that describe the file of an answer.
const (
	HeaderFileMode  = "Faas-File-Mode"  // as FileInfo.Mode
	HeaderFileOwner = "Faas-File-Owner" // uid:gid
)

// FileType names a type of file.
func FileType(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "file"
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeSymlink != 0:
		return "symlink"
	case mode&fs.ModeNamedPipe != 0:
		return "fifo"
	case mode&fs.ModeSocket != 0:
		return "socket"
	default:
		return "device"
	}
}

// Bits above the permissions, as in POSIX.
const (
	setuid = 0o4000
	setgid = 0o2000
	sticky = 0o1000
)

// FileMode turns a mode into the number that FileInfo.Mode shows in octal.
func FileMode(mode fs.FileMode) uint32 {
	n := uint32(mode.Perm())
	for bit, posix := range modeBits {
		if mode&bit != 0 {
			n |= posix
		}
	}
	return n
}

// ParseFileMode is the inverse of FileMode.
func ParseFileMode(n uint32) fs.FileMode {
	mode := fs.FileMode(n) & fs.ModePerm
	for bit, posix := range modeBits {
		if n&posix != 0 {
			mode |= bit
		}
	}
	return mode
}

var modeBits = map[fs.FileMode]uint32{fs.ModeSetuid: setuid, fs.ModeSetgid: setgid, fs.ModeSticky: sticky}

// PathEvents is the stream of a project's events; PathLogs begins those of
// executions' logs.
const (
	PathEvents = "/api/v1/events"
	PathLogs   = "/api/v1/logs"
)

// Event is one change in a project, the data of one event of PathEvents. The
// object is as it was afterwards; of what was deleted only the id is there.
type Event struct {
	Seq       int64           `json:"seq" doc:"Continue after it with Last-Event-ID or since."`
	Type      faas.EventType  `json:"type" enum:"instance.created,instance.changed,instance.deleted,snapshot.created,snapshot.changed,snapshot.deleted,execution.started,execution.ended,lost"`
	Time      time.Time       `json:"time"`
	ID        string          `json:"id" doc:"Of the object."`
	Instance  *Instance       `json:"instance,omitempty"`
	Snapshot  *Snapshot       `json:"snapshot,omitempty"`
	Execution *faas.Execution `json:"execution,omitempty"`
}

// NewEvent puts an event into the form of the wire.
func NewEvent(seq int64, e faas.Event) Event {
	event := Event{Seq: seq, Type: e.Type, Time: e.Time, ID: e.ID, Execution: e.Execution}
	if e.Instance != nil {
		event.Instance = NewInstance(e.Instance)
	}
	if e.Snapshot != nil {
		event.Snapshot = NewSnapshot(e.Snapshot)
	}
	return event
}

// EventsLost is the type of the event that tells a reader who came back late
// that others were before, which are not kept any more: it lists anew.
const EventsLost = "lost"

// Logs is the output of an execution so far.
type Logs struct {
	ExecutionID  string               `json:"execution_id"`
	Status       faas.ExecutionStatus `json:"status"`
	Stdout       string               `json:"stdout"`
	Stderr       string               `json:"stderr"`
	StdoutBase64 []byte               `json:"stdout_base64,omitempty" doc:"Standard output, when it is not UTF-8."`
	StderrBase64 []byte               `json:"stderr_base64,omitempty" doc:"Standard error, when it is not UTF-8."`
	Truncated    bool                 `json:"truncated" doc:"There was more than is kept."`
}

// NewLogs puts output into the form of the wire.
func NewLogs(x *faas.Execution, stdout, stderr []byte, truncated bool) *Logs {
	l := &Logs{ExecutionID: x.ID, Status: x.Status, Truncated: truncated}
	l.Stdout, l.StdoutBase64 = text(stdout)
	l.Stderr, l.StderrBase64 = text(stderr)
	return l
}
