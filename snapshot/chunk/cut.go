package chunk

import (
	"errors"
	"io"
)

// The sizes of pieces in bytes. Small pieces share more and cost more to
// name; these keep the index of 1 GiB near a thousand entries.
const (
	minSize    = 256 << 10
	targetSize = 1 << 20
	maxSize    = 4 << 20
)

// MaxPiece is the size of the largest piece that a Cutter cuts.
const MaxPiece = maxSize

// The masks of normalised content-defined chunking (FastCDC, Xia et al.,
// USENIX ATC 2016): harder to meet before the target size than after it, so
// that sizes gather around it. They take the hash's upper bits, which depend
// on the most bytes.
const (
	maskBefore = uint64(1<<22-1) << 42
	maskAfter  = uint64(1<<18-1) << 46
)

// gear gives each byte value a random-looking word. It decides where pieces
// end, so it must never change: stored pieces would stop matching new ones.
var gear = makeGear()

// makeGear fills the table by splitmix64 from a fixed seed.
func makeGear() (table [256]uint64) {
	state := uint64(0x666161732d63756e)
	for i := range table {
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		table[i] = z ^ z>>31
	}
	return table
}

// Cutter cuts a stream into pieces at places that its content decides, so
// that an insertion moves the cuts around it and no others.
type Cutter struct {
	r    io.Reader
	buf  []byte // maxSize long; buf[:have] is read and not yet handed out
	have int
	last int // length of the piece handed out before
	err  error
}

// NewCutter returns a cutter for r.
func NewCutter(r io.Reader) *Cutter {
	return &Cutter{r: r, buf: make([]byte, maxSize)}
}

// Next returns the next piece, valid until the call after, and io.EOF behind
// the last.
func (c *Cutter) Next() ([]byte, error) {
	c.have = copy(c.buf, c.buf[c.last:c.have])
	c.last = 0
	for c.err == nil && c.have < len(c.buf) {
		var n int
		n, c.err = c.r.Read(c.buf[c.have:])
		c.have += n
	}
	if c.err != nil && !errors.Is(c.err, io.EOF) {
		return nil, c.err
	}
	if c.have == 0 {
		return nil, io.EOF
	}
	c.last = cut(c.buf[:c.have])
	return c.buf[:c.last], nil
}

// cut returns the length of the piece at the start of b.
func cut(b []byte) int {
	if len(b) <= minSize {
		return len(b)
	}
	var hash uint64
	i := minSize
	for ; i < min(len(b), targetSize); i++ {
		hash = hash<<1 + gear[b[i]]
		if hash&maskBefore == 0 {
			return i + 1
		}
	}
	for ; i < len(b); i++ {
		hash = hash<<1 + gear[b[i]]
		if hash&maskAfter == 0 {
			return i + 1
		}
	}
	return i
}
