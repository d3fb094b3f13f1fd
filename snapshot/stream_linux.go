package snapshot

import (
	"bufio"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash"
	"io"

	"github.com/faas-platform/faas"
)

// An exported snapshot is one stream of frames behind a magic:
//
//	type (1 byte)  length (4, big endian)  payload
//
// in this order: one header; for each layer, the lowest first, the pieces of
// its files that no earlier frame had, then its description; at the end a
// signature by the exporting installation over all that came before. Nothing
// follows it.
const streamMagic = "faas snapshot 1\n"

// The frames.
const (
	frameHeader    = 'H' // streamHeader
	framePiece     = 'P' // digest, then the blob as the cold tier has it
	frameSnapshot  = 'S' // index
	frameSignature = 'E' // of the SHA-256 of the stream so far
)

// What a frame may hold at most, in bytes: a reader allocates no more.
const (
	maxHeaderFrame   = 4 << 10
	maxPieceFrame    = sha256.Size + 5<<20
	maxSnapshotFrame = 64 << 20
)

// streamHeader begins a stream.
type streamHeader struct {
	Version   int               `json:"version"`
	Layers    int               `json:"layers"` // how many descriptions follow
	PublicKey ed25519.PublicKey `json:"public_key"`
	// Owner is the id of root in the sandboxes of the exporting machine; that
	// of the files in memory parts, which are as they were there. Those of
	// layers are as they are inside.
	Owner uint32 `json:"owner"`
}

// streamWriter writes frames and hashes them.
type streamWriter struct {
	w    *bufio.Writer
	hash hash.Hash
}

func newStreamWriter(w io.Writer) *streamWriter {
	s := &streamWriter{hash: sha256.New()}
	s.w = bufio.NewWriterSize(io.MultiWriter(w, s.hash), 64<<10)
	return s
}

func (s *streamWriter) frame(kind byte, parts ...[]byte) error {
	var size int
	for _, p := range parts {
		size += len(p)
	}
	if _, err := s.w.Write(binary.BigEndian.AppendUint32([]byte{kind}, uint32(size))); err != nil { //nolint:gosec // far below its bounds
		return err
	}
	for _, p := range parts {
		if _, err := s.w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// sign ends the stream.
func (s *streamWriter) sign(key ed25519.PrivateKey) error {
	if err := s.w.Flush(); err != nil {
		return err
	}
	if err := s.frame(frameSignature, ed25519.Sign(key, s.hash.Sum(nil))); err != nil {
		return err
	}
	return s.w.Flush()
}

// streamReader reads frames of a stream that anybody may have made.
type streamReader struct {
	r    *bufio.Reader
	hash hash.Hash // of all before the frame that is read
	left int64     // bytes that the rest may have
}

func refuseStream(format string, args ...any) error {
	e := faas.InvalidField("body", "not a whole exported snapshot: "+format, args...)
	return e
}

func newStreamReader(r io.Reader, most int64) (*streamReader, error) {
	s := &streamReader{r: bufio.NewReaderSize(r, 64<<10), hash: sha256.New(), left: most}
	magic := make([]byte, len(streamMagic))
	if _, err := io.ReadFull(s.r, magic); err != nil {
		return nil, cutShort(err)
	}
	if string(magic) != streamMagic {
		return nil, refuseStream("it does not begin as one")
	}
	s.hash.Write(magic) //nolint:errcheck // a hash never fails
	return s, nil
}

// cutShort tells the end of a stream from an error of the connection.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return refuseStream("it is cut short")
	}
	return err
}

// next reads one frame.
func (s *streamReader) next() (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return 0, nil, cutShort(err)
	}
	size := int64(binary.BigEndian.Uint32(head[1:]))
	limit, known := map[byte]int64{
		frameHeader: maxHeaderFrame, framePiece: maxPieceFrame, frameSnapshot: maxSnapshotFrame, frameSignature: ed25519.SignatureSize,
	}[head[0]]
	switch {
	case !known:
		return 0, nil, refuseStream("there is no frame %q", head[0])
	case size > limit:
		return 0, nil, refuseStream("a frame %q says that it has %d bytes; %d are possible", head[0], size, limit)
	case size > s.left:
		return 0, nil, tooLarge()
	}
	s.left -= size
	payload, err = readGrowing(s.r, size)
	if err != nil {
		return 0, nil, cutShort(err)
	}
	if head[0] != frameSignature {
		s.hash.Write(head[:]) //nolint:errcheck // a hash never fails
		s.hash.Write(payload) //nolint:errcheck // a hash never fails
	}
	return head[0], payload, nil
}

// readGrowing reads size bytes; what was promised and does not come is not
// allocated.
func readGrowing(r io.Reader, size int64) ([]byte, error) {
	const step = 1 << 20
	var b []byte
	for int64(len(b)) < size {
		n := min(step, size-int64(len(b)))
		at := len(b)
		b = append(b, make([]byte, n)...)
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// end checks the signature and that nothing follows.
func (s *streamReader) end(signature []byte, key ed25519.PublicKey) error {
	if !ed25519.Verify(key, s.hash.Sum(nil), signature) {
		return refuseStream("its signature is not that of what it holds")
	}
	if _, err := s.r.ReadByte(); !errors.Is(err, io.EOF) {
		return refuseStream("something follows its end")
	}
	return nil
}

func tooLarge() error {
	return &faas.Error{Kind: faas.KindPayloadTooLarge, Op: "import snapshot",
		Detail: "it is larger than this installation takes", Remedy: "raise snapshots.max_import_mb"}
}

// decodeFrame reads the JSON of a frame, strictly.
func decodeFrame(payload []byte, into any, what string) error {
	if err := json.Unmarshal(payload, into); err != nil {
		return refuseStream("%s cannot be read: %v", what, err)
	}
	return nil
}
