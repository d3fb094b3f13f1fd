package meta

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"time"

	"github.com/faas-platform/faas"
)

// The events of an execution.
const (
	opBegin = "begin"
	opEnd   = "end"
)

// maxLine bounds one line of a journal: the bounds of a record, base64 and
// JSON escapes included.
const maxLine = 2 << 20

// record is an execution as the journal and the database keep it.
type record struct {
	ID         string          `json:"id"`
	Project    string          `json:"project"`
	Status     string          `json:"status"`
	Command    []string        `json:"command"`
	Image      string          `json:"image"`
	Runtime    string          `json:"runtime"`
	Mode       string          `json:"mode"`
	Instance   string          `json:"instance,omitempty"`
	CreatedAt  int64           `json:"created_at"` // Unix microseconds
	FinishedAt int64           `json:"finished_at,omitempty"`
	Result     json.RawMessage `json:"result,omitempty"`
	Error      string          `json:"error,omitempty"`
}

// event is one line of a journal.
type event struct {
	Op     string `json:"op"`
	Record record `json:"record"`
}

// storedResult is a Result with its output, which the API's form of it leaves
// to the front doors.
type storedResult struct {
	faas.Result
	Stdout []byte `json:"stdout,omitempty"`
	Stderr []byte `json:"stderr,omitempty"`
}

// newRecord cuts an execution to the bounds of a record.
func newRecord(exec faas.Execution) (record, error) {
	rec := record{
		ID: exec.ID, Project: exec.Project, Status: string(exec.Status),
		Command: cutCommand(exec.Command), Image: exec.Image,
		Runtime: string(exec.Runtime), Mode: string(exec.Mode), Instance: exec.InstanceID,
		CreatedAt: exec.CreatedAt.UnixMicro(), Error: cutText(exec.Error, maxError),
	}
	if exec.FinishedAt != nil {
		rec.FinishedAt = exec.FinishedAt.UnixMicro()
	}
	if exec.Result == nil {
		return rec, nil
	}
	stored := storedResult{Result: *exec.Result, Stdout: exec.Result.Stdout, Stderr: exec.Result.Stderr}
	stored.Error = cutText(stored.Error, maxError)
	if len(stored.Stdout) > MaxOutput {
		stored.Stdout, stored.Truncated = stored.Stdout[:MaxOutput], true
	}
	if len(stored.Stderr) > MaxOutput {
		stored.Stderr, stored.Truncated = stored.Stderr[:MaxOutput], true
	}
	encoded, err := json.Marshal(stored)
	if err != nil {
		return record{}, faas.Errorf(faas.KindInternal, "encode the result of %s: %w", exec.ID, err)
	}
	rec.Result = encoded
	return rec, nil
}

// execution is the inverse of newRecord, less what was cut.
func (r record) execution() (faas.Execution, error) {
	exec := faas.Execution{
		ID: r.ID, Project: r.Project, Status: faas.ExecutionStatus(r.Status), Command: r.Command,
		Image: r.Image, Runtime: faas.Runtime(r.Runtime), Mode: faas.Mode(r.Mode), InstanceID: r.Instance,
		CreatedAt: time.UnixMicro(r.CreatedAt).UTC(), Error: r.Error,
	}
	if r.FinishedAt != 0 {
		t := time.UnixMicro(r.FinishedAt).UTC()
		exec.FinishedAt = &t
	}
	if len(r.Result) > 0 {
		var stored storedResult
		if err := json.Unmarshal(r.Result, &stored); err != nil {
			return exec, faas.Errorf(faas.KindInternal, "the recorded result of %s cannot be read: %w", r.ID, err)
		}
		result := stored.Result
		result.Stdout, result.Stderr = stored.Stdout, stored.Stderr
		exec.Result = &result
	}
	return exec, nil
}

// cutCommand keeps the first MaxCommand bytes of a command and says in a last
// argument how much is missing.
func cutCommand(args []string) []string {
	room := MaxCommand
	for i, arg := range args {
		if len(arg) > room {
			missing := len(arg) - room
			for _, rest := range args[i+1:] {
				missing += len(rest)
			}
			kept := append(append([]string(nil), args[:i]...), arg[:room])
			return append(kept, fmt.Sprintf("… (%d bytes not recorded)", missing))
		}
		room -= len(arg)
	}
	return args
}

func cutText(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}

// encodeEvent returns the journal's line for an event: an empty line, then
// the CRC-32 of a JSON object and the object. The line feed in front ends what
// a failed write may have left, so that it spoils no line but its own.
func encodeEvent(op string, exec faas.Execution) ([]byte, record, error) {
	rec, err := newRecord(exec)
	if err != nil {
		return nil, rec, err
	}
	body, err := json.Marshal(event{Op: op, Record: rec})
	if err != nil {
		return nil, rec, faas.Errorf(faas.KindInternal, "encode the %s of %s: %w", op, exec.ID, err)
	}
	line := make([]byte, 0, len(body)+11)
	line = fmt.Appendf(line, "\n%08x ", crc32.ChecksumIEEE(body))
	line = append(line, body...)
	return append(line, '\n'), rec, nil
}

// decodeLine reads one line without its line feed.
func decodeLine(line []byte) (event, bool) {
	var ev event
	if len(line) < 10 || line[8] != ' ' {
		return ev, false
	}
	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	if err != nil || uint32(sum) != crc32.ChecksumIEEE(line[9:]) {
		return ev, false
	}
	if json.Unmarshal(line[9:], &ev) != nil || ev.Record.ID == "" {
		return ev, false
	}
	return ev, ev.Op == opBegin || ev.Op == opEnd
}

// readEvents hands every whole event of a journal to yield, in order, and
// counts the lines that are none: a write that its process's death cut short.
func readEvents(r io.Reader, yield func(event) error) (damaged int, err error) {
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			damaged++
			if err := skipLine(lines); err != nil {
				return damaged, err
			}
			continue
		case err != nil && err != io.EOF:
			return damaged, err
		}
		atEnd := err == io.EOF
		if line = bytes.TrimSuffix(line, []byte("\n")); len(line) > 0 {
			if ev, ok := decodeLine(line); !ok {
				damaged++
			} else if err := yield(ev); err != nil {
				return damaged, err
			}
		}
		if atEnd {
			return damaged, nil
		}
	}
}

// skipLine reads on to the end of an overlong line.
func skipLine(lines *bufio.Reader) error {
	for {
		_, err := lines.ReadSlice('\n')
		if err == nil || err == io.EOF {
			return nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}
