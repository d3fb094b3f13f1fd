package wire

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/faas-platform/faas"
)

// Operations that a client may open.
const (
	OpHello     = "hello"
	OpConfigure = "configure"
	OpExec      = "exec"
	OpAttach    = "attach"
	OpRead      = "read"
	OpWrite     = "write"
	OpStat      = "stat"
	OpList      = "list"
	OpMkdir     = "mkdir"
	OpRemove    = "remove"
	OpRename    = "rename"
	OpTarOut    = "tar_out"
	OpTarIn     = "tar_in"
	OpWatch     = "watch"
	OpDial      = "dial"
	OpProcesses = "processes"
	OpStats     = "stats"
	OpQuiesce   = "quiesce"
	OpShutdown  = "shutdown"
)

// Operations that came after the first agents; one that does not know them
// says so (faas.KindCapabilityUnavailable).
const (
	OpOpen     = "open"
	OpSetAttr  = "set_attr"
	OpSymlink  = "symlink"
	OpLink     = "link"
	OpRealPath = "real_path"
	OpSpace    = "space"
	OpListen   = "listen"
	OpAccept   = "accept"
)

// Request opens a stream.
type Request struct {
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

// Outgoing is Request at the sending end.
type Outgoing struct {
	Op   string `json:"op"`
	Args any    `json:"args,omitempty"`
}

// Response is the payload of Reply and Result.
type Response struct {
	Error *Error          `json:"error,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// Answer is Response at the sending end.
type Answer struct {
	Error *Error `json:"error,omitempty"`
	Value any    `json:"value,omitempty"`
}

// Started answers OpExec.
type Started struct {
	ID  string `json:"id"`
	PID int    `json:"pid"`
}

// Attach resumes a command's streams. Room is what the client can take of
// each channel, Stdin what the agent can.
type Attach struct {
	ID   string        `json:"id"`
	Room [channels]int `json:"room"`
}

// Attached answers OpAttach.
type Attached struct {
	Stdin *int `json:"stdin,omitempty"`
}

// Quiesced answers OpQuiesce.
type Quiesced struct {
	EndUnseen bool `json:"end_unseen,omitempty"` // the client does not see the connection's end, and ends it itself
}

// Control is the payload of a Control frame; one field is set.
type Control struct {
	Signal int        `json:"signal,omitempty"`
	Kill   bool       `json:"kill,omitempty"` // everything that the command started
	Size   *[2]uint16 `json:"size,omitempty"` // columns, rows
}

// FileArgs are the arguments of the file operations.
type FileArgs struct {
	Path      string      `json:"path"`
	To        string      `json:"to,omitempty"`
	Offset    int64       `json:"offset,omitempty"`
	Length    int64       `json:"length,omitempty"`
	Recursive bool        `json:"recursive,omitempty"`
	Mode      fs.FileMode `json:"mode,omitempty"`
	User      string      `json:"user,omitempty"`
	Parents   bool        `json:"parents,omitempty"`
	Append    bool        `json:"append,omitempty"`
}

// OpenArgs are the arguments of OpOpen.
type OpenArgs struct {
	Path      string      `json:"path"`
	Read      bool        `json:"read,omitempty"`
	Write     bool        `json:"write,omitempty"`
	Create    bool        `json:"create,omitempty"`
	Exclusive bool        `json:"exclusive,omitempty"`
	Truncate  bool        `json:"truncate,omitempty"`
	Mode      fs.FileMode `json:"mode,omitempty"`
	User      string      `json:"user,omitempty"`
}

// AttrArgs are the arguments of OpSetAttr; what is nil stays as it is.
type AttrArgs struct {
	Path    string       `json:"path"`
	Mode    *fs.FileMode `json:"mode,omitempty"`
	UID     *int         `json:"uid,omitempty"`
	GID     *int         `json:"gid,omitempty"`
	Size    *int64       `json:"size,omitempty"`
	Access  *time.Time   `json:"access,omitempty"`
	ModTime *time.Time   `json:"mod_time,omitempty"`
}

// ListenArgs are the arguments of OpListen. With network unix and no address
// the agent chooses a socket in a directory of its own.
type ListenArgs struct {
	Network string `json:"network"`
	Address string `json:"address,omitempty"`
	User    string `json:"user,omitempty"` // who owns a socket
}

// Listening answers OpListen.
type Listening struct {
	Address string `json:"address"`
}

// Incoming is one line of a listening stream's body: a connection that waits
// for OpAccept.
type Incoming struct {
	ID     string `json:"id"`
	Remote string `json:"remote"`
}

// AcceptArgs are the arguments of OpAccept.
type AcceptArgs struct {
	ID string `json:"id"`
}

// DialArgs are the arguments of OpDial.
type DialArgs struct {
	Network string `json:"network"`
	Address string `json:"address"`
}

// Causes that are told apart beyond an error's kind.
const (
	CauseNotFound      = "not_found"
	CauseNotExecutable = "not_executable"
)

// Error is a *faas.Error on the wire.
type Error struct {
	Kind       faas.Kind     `json:"kind"`
	Op         string        `json:"op,omitempty"`
	Field      string        `json:"field,omitempty"`
	Detail     string        `json:"detail,omitempty"`
	Remedy     string        `json:"remedy,omitempty"`
	RetryAfter time.Duration `json:"retry_after,omitempty"`
	Cause      string        `json:"cause,omitempty"`
}

// EncodeError makes the wire's form of err; nil stays nil.
func EncodeError(err error) *Error {
	if err == nil {
		return nil
	}
	out := &Error{Kind: faas.KindOf(err), Detail: err.Error()}
	var e *faas.Error
	if errors.As(err, &e) {
		out.Op, out.Field, out.Detail, out.Remedy, out.RetryAfter = e.Op, e.Field, e.Detail, e.Remedy, e.RetryAfter
		if e.Err != nil && e.Err.Error() != "" {
			out.Detail = strings.TrimPrefix(out.Detail+": "+e.Err.Error(), ": ")
		}
	}
	return out
}

// maxText bounds each text of a received error.
const maxText = 4 << 10

// Decode makes the *faas.Error that the wire's form stands for. The sender is
// not trusted: unknown kinds and long texts do not get through.
func (e *Error) Decode() *faas.Error {
	out := &faas.Error{
		Kind: e.Kind, Op: clip(e.Op), Field: clip(e.Field), Detail: clip(e.Detail), Remedy: clip(e.Remedy),
		RetryAfter: max(0, min(e.RetryAfter, time.Hour)),
	}
	if !slices.Contains(faas.Kinds(), e.Kind) {
		out.Kind = faas.KindInternal
	}
	return out
}

func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
