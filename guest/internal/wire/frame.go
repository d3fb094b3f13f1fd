// Package wire is what the host's client and the agent share: the handshake,
// the frames of a connection, and the streams that they carry.
//
// A connection carries any number of streams. A stream is one operation: the
// client opens it with a request, both ends send messages and data, the agent
// ends it with a result. Data flows in channels (standard output and standard
// error of a command are two channels of one stream), each with a window of
// its own: an end never sends more than its peer has room for. The reading
// side of a connection therefore never waits for whoever consumes a stream,
// and a neglected channel holds up nothing but its own source. The same holds
// whether a connection carries one stream or all of them.
//
// Every length is bounded before anything is allocated, and a peer that
// breaks a rule loses its connection.
package wire

import (
	"encoding/binary"
	"fmt"
)

// FrameType says what a frame is.
type FrameType uint8

// The frames. Payloads of Open, Reply, Control and Result are JSON.
const (
	FrameOpen    FrameType = 1 + iota // client: begin a stream
	FrameReply                        // agent: the operation has begun; a second one: the command has ended
	FrameData                         // bytes of a channel
	FrameEnd                          // no more bytes on a channel
	FrameWindow                       // four bytes: room for so many more bytes on a channel
	FrameControl                      // client: signal, resize, kill
	FrameResult                       // agent: how the operation ended; its last message
	FrameReset                        // client: abort the operation; it has forgotten the stream
	FrameDetach                       // nothing more of a stream comes on this connection, though it goes on
	FrameGoAway                       // agent: opens no more streams on this connection; payload: the last stream taken
	FrameStop                         // the receiver of a channel wants no more of it
	frameTypes
)

// Sizes of the protocol's first version, in bytes.
const (
	HeaderSize   = 12
	MaxMessage   = 1 << 20   // largest payload that is not data
	MaxData      = 128 << 10 // largest payload of one data frame
	Window       = 1 << 20   // room for each channel of a new stream
	channels     = 2         // per stream and direction
	windowUpdate = Window / 4
	windowSize   = 4
)

// Header precedes every payload: type, channel, two reserved bytes, stream,
// length, all big-endian.
type Header struct {
	Type    FrameType
	Channel uint8
	Stream  uint32
	Length  uint32
}

// Put writes the header into the first HeaderSize bytes of b.
func (h Header) Put(b []byte) {
	b[0], b[1], b[2], b[3] = byte(h.Type), h.Channel, 0, 0
	binary.BigEndian.PutUint32(b[4:], h.Stream)
	binary.BigEndian.PutUint32(b[8:], h.Length)
}

// ParseHeader reads a header and refuses one that no peer may send.
func ParseHeader(b []byte) (Header, error) {
	h := Header{
		Type:    FrameType(b[0]),
		Channel: b[1],
		Stream:  binary.BigEndian.Uint32(b[4:]),
		Length:  binary.BigEndian.Uint32(b[8:]),
	}
	if h.Type == 0 || h.Type >= frameTypes {
		return h, fmt.Errorf("frame of unknown type %d", h.Type)
	}
	if h.Channel >= channels {
		return h, fmt.Errorf("frame for channel %d", h.Channel)
	}
	limit := uint32(MaxMessage)
	switch h.Type {
	case FrameData:
		limit = MaxData
	case FrameWindow, FrameGoAway:
		limit = windowSize
	case FrameEnd, FrameReset, FrameDetach, FrameStop:
		limit = 0
	}
	if h.Length > limit {
		return h, fmt.Errorf("frame of type %d claims %d bytes, at most %d are allowed", h.Type, h.Length, limit)
	}
	return h, nil
}
