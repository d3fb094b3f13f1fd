package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/executor"
	"github.com/faas-platform/faas/internal/config"
	"github.com/faas-platform/faas/snapshot/chunk"
)

// coldAnswers bounds the wait for a remote tier at the start.
const coldAnswers = 10 * time.Second

// tiers says how snapshots are kept. A remote tier that does not answer just
// now keeps nobody from starting; one that is configured wrongly does.
func tiers(cfg *config.Loaded, log *slog.Logger) (executor.Tiers, error) {
	s := cfg.Snapshots
	out := executor.Tiers{
		ArchiveAfter: time.Duration(s.ArchiveAfter), HotBytes: s.HotMB << 20,
		EvictAfter: time.Duration(s.EvictAfter), MaxDepth: int(s.MaxDepth),
	}
	key, err := coldKey(s.KeyFile)
	if err != nil || s.Cold == "" {
		return out, err
	}
	var backend chunk.Backend = chunk.Dir(s.Cold)
	if _, _, remote := s.Bucket(); remote {
		if backend, err = bucket(s, log); err != nil {
			return out, err
		}
	} else if err := os.MkdirAll(filepath.Clean(s.Cold), 0o700); err != nil {
		return out, faas.InvalidField("snapshots.cold", "%v", err)
	}
	out.Cold, err = chunk.Open(backend, key)
	return out, err
}

func bucket(s config.Snapshots, log *slog.Logger) (chunk.Backend, error) {
	endpoint := s.S3Endpoint
	if endpoint == "" {
		endpoint = "https://s3.amazonaws.com"
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, faas.InvalidField("snapshots.s3_endpoint", "%v", err)
	}
	name, prefix, _ := s.Bucket()
	remote, err := chunk.NewS3(chunk.S3Options{
		Endpoint: u.Host, Plain: u.Scheme == "http", Bucket: name, Prefix: prefix,
		Region: s.S3Region, AccessKey: s.S3AccessKey, SecretKey: s.S3SecretKey,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), coldAnswers)
	defer cancel()
	if err := remote.Check(ctx); errors.Is(err, faas.ErrUnavailable) {
		log.Warn("the cold tier does not answer; snapshots stay hot until it does", "cold", s.Cold, "error", err)
	} else if err != nil {
		return nil, err
	}
	return remote, nil
}

// coldKey reads the key that encrypts cold copies; nil without a file.
func coldKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, faas.InvalidField("snapshots.key_file", "%v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, faas.InvalidField("snapshots.key_file", "%v", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, faas.InvalidField("snapshots.key_file", "%s can be read by others: chmod 600 it", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, 4*chunk.KeySize))
	if err != nil {
		return nil, faas.InvalidField("snapshots.key_file", "%v", err)
	}
	if len(b) == chunk.KeySize {
		return b, nil
	}
	key := make([]byte, chunk.KeySize)
	text := bytes.TrimSpace(b)
	if n, err := hex.Decode(key, text[:min(len(text), 2*chunk.KeySize)]); err != nil || n != chunk.KeySize || len(text) != 2*chunk.KeySize {
		return nil, faas.InvalidField("snapshots.key_file", "%s holds neither %d bytes nor %d hexadecimal digits", path, chunk.KeySize, 2*chunk.KeySize)
	}
	return key, nil
}
