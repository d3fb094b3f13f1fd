package wire

import (
	"encoding/binary"
	"errors"
	"io"
)

// An open file is one stream whose bodies carry these messages, requests one
// way and answers the other. Requests may be on the way together; each has a
// number, and its answer carries it.
const (
	HandleRead  = 'r'
	HandleWrite = 'w'
)

// Statuses of an answer. The payload of HandleFailed is an Error as JSON.
const (
	HandleDone   = 0
	HandleEnd    = 1 // the file ends before the offset, or within what was read
	HandleFailed = 2
)

// HandleChunk is the most that one message reads or writes, in bytes.
const HandleChunk = 64 << 10

const handleHeader = 17

// HandleMessage is one request or answer.
type HandleMessage struct {
	Op     byte // or the status of an answer
	Number uint32
	Offset int64
	Length uint32 // asked for, or of Data
	Data   []byte
}

// Append appends the message's wire form to b.
func (m HandleMessage) Append(b []byte) []byte {
	b = append(b, m.Op)
	b = binary.BigEndian.AppendUint32(b, m.Number)
	b = binary.BigEndian.AppendUint64(b, uint64(m.Offset))
	b = binary.BigEndian.AppendUint32(b, m.Length)
	return append(b, m.Data...)
}

// ReadHandleMessage reads one message; carries says whether data of the
// message's length follows the header of a message with that Op. The data is
// in buf, which has room for HandleChunk bytes.
func ReadHandleMessage(r io.Reader, buf []byte, carries func(op byte) bool) (HandleMessage, error) {
	var m HandleMessage
	var head [handleHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, err
	}
	m.Op = head[0]
	m.Number = binary.BigEndian.Uint32(head[1:])
	m.Offset = int64(binary.BigEndian.Uint64(head[5:]))
	m.Length = binary.BigEndian.Uint32(head[13:])
	if m.Length > HandleChunk || m.Offset < 0 {
		return m, errors.New("a message about an open file is out of bounds")
	}
	if carries(m.Op) {
		m.Data = buf[:m.Length]
		if _, err := io.ReadFull(r, m.Data); err != nil {
			return m, err
		}
	}
	return m, nil
}
