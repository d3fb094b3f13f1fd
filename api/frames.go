package api

import (
	"unicode/utf8"
)

// Types of the frames that a client sends over a WebSocket.
const (
	FrameExec       = "exec"
	FrameStdin      = "stdin"
	FrameCloseStdin = "close_stdin"
	FrameResize     = "resize"
	FrameSignal     = "signal"
)

// Types of the frames that the server sends, also the names of the events of
// an event stream.
const (
	FrameStarted   = "started" // the execution is on record, under ID
	FrameStdout    = "stdout"
	FrameStderr    = "stderr"
	FrameStdinAck  = "stdin_ack" // Bytes of standard input were consumed so far
	FrameExit      = "exit"
	FrameResult    = "result"
	FrameError     = "error"
	FrameHeartbeat = "heartbeat"
)

// StdinWindow is how many bytes of standard input a client may send beyond
// those acknowledged. One that sends more finds its later frames (signals
// among them) waiting until the command has read.
const StdinWindow = 1 << 20

// ClientFrame is one text frame from the client. A binary frame is raw
// standard input. Of an exec frame these are the fields besides those of an
// ExecuteRequest, in the same object.
type ClientFrame struct {
	Type       string  `json:"type"`
	TTY        bool    `json:"tty,omitempty"`  // exec: run in a terminal
	Cols       uint16  `json:"cols,omitempty"` // exec, resize
	Rows       uint16  `json:"rows,omitempty"` // exec, resize
	Data       *string `json:"data,omitempty"` // stdin
	DataBase64 []byte  `json:"data_base64,omitempty"`
	Signal     string  `json:"signal,omitempty"` // signal: a name ("SIGINT") or number
}

// ServerFrame is one text frame from the server, and the data of one event of
// an event stream. With ?binary=1 standard output comes as binary frames.
type ServerFrame struct {
	Type       string           `json:"type"`
	Seq        int64            `json:"seq"`                   // counts every frame of the connection, binary ones included
	ID         string           `json:"id,omitempty"`          // started
	Data       *string          `json:"data,omitempty"`        // stdout, stderr: text
	DataBase64 []byte           `json:"data_base64,omitempty"` // stdout, stderr: in place of data where it is not UTF-8
	Bytes      int64            `json:"bytes,omitempty"`       // stdin_ack
	Code       *int             `json:"code,omitempty"`        // exit
	Signal     string           `json:"signal,omitempty"`      // exit
	Result     *ExecuteResponse `json:"result,omitempty"`      // result; without the output
	Error      *Problem         `json:"error,omitempty"`       // error
	Lost       int64            `json:"lost,omitempty"`        // stdout, stderr of a log: bytes before data that are not kept
}

// SetData puts output into a frame.
func (f *ServerFrame) SetData(output []byte) {
	if utf8.Valid(output) {
		text := string(output)
		f.Data = &text
		return
	}
	f.DataBase64 = output
}

// Output returns what SetData put in.
func (f *ServerFrame) Output() []byte {
	if f.Data != nil {
		return []byte(*f.Data)
	}
	return f.DataBase64
}

// Input returns the bytes of a stdin frame.
func (f *ClientFrame) Input() []byte {
	if f.Data != nil {
		return []byte(*f.Data)
	}
	return f.DataBase64
}
