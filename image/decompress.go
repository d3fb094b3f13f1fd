package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/faas-platform/faas"
)

// maxWindow bounds the memory of a zstd decoder: what `zstd --long` needs.
const maxWindow = 128 << 20

// ratioFrom is the unpacked size in bytes from which on the ratio of unpacked
// to packed size counts: small files of zeros are harmless.
const ratioFrom = 256 << 20

// decompress returns the tar stream in r, whichever compression it is in.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, faas.Errorf(faas.KindInvalidArgument, "not a gzip stream: %w", err)
		}
		return z, nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, faas.Errorf(faas.KindInvalidArgument, "not a zstd stream: %w", err)
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(buffered)), nil
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, &faas.Error{Kind: faas.KindInvalidArgument, Detail: "the archive is compressed with xz",
			Remedy: "recompress it with zstd or gzip"}
	}
	return io.NopCloser(buffered), nil
}

// meter passes a packed stream on, counts it, and ends it with its context.
type meter struct {
	ctx      context.Context
	r        io.Reader
	read     int64
	progress func(done int64)
}

func (m *meter) Read(p []byte) (int, error) {
	if m.ctx.Err() != nil {
		return 0, context.Cause(m.ctx)
	}
	n, err := m.r.Read(p)
	m.read += int64(n)
	if m.progress != nil {
		m.progress(m.read)
	}
	return n, err
}

// budget passes an unpacked stream on until it is longer than the limits
// allow for what has been read of the packed one.
type budget struct {
	r      io.Reader
	packed *meter
	limits Limits
	read   int64
}

func (b *budget) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.read += int64(n)
	switch {
	case b.read > b.limits.MaxBytes:
		return n, tooLarge("it unpacks to more than %d bytes", b.limits.MaxBytes)
	case b.read > ratioFrom && b.read/b.limits.MaxRatio > b.packed.read:
		return n, tooLarge("it unpacks to more than %d times its size", b.limits.MaxRatio)
	}
	return n, err
}

func tooLarge(format string, args ...any) error {
	return &faas.Error{Kind: faas.KindPayloadTooLarge, Detail: fmt.Sprintf(format, args...),
		Remedy: "raise the image store's limits if the archive is to be trusted"}
}
