package chunk

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/faas-platform/faas"
)

// KeySize is the length of an encryption key in bytes.
const KeySize = 32

// MaxBlob bounds one blob's content in bytes; the largest are indices of
// snapshots.
const MaxBlob = 256 << 20

// prefix is where pieces lie in the backend.
const prefix = "chunks/"

// Ref names a piece: its digest in hexadecimal.
type Ref string

// Store keeps pieces in a backend.
type Store struct {
	backend Backend
	encoder *zstd.Encoder
	decoder *zstd.Decoder
	small   *zstd.Decoder // of pieces from elsewhere
	naming  []byte        // key of the digests; nil: plain
	seal    cipher.AEAD   // nil: not encrypted
}

// Open returns a store over a backend. A key encrypts what is written from now
// on and is needed to read it; nil stores in the clear.
func Open(backend Backend, key []byte) (*Store, error) {
	s := &Store{backend: backend}
	var err error
	if s.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)); err != nil {
		return nil, err
	}
	if s.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBlob)); err != nil {
		return nil, err
	}
	if s.small, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxPiece)); err != nil {
		return nil, err
	}
	if key == nil {
		return s, nil
	}
	if len(key) != KeySize {
		return nil, faas.Errorf(faas.KindInvalidArgument, "the encryption key has %d bytes, not %d", len(key), KeySize)
	}
	// Two keys from one: a digest must not help against the cipher.
	s.naming = derive(key, "names")
	block, err := aes.NewCipher(derive(key, "content"))
	if err != nil {
		return nil, err
	}
	s.seal, err = cipher.NewGCM(block)
	return s, err
}

func derive(key []byte, purpose string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("faas snapshot " + purpose)) //nolint:errcheck // a hash never fails
	return h.Sum(nil)
}

// Name returns the name of what a piece holds.
func (s *Store) Name(content []byte) Ref {
	var h hash.Hash
	if s.naming == nil {
		h = sha256.New()
	} else {
		h = hmac.New(sha256.New, s.naming)
	}
	h.Write(content) //nolint:errcheck // a hash never fails
	return Ref(hex.EncodeToString(h.Sum(nil)))
}

func (r Ref) blob() string { return prefix + string(r[:2]) + "/" + string(r) }

// Valid says whether the name has the form that Name gives.
func (r Ref) Valid() bool {
	_, err := hex.DecodeString(string(r))
	return err == nil && len(r) == 2*sha256.Size
}

// Put stores a piece, unless it is there already, and returns its name and how
// many bytes that took.
func (s *Store) Put(ctx context.Context, content []byte) (Ref, int64, error) {
	ref := s.Name(content)
	have, err := s.backend.Has(ctx, ref.blob())
	if err != nil || have {
		return ref, 0, err
	}
	blob, err := s.encode(content, ref.blob())
	if err != nil {
		return "", 0, err
	}
	if err := s.backend.Put(ctx, ref.blob(), blob); err != nil {
		return "", 0, fmt.Errorf("store piece %s: %w", ref, err)
	}
	return ref, int64(len(blob)), nil
}

// Get returns a piece. One that is missing, or does not hold what its name
// says, is faas.ErrFailedPrecondition.
func (s *Store) Get(ctx context.Context, ref Ref) ([]byte, error) {
	if !ref.Valid() {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "%q names no piece", ref)
	}
	blob, err := s.backend.Get(ctx, ref.blob())
	if errors.Is(err, faas.ErrNotFound) {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "piece %s is missing", ref)
	}
	if err != nil {
		return nil, fmt.Errorf("read piece %s: %w", ref, err)
	}
	content, err := s.decode(blob, ref.blob())
	if err != nil {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "piece %s is damaged: %w", ref, err)
	}
	if s.Name(content) != ref {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "piece %s is damaged: it holds something else", ref)
	}
	return content, nil
}

// Accept stores a piece in the form in which another store had it, when it
// holds what its name says and is no larger than a Cutter cuts; otherwise
// faas.ErrFailedPrecondition. Only what is not encrypted can be accepted.
func (s *Store) Accept(ctx context.Context, ref Ref, blob []byte) error {
	if len(blob) == 0 || blob[0] != formClear {
		return faas.Errorf(faas.KindFailedPrecondition, "piece %s is of an unknown form", ref)
	}
	var h zstd.Header
	if err := h.Decode(blob[1:]); err == nil && h.HasFCS && h.FrameContentSize > MaxPiece {
		return faas.Errorf(faas.KindFailedPrecondition, "piece %s unpacks to more than %d bytes", ref, MaxPiece)
	}
	content, err := s.small.DecodeAll(blob[1:], nil)
	if err != nil {
		return faas.Errorf(faas.KindFailedPrecondition, "piece %s is damaged: %w", ref, err)
	}
	if s.Name(content) != ref {
		return faas.Errorf(faas.KindFailedPrecondition, "piece %s is damaged: it holds something else", ref)
	}
	return s.backend.Put(ctx, ref.blob(), blob)
}

// PutBlob stores a blob under a name of the caller's, compressed and
// encrypted like a piece.
func (s *Store) PutBlob(ctx context.Context, name string, content []byte) (int64, error) {
	blob, err := s.encode(content, name)
	if err != nil {
		return 0, err
	}
	return int64(len(blob)), s.backend.Put(ctx, name, blob)
}

// GetBlob returns a blob that PutBlob stored.
func (s *Store) GetBlob(ctx context.Context, name string) ([]byte, error) {
	blob, err := s.backend.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	content, err := s.decode(blob, name)
	if err != nil {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "blob %s is damaged: %w", name, err)
	}
	return content, nil
}

// DeleteBlob removes a blob that PutBlob stored.
func (s *Store) DeleteBlob(ctx context.Context, name string) error {
	return s.backend.Delete(ctx, name)
}

// Sweep removes every piece that keep does not name and returns the bytes
// freed. A piece that is stored meanwhile must be named by keep: the caller
// runs no Put of new snapshots beside it.
func (s *Store) Sweep(ctx context.Context, keep func(Ref) bool) (int64, error) {
	var freed int64
	err := s.backend.List(ctx, prefix, func(name string, size int64) error {
		ref := Ref(name[max(0, len(name)-2*sha256.Size):])
		if !ref.Valid() || keep(ref) {
			return nil
		}
		if err := s.backend.Delete(ctx, name); err != nil {
			return err
		}
		freed += size
		return nil
	})
	return freed, err
}

// The first byte of a blob says how it is kept.
const (
	formClear  = 1 // zstd
	formSealed = 2 // nonce, then AES-256-GCM over zstd, bound to the blob's name
)

func (s *Store) encode(content []byte, name string) ([]byte, error) {
	if s.seal == nil {
		return s.encoder.EncodeAll(content, []byte{formClear}), nil
	}
	nonce := make([]byte, s.seal.NonceSize())
	rand.Read(nonce) //nolint:errcheck // crypto/rand.Read never fails since Go 1.24
	out := append([]byte{formSealed}, nonce...)
	return s.seal.Seal(out, nonce, s.encoder.EncodeAll(content, nil), []byte(name)), nil
}

func (s *Store) decode(blob []byte, name string) ([]byte, error) {
	switch {
	case len(blob) == 0:
		return nil, errors.New("it is empty")
	case blob[0] == formClear:
		return s.decoder.DecodeAll(blob[1:], nil)
	case blob[0] != formSealed:
		return nil, fmt.Errorf("its form %d is unknown", blob[0])
	case s.seal == nil:
		return nil, errors.New("it is encrypted and no key is configured")
	case len(blob) < 1+s.seal.NonceSize():
		return nil, errors.New("it is cut short")
	}
	nonce, sealed := blob[1:1+s.seal.NonceSize()], blob[1+s.seal.NonceSize():]
	packed, err := s.seal.Open(nil, nonce, sealed, []byte(name))
	if err != nil {
		return nil, errors.New("it does not open with the configured key")
	}
	return s.decoder.DecodeAll(packed, nil)
}

// SweepBlobs removes the blobs with a prefix that keep does not name.
func (s *Store) SweepBlobs(ctx context.Context, prefix string, keep func(name string) bool) (int64, error) {
	var freed int64
	err := s.backend.List(ctx, prefix, func(name string, size int64) error {
		if keep(name) {
			return nil
		}
		freed += size
		return s.backend.Delete(ctx, name)
	})
	return freed, err
}

// Over returns a store that names, compresses and encrypts as s does, over
// another backend.
func (s *Store) Over(b Backend) *Store {
	other := *s
	other.backend = b
	return &other
}

// Under returns a store that keeps everything below a prefix, which ends in a
// slash.
func (s *Store) Under(prefix string) *Store {
	return s.Over(below{s.backend, prefix})
}

// below is a Backend within another.
type below struct {
	backend Backend
	prefix  string
}

func (b below) Put(ctx context.Context, name string, content []byte) error {
	return b.backend.Put(ctx, b.prefix+name, content)
}

func (b below) Get(ctx context.Context, name string) ([]byte, error) {
	return b.backend.Get(ctx, b.prefix+name)
}

func (b below) Has(ctx context.Context, name string) (bool, error) {
	return b.backend.Has(ctx, b.prefix+name)
}

func (b below) Delete(ctx context.Context, name string) error {
	return b.backend.Delete(ctx, b.prefix+name)
}

func (b below) List(ctx context.Context, prefix string, f func(string, int64) error) error {
	return b.backend.List(ctx, b.prefix+prefix, func(name string, size int64) error {
		return f(strings.TrimPrefix(name, b.prefix), size)
	})
}

// Discard is a Backend that claims to hold everything and keeps nothing: for
// naming what content would be stored as.
type Discard struct{}

// Put does nothing.
func (Discard) Put(context.Context, string, []byte) error { return nil }

// Get finds nothing.
func (Discard) Get(_ context.Context, name string) ([]byte, error) {
	return nil, faas.Errorf(faas.KindNotFound, "blob %s is missing", name)
}

// Has claims to hold it.
func (Discard) Has(context.Context, string) (bool, error) { return true, nil }

// Delete does nothing.
func (Discard) Delete(context.Context, string) error { return nil }

// List lists nothing.
func (Discard) List(context.Context, string, func(string, int64) error) error { return nil }
