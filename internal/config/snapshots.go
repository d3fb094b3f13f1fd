package config

import (
	"crypto/ed25519"
	"encoding/base64"
	"path/filepath"
	"strings"

	"github.com/faas-platform/faas"
)

// The deepest chains of layers that may be configured: an overlay is mounted
// of all of them.
const (
	shallowest = 2
	deepest    = 64
)

func (s Snapshots) validate() error {
	_, _, remote := s.Bucket()
	checks := []struct {
		key string
		ok  bool
		why string
	}{
		{"cold", s.Cold == "" || remote || filepath.IsAbs(s.Cold), "must be an absolute path or s3://BUCKET[/PREFIX]"},
		{"s3_endpoint", s.S3Endpoint == "" || validURL(s.S3Endpoint), "must be an http or https URL"},
		{"s3_secret_key", (s.S3AccessKey == "") == (s.S3SecretKey == ""), "s3_access_key and s3_secret_key go together"},
		{"key_file", s.KeyFile == "" || filepath.IsAbs(s.KeyFile), "must be an absolute path"},
		{"archive_after", s.ArchiveAfter > 0, "must be above 0"},
		{"hot_mb", s.HotMB >= 0, "must not be negative"},
		{"evict_after", s.EvictAfter >= 0, "must not be negative"},
		{"max_depth", s.MaxDepth >= shallowest && s.MaxDepth <= deepest, "must be 2 to 64"},
		{"max_import_mb", s.MaxImportMB > 0, "must be above 0"},
	}
	for _, c := range checks {
		if !c.ok {
			return faas.InvalidField("snapshots."+c.key, "%s", c.why)
		}
	}
	_, err := s.Trusted()
	return err
}

// Bucket returns what s3://BUCKET/PREFIX names, and false for anything else.
func (s Snapshots) Bucket() (bucket, prefix string, ok bool) {
	rest, ok := strings.CutPrefix(s.Cold, "s3://")
	if !ok {
		return "", "", false
	}
	bucket, prefix, _ = strings.Cut(rest, "/")
	return bucket, strings.Trim(prefix, "/"), bucket != ""
}

// Trusted returns the trusted public keys.
func (s Snapshots) Trusted() ([]ed25519.PublicKey, error) {
	var list []ed25519.PublicKey
	for _, text := range s.TrustedKeys {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(b) != ed25519.PublicKeySize {
			return nil, faas.InvalidField("snapshots.trusted_keys", "%q is no public key: faas snapshot key prints one", text)
		}
		list = append(list, b)
	}
	return list, nil
}
